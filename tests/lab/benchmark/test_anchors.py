"""Published accuracies beside a suite's own: what a baseline is worth."""

import runpy
import sys

import pandas as pd
import pytest
import yaml
from benchmark_results import make_table, write_results

from u1_plugin.lab.benchmark.anchors import (
    anchor_line,
    load_anchors,
    write_anchors,
)
from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.suite import load_suite

CONFIG = 'digits/resnet18-narrow_1xb64_digits.py'


def suite_with(root, tmp_path, anchors):
    (tmp_path / 'configs').mkdir(exist_ok=True)
    for name in ('digits', '_base_'):
        link = tmp_path / 'configs' / name
        if not link.exists():
            link.symlink_to(root / 'configs' / name)
    file = tmp_path / 'configs/suites/anchored.yml'
    file.parent.mkdir(exist_ok=True)
    source = root / 'configs/suites/arms.yml'
    (file.parent / 'arms.yml').write_text(source.read_text())
    content = dict(
        name='anchored',
        configs=[dict(config=CONFIG)],
        anchors=anchors,
        seeds=2,
        arms=['one-hot', 'u1-feature', 'u1-measured'],
    )
    file.write_text(yaml.safe_dump(content))
    return load_suite(file)


def test_an_anchor_is_trained_once_by_the_baseline_alone(root, tmp_path):
    anchor = dict(config=CONFIG, name='stock', expected=94.82)
    suite = suite_with(root, tmp_path, [anchor])
    runs = expand(suite, tmp_path / 'out')
    assert len(runs) == 7
    assert (runs[0].config, runs[0].arm, runs[0].test) == (
        'stock',
        'one-hot',
        True,
    )
    # Nothing asks for its class angles.
    assert not runs[0].measure and runs[1].measure
    assert [run.config for run in runs].count('stock') == 1
    write_anchors(suite.anchors, tmp_path)
    assert load_anchors(tmp_path) == {'stock': 94.82}
    assert load_anchors(tmp_path / 'elsewhere') == {}


@pytest.mark.parametrize(
    'anchor, words',
    [
        (dict(config=CONFIG, name='a'), 'anchors.0..expected=None must be a'),
        (dict(config=CONFIG, name='a', expected=0), 'expected=0 must be'),
        (dict(config=CONFIG, name='a', expected=True), 'expected=True must'),
        (dict(config=CONFIG, name='a', expected=101), 'expected=101 must'),
        (dict(config=CONFIG, expected=90), 'different configs'),
        (dict(config='no.py', expected=90), 'anchors.0..config=.no.py. is no'),
        (dict(config=CONFIG, expected=90, seeds=2), 'unknown field'),
    ],
)
def test_a_bad_anchor_is_refused_by_name(anchor, words, root, tmp_path):
    with pytest.raises(ValueError, match=words):
        suite_with(root, tmp_path, [anchor])


def test_a_damaged_table_of_anchors_is_an_error(tmp_path):
    (tmp_path / 'anchors.csv').write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match='anchors.csv has the columns'):
        load_anchors(tmp_path)
    (tmp_path / 'anchors.csv').write_text('config,expected\nstock,high\n')
    with pytest.raises(ValueError, match='are no numbers'):
        load_anchors(tmp_path)


def test_a_report_says_how_far_the_baseline_is(root, tmp_path, monkeypatch):
    table = make_table({'u1-feature': 1.0})
    anchor = table[(table.arm == 'one-hot') & (table.seed == 0)].copy()
    anchor['config'], anchor['test_top1'] = 'stock', 93.02
    write_results(tmp_path / 'results', pd.concat([table, anchor]))
    text = 'config,expected\nstock,94.82\n'
    (tmp_path / 'results/anchors.csv').write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['tools/report.py', 'results', 'page'])
    runpy.run_path(str(root / 'tools/report.py'), run_name='__main__')
    page = (tmp_path / 'page/README.md').read_text()
    assert '93.02 % with 1 seed, and 94.82 % is published: -1.80' in page
    assert page.count('An anchor') == 1
    assert '2 seeds' in anchor_line(table[table.arm == 'one-hot'][:2], 90.0)
