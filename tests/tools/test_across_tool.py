"""``tools/across.py``: what it reads, refuses and says."""

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmark_results import make_table, write_results
from markdown_it import MarkdownIt
from PIL import Image

from u1_plugin.lab.benchmark.arm_statistics import compare
from u1_plugin.lab.benchmark.primary import Primary, write_primary
from u1_plugin.lab.benchmark.table import read_csv

PAIR = ('u1-image', 'one-hot')


def folder(path: Path, config='digits', suite='first', **options) -> Path:
    """A benchmark's folder with primary comparisons."""
    change = options.pop('change', {})
    table = make_table(**dict(dict(gains={'u1-image': 0.5}), **options))
    table = table.assign(config=config, suite=suite, **change)
    write_results(path, table)
    write_primary(Primary((PAIR,), 0.2), path)
    return path


def as_report(path: Path) -> Path:
    """The folder as a report's: only what ``runs.csv`` has."""
    table = read_csv(path / 'results.csv')
    absent = ['val_curve', 'folder']
    table.drop(columns=absent).to_csv(path / 'runs.csv', index=False)
    for name in ('results.csv', 'primary.csv'):
        (path / name).unlink()
    return path


@pytest.fixture
def tool(root, tmp_path, monkeypatch, capsys):
    """The tool in this process: torch is slow to import."""

    def run(*args):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['tools/across.py', *map(str, args)])
        try:
            runpy.run_path(str(root / 'tools/across.py'), run_name='__main__')
        except SystemExit:
            return capsys.readouterr().err
        return (tmp_path / args[-1] / 'README.md').read_text()

    return run


def test_tool(root, environment, tmp_path):
    """As a user calls it: two benchmarks, one of them as a report keeps it."""
    folder(tmp_path / 'a', 'digits')
    as_report(folder(tmp_path / 'b', 'clip|art', 'second', sd=0.2))
    words_ = [sys.executable, str(root / 'tools/across.py'), 'a', 'b', 'out']
    done = subprocess.run(
        words_, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    out = tmp_path / 'out'
    assert {file.name for file in out.iterdir()} == {
        'README.md',
        'across.csv',
        'forest.png',
    }
    page = (out / 'README.md').read_text()
    assert '**u1-image less one-hot**: higher than one-hot; +0.' in page
    assert 'above 0 on 2 of 2 data sets' in page
    assert 'A primary comparison of `first`; exploratory in `second`' in page
    assert '2108.13264' in page
    assert 'different processors' not in page and 'Incomplete' not in page
    assert page.rstrip().endswith('python tools/across.py a b out\n```')
    with Image.open(out / 'forest.png') as picture:
        assert min(picture.size) > 200
    tokens = MarkdownIt('commonmark').enable('table').parse(page)
    cells = [t.content for t in tokens if t.type == 'inline']
    assert r'clip\|art' in cells or 'clip|art' in cells
    with open(out / 'across.csv', newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert [row['config'] for row in rows] == ['digits', 'clip|art', *[''] * 4]
    table = read_csv(tmp_path / 'a/results.csv')
    x, y = (table[table.arm == a].test_top1.to_numpy() for a in PAIR)
    c = compare(x, y)
    assert float(rows[0]['value']) == c.mean
    assert float(rows[0]['low']) == c.low
    assert float(rows[0]['sd']) == c.sd
    mean = np.mean([float(row['value']) for row in rows[:2]])
    assert float(rows[2]['value']) == pytest.approx(mean)
    assert rows[2]['holm_p'] == rows[2]['permutation_p'] != ''


def test_rows_in_another_order_are_the_same(tool, tmp_path):
    folder(tmp_path / 'a', 'digits')
    tool('a', 'out')
    table = read_csv(tmp_path / 'a/results.csv')
    mixed = table.sample(frac=1, random_state=0)
    mixed.to_csv(tmp_path / 'a/results.csv', index=False)
    tool('a', 'again')
    first, second = (tmp_path / o / 'across.csv' for o in ('out', 'again'))
    assert first.read_text() == second.read_text()


def test_seeds_of_one_config_from_two_results_count_together(tool, tmp_path):
    folder(tmp_path / 'a')
    folder(tmp_path / 'b', suite='second')
    table = read_csv(tmp_path / 'b/results.csv')
    table['seed'] += 10
    table.to_csv(tmp_path / 'b/results.csv', index=False)
    assert '| digits | 20 |' in tool('a', 'b', 'out')
    one = read_csv(tmp_path / 'a/results.csv').assign(processes=1)
    one.assign(data_hash='01').to_csv(tmp_path / 'a/results.csv', index=False)
    for name, value in (
        ('config_hash', 'other'),
        ('processes', 4),
        ('data_hash', '1'),
    ):
        changed = table.copy()
        changed.loc[table.arm == 'one-hot', name] = value
        changed.to_csv(tmp_path / 'b/results.csv', index=False)
        error = tool('a', 'b', 'other')
        assert f'digits: the settings ({name}) of one-hot differ' in error
        assert 'a and b' in error
    assert 'would count twice' in tool('a', 'a', 'twice')


def test_pairs_are_of_one_folder(tool, tmp_path):
    """An arm here and its reference there are no pairs."""
    for name, arm in (('a', 'u1-image'), ('b', 'one-hot')):
        folder(tmp_path / name, 'digits')
        table = read_csv(tmp_path / name / 'results.csv')
        table[table.arm != arm].to_csv(
            tmp_path / name / 'results.csv', index=False
        )
    assert 'no RESULTS have test top-1 of both arms' in tool('a', 'b', 'out')
    folder(tmp_path / 'c', 'emoji')
    page = tool('a', 'b', 'c', 'out')
    assert 'Left out: `digits` (no test top-1 of u1-image).' in page
    folder(tmp_path / 'd', 'digits')
    assert 'Left out' not in tool('a', 'd', 'whole')


def test_ablations_have_no_test_split(tool, tmp_path):
    folder(tmp_path / 'a')
    error = tool('--comparisons', 'lambda-1:one-hot', '--', 'a', 'out')
    assert 'lambda-1:one-hot: no RESULTS have test top-1 of both' in error


def test_other_processors_and_versions_are_said(tool, tmp_path):
    change = dict(hardware='another one', versions='{"torch": "2.9.0"}')
    folder(tmp_path / 'a')
    folder(tmp_path / 'b', 'emoji', 'second', change=change)
    page = tool('a', 'b', 'out')
    assert 'different processors: a made-up machine; another one.**' in page
    assert '**The runs are of different versions: torch 2.15.0 and' in page
    assert 'on more than one kind' not in page
    # Of runs that are not compared nothing is said.
    table = read_csv(tmp_path / 'a/results.csv')
    for arm, said in (('u1-zero', False), ('one-hot', True)):
        other = (table.arm == arm) & (table.seed < 3)
        mixed = table.assign(hardware=table.hardware.mask(other, 'other'))
        mixed.to_csv(tmp_path / 'a/results.csv', index=False)
        page = tool('a', f'mixed {arm}')
        assert ('3 of 10 seeds have runs on more than' in page) == said


def test_unfinished_benchmarks_are_said(tool, tmp_path):
    folder(tmp_path / 'a')
    table = read_csv(tmp_path / 'a/results.csv')
    plan = table[['config', 'arm', 'role', 'seed']]
    plan.to_csv(tmp_path / 'a/planned.csv', index=False)
    # What is not compared here may be missing.
    table[table.arm.isin(['u1-image', 'one-hot'])].to_csv(
        tmp_path / 'a/results.csv', index=False
    )
    assert 'Incomplete' not in tool('a', 'whole')
    table = table[(table.arm != 'u1-image') | (table.seed < 2)]
    table.to_csv(tmp_path / 'a/results.csv', index=False)
    page = tool('a', 'out')
    compared = [
        f.arm.isin(['u1-image', 'one-hot']).sum() for f in (table, plan)
    ]
    assert '**Incomplete: {} of {} planned'.format(*compared) in page
    assert '| digits | 2 |' in page
    table = table[(table.arm != 'u1-image') | (table.seed < 1)]
    table.to_csv(tmp_path / 'a/results.csv', index=False)
    error = tool('a', 'none')
    assert 'digits has 1 pair(s) of u1-image and one-hot' in error
    assert not (tmp_path / 'none').exists()


def test_comparisons_named_before_the_runs(tool, tmp_path):
    as_report(folder(tmp_path / 'a'))
    assert 'the results name no comparison' in tool('a', 'none')
    write_primary(Primary((('u1-image', 'u1-zero'),), 0.2), tmp_path / 'a')
    page = tool('a', 'out')
    assert '## u1-image less u1-zero' in page
    assert 'A primary comparison of `first`.' in page
    # Others are explored, and are those that the page has.
    page = tool('--comparisons', 'u1-feature:one-hot', '--', 'a', 'explored')
    assert 'Exploratory: no suite names it' in page
    assert 'u1-image' not in page.partition('## Definitions')[0]


def test_holm_is_over_the_comparisons_of_the_page(tool, tmp_path):
    folder(tmp_path / 'a', gains={'u1-image': 0.5, 'u1-feature': 0.5})
    pairs = ['u1-image:one-hot', 'u1-feature:one-hot', 'u1-zero:one-hot']
    tool('--comparisons', *pairs, '--', 'a', 'out')
    table = read_csv(tmp_path / 'out/across.csv')
    table = table[table.holm_p.notna()]
    assert len(table) == 3
    assert table.holm_p.iloc[0] == 3 * table.permutation_p.iloc[0] == 6 / 2**10


@pytest.mark.parametrize(
    'text', ['u1-image', ':one-hot', 'one-hot:', 'one-hot:one-hot']
)
def test_comparisons_that_are_none(tool, tmp_path, text):
    folder(tmp_path / 'a')
    error = tool('--comparisons', text, '--', 'a', 'out')
    assert f"'{text}' must be ARM:REFERENCE" in error
    error = tool('--comparisons', 'u1-imag:one-hot', '--', 'a', 'out')
    assert 'u1-imag:one-hot: no RESULTS' in error and 'u1-image' in error


@pytest.mark.parametrize(
    'change, why',
    [
        (dict(test_top1=101.0), 'test_top1 must hold numbers from 0 to 100'),
        (dict(test_top1='high'), 'test_top1 must hold finite numbers'),
        (dict(seed=0.5), 'seed must hold finite numbers'),
        (dict(hardware=None), 'hardware is empty in some rows'),
        (dict(config_hash=None), 'config_hash is empty in some rows'),
    ],
)
def test_tables_that_are_none(tool, tmp_path, change, why):
    as_report(folder(tmp_path / 'a'))
    file = tmp_path / 'a/runs.csv'
    table = read_csv(file)
    table.assign(**change).to_csv(file, index=False)
    error = tool('a', 'out')
    assert f'a/runs.csv: {why}' in error and 'tools/report.py' in error


def test_folders_that_are_none(tool, tmp_path):
    (tmp_path / 'a').mkdir()
    assert "'a' has neither results.csv" in tool('a', 'out')
    file = tmp_path / 'a/runs.csv'
    file.write_bytes(b'a,b\n1,2,3\n"\xff')
    assert 'runs.csv is no table of a benchmark' in tool('a', 'out')
    file.write_text('a,b\n1,2\n')
    assert 'no column suite, config' in tool('a', 'out')
    as_report(folder(tmp_path / 'a'))
    table = read_csv(file)
    table.head(0).to_csv(file, index=False)
    assert 'a/runs.csv has no finished run' in tool('a', 'out')
    table.loc[0, 'order'] = 'another'
    table.to_csv(file, index=False)
    error = tool('a', 'out')
    assert 'a/runs.csv: digits, seed 0: order differs' in error
    folder(tmp_path / 'b')
    (tmp_path / 'there').mkdir()
    assert 'exists' in tool('b', 'there')
