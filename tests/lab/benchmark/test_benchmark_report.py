"""A benchmark's page has its tables and figures, or says what is missing."""

import shutil
from functools import partial
from urllib.parse import unquote

import pandas as pd
import pytest
from benchmark_results import ROLES, make_behaviour, make_table, write_results
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from u1_plugin.lab.benchmark import figures
from u1_plugin.lab.benchmark.arm_results import arm_results
from u1_plugin.lab.benchmark.primary import Primary, write_primary
from u1_plugin.lab.benchmark.table import save_csv


@pytest.fixture
def report(run_tool):
    return partial(run_tool, 'tools/report.py')


def test_page(report, tmp_path, capsys):
    table = make_table({'u1-feature': 1.0, 'lambda-1': 0.5})
    write_results(tmp_path / 'results', table)
    behaviour = tmp_path / 'behaviour'
    behaviour.mkdir()
    make_behaviour(table).to_csv(behaviour / 'behaviour.csv', index=False)
    (behaviour / 'command.txt').write_text('python tools/behaviour.py a b\n')
    report('results', 'page', '--behaviour', 'behaviour')
    out = tmp_path / 'page'
    page = (out / 'README.md').read_text()
    rows = (out / 'behaviour.csv').read_bytes()
    assert rows == (behaviour / 'behaviour.csv').read_bytes()
    assert 'a gain of U(1) here' in page
    assert '**u1-image**: no effect here: the interval contains 0.' in page
    assert 'Best of 4: **u1-feature**' in page
    assert 'python tools/behaviour.py a b' in page
    assert page.rstrip().endswith('```') and 'results page --behaviour' in page
    for arm in ROLES:
        assert f'| {arm} |' in page
    for name in ('differences', 'curves', 'cost'):
        with Image.open(out / f'tiny_digits-{name}.png') as picture:
            assert min(picture.size) > 200
        assert f'](tiny_digits-{name}.png)' in page
    tex = (out / 'tiny_digits-arms.tex').read_text()
    assert r'\begin{tabular}' in tex and r'top-1 \%' in tex
    assert len(pd.read_csv(out / 'runs.csv')) == len(table)
    # What is there is never written over.
    with pytest.raises(SystemExit):
        report('results', 'page')
    assert 'exists' in capsys.readouterr().err


def test_arms_with_fewer_seeds_have_a_table_of_their_own(report, tmp_path):
    """Five pairs of a control decide by their interval, which is said."""
    table = make_table({'u1-feature': 1.0})
    few = (table.arm == 'u1-zero') | (table.arm == 'label-smoothing')
    table = table[~few | (table.seed < 5)]
    table = table[table.role != 'ablation']
    write_results(tmp_path / 'results', table)
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    main, exploratory = page.split('### Exploratory arms')
    assert (
        '**u1-feature**: higher than the baseline and than every control '
        '(u1-zero by the interval alone): a gain of U(1) here' in main
    )
    assert '| label-smoothing | rival |' not in main
    assert '| label-smoothing | rival | 5 |' in exploratory
    assert '| one-hot | baseline | 5 |' in exploratory
    assert '5 pairs give no permutation p below' in exploratory
    assert 'without seeds' not in page


def test_pairs_across_processors_are_named(report, tmp_path):
    table = make_table({'u1-feature': 1.0})
    moved = (table.arm == 'u1-feature') & (table.seed < 4)
    table.loc[moved, 'hardware'] = 'another machine'
    write_results(tmp_path / 'results', table)
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    assert '**4 of 10 seeds have runs on more than one kind of' in page


@pytest.mark.parametrize('gain', ['0', '1e-9', 'nan', 'inf'])
def test_gains_that_nothing_shows_are_refused(report, tmp_path, capsys, gain):
    write_results(tmp_path / 'results', make_table({}))
    with pytest.raises(SystemExit):
        report('results', 'page', '--gain', gain)
    assert (
        f'--gain: {gain!r} must be a finite number >= 0.01'
        in capsys.readouterr().err
    )


def test_behaviour_of_other_runs_is_refused(report, tmp_path, capsys):
    table = make_table({})
    write_results(tmp_path / 'results', table)
    folder = tmp_path / 'behaviour'
    folder.mkdir()
    (folder / 'command.txt').write_text('python tools/behaviour.py a b\n')
    known = make_behaviour(table).merge(
        table[['config', 'arm', 'seed', 'run_hash']]
    )
    for values, words in (
        (known.assign(seed=known.seed + 1), 'seed 1, which is no run'),
        (known.assign(run_hash='0'), 'or was trained again since'),
    ):
        values.to_csv(folder / 'behaviour.csv', index=False)
        with pytest.raises(SystemExit):
            report('results', 'page', '--behaviour', 'behaviour')
        assert words in capsys.readouterr().err
    known.to_csv(folder / 'behaviour.csv', index=False)
    report('results', 'page', '--behaviour', 'behaviour')


@pytest.mark.parametrize('left_out', ['u1', 'control or rival'])
def test_no_table_against_controls_without_either_side(
    report, tmp_path, left_out
):
    table = make_table({'u1-feature': 1.0})
    roles = [role for role in set(table.role) if role in left_out]
    assert len(roles) == len(left_out.split(' or '))
    write_results(tmp_path / 'results', table[~table.role.isin(roles)])
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    assert '### U(1) against' not in page and '\n\n\n' not in page
    assert 'differences.png)\n\n![learning curves](' in page


NAMES = {
    'u1-feature': '_u1 | $x$ [a](http://b.org)',
    'u1-permuted': '*control* <b> `c`',
    'u1-zero': '=1+1',
    'label-smoothing': 'NA',
    'lambda-1': '007',
}


def test_names_of_arms_and_configs_are_text(report, tmp_path):
    """Whatever the suite calls them; files are inside the new folder."""
    table = make_table({'u1-feature': 1.0})
    table['arm'] = table.arm.replace(NAMES)
    table['config'] = '../a/b#c?<i>.{x}'
    table['suite'] = 'a`b'
    folder = tmp_path / 'results'
    folder.mkdir()
    save_csv(table, folder / 'results.csv')
    report('results', 'page')
    out = tmp_path / 'page'
    assert {path.parent for path in tmp_path.rglob('*-arms.tex')} == {out}
    page = (out / 'README.md').read_text()
    parser = MarkdownIt('commonmark').enable('table')
    tokens = []
    for token in parser.parse(page):
        tokens += token.children or [token]
    assert not [t for t in tokens if t.type in ('html_inline', 'link_open')]
    text = '\n'.join(t.content for t in tokens)
    for name in NAMES.values():
        assert name in text, name
    images = [t.attrs['src'] for t in tokens if t.type == 'image']
    assert len(images) == 3
    for source in images:
        assert (out / unquote(source)).is_file()
    (tex,) = out.glob('*-arms.tex')
    assert r'\_u1 \textbar{} \$x\$ [a](http' in tex.read_text()
    runs = (out / 'runs.csv').read_text()
    assert ",'=1+1,control" in runs and ',=1' not in runs


def test_a_legend_names_every_arm():
    table = make_table({'u1-feature': 1.0})
    table['arm'] = '_' + table.arm
    results = arm_results(table[table.role != 'ablation'], 'test_top1')
    curves = figures.learning_curves(table, results, '$t$')
    cost = figures.gain_and_cost(results, 'points', '$t$')
    for figure in (curves, cost):
        FigureCanvasAgg(figure).draw()
    names = [t.get_text() for t in cost.axes[0].get_legend().get_texts()]
    assert [name.strip() for name in names] == [r.arm for r in results[1:]]
    assert cost.axes[0].get_title() == r'\$t\$'


def test_a_page_of_choices_alone(report, tmp_path):
    table = make_table({'lambda-1': 0.8})
    table = table[table.role.isin(('baseline', 'ablation'))]
    write_results(tmp_path / 'results', table)
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    assert '| lambda-1 | ablation | 10 |' in page
    assert 'controls' not in page and '.png' not in page
    assert {file.name for file in (tmp_path / 'page').iterdir()} == {
        'README.md',
        'command.txt',
        'runs.csv',
        'tiny_digits-ablations.tex',
    }


def test_an_incomplete_benchmark_says_so(report, tmp_path):
    table = make_table({'u1-feature': 1.0})
    keys = ['config', 'arm', 'role', 'seed']
    write_results(tmp_path / 'results', table[table.arm != 'u1-permuted'])
    table[keys].to_csv(tmp_path / 'results/planned.csv', index=False)
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    assert f'**Incomplete: 10 of {len(table)} planned runs' in page
    assert 'nothing below is final' in page
    # Of comparisons that were named before, all is there.
    write_primary(
        Primary((('u1-feature', 'one-hot'),), 0.2), tmp_path / 'results'
    )
    report('results', 'primary')
    page = (tmp_path / 'primary/README.md').read_text()
    assert 'those of the primary comparisons are.**' in page
    assert 'nothing below is final' not in page
    assert 'u1-permuted (too few pairs)' in page


def test_a_gain_is_shown_against_controls_with_fewer_seeds(report, tmp_path):
    """Also where arms with fewer seeds ask, or a control never finished."""
    table = make_table({'u1-feature': 1.0, 'u1-image': 1.0, 'u1-zero': 1.0})
    few = table.arm.isin(['u1-image', 'u1-zero']) & (table.seed >= 8)
    table = table[~few & (table.role != 'ablation')]
    keys = ['config', 'arm', 'role', 'seed']
    table[keys].to_csv(tmp_path / 'planned.csv', index=False)
    for name, left_out in (('all', ''), ('failed', 'u1-zero')):
        folder = write_results(tmp_path / name, table[table.arm != left_out])
        shutil.copy(tmp_path / 'planned.csv', folder)
        report(name, f'{name}-page')
        page = (tmp_path / f'{name}-page/README.md').read_text()
        assert 'a gain of U(1) here' not in page
        lines = [one for one in page.splitlines() if one.startswith('- **u1-')]
        for arm in ('u1-feature', 'u1-image'):
            (line,) = [one for one in lines if f'**{arm}**' in one]
            assert 'not shown to be higher than the control u1-zero' in line


def test_a_run_without_validation_has_no_curve(report, tmp_path):
    table = make_table({})
    table.loc[table.role == 'u1', 'val_curve'] = '[]'
    table = table[table.role != 'ablation']
    write_results(tmp_path / 'results', table)
    report('results', 'page')
    assert (tmp_path / 'page/tiny_digits-curves.png').is_file()


@pytest.mark.parametrize('curve', ['[]', '[{"epoch": 30, "accuracy/top1": 9}]'])
def test_what_was_validated_once_has_no_curve(report, tmp_path, curve):
    table = make_table({}).assign(val_curve=curve)
    write_results(tmp_path / 'results', table[table.role != 'ablation'])
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    assert '-differences.png' in page and '-curves.png' not in page
    assert not list((tmp_path / 'page').glob('*-curves.png'))


def test_runs_that_are_no_pairs_are_refused(report, tmp_path):
    table = make_table({})
    wrong = (table.arm == 'u1-zero') & (table.seed == 4)
    table.loc[wrong, 'initial_backbone'] = 'others'
    write_results(tmp_path / 'results', table)
    with pytest.raises(SystemExit, match='initial_backbone differs'):
        report('results', 'page')
    assert not (tmp_path / 'page').exists()


def test_missing_results(report, capsys):
    with pytest.raises(SystemExit):
        report('nowhere', 'page')
    assert 'neither results.csv' in capsys.readouterr().err


def test_no_finished_run(report, tmp_path, capsys):
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/results.csv').write_text('\n')
    with pytest.raises(SystemExit):
        report('results', 'page')
    assert 'has no finished run' in capsys.readouterr().err
