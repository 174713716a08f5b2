"""Reports of a benchmark: what is claimed, and what a page consists of."""

import math
import runpy
import sys
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from benchmark_results import ROLES, make_table, write_results
from markdown_it import MarkdownIt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from u1_plugin.lab.benchmark import figures
from u1_plugin.lab.benchmark.analysis import (
    arm_results,
    interval,
    paired,
    plain_conclusion,
)
from u1_plugin.lab.benchmark.frames import (
    ablation_lines,
    behaviour_frame,
    conclusions,
    floor_line,
)
from u1_plugin.lab.benchmark.table import (
    PairingError,
    check_pairs,
    read_results,
    save_csv,
    write_plan,
    write_table,
)


def main_table(*args, **kwargs) -> pd.DataFrame:
    table = make_table(*args, **kwargs)
    return table[table.role != 'ablation']


def words(table: pd.DataFrame, planned=(), arm: str = 'u1-feature') -> str:
    results = arm_results(table, 'test_top1')
    lines = conclusions(table, results, 'test_top1', planned)
    (line,) = [line for line in lines if line.startswith(f'**{arm}**')]
    return line.partition(': ')[2].rstrip('.')


def test_nothing_is_claimed_where_nothing_is():
    assert words(main_table({}, sd=1.0)) == (
        'no effect here: the interval contains 0'
    )


def test_a_gain_beyond_every_control_is_u1s():
    text = words(main_table({'u1-feature': 1.0}))
    assert text.endswith('a gain of U(1) here')


def test_a_gain_that_a_control_shares_is_not_u1s():
    text = words(main_table({'u1-feature': 1.0, 'u1-permuted': 1.0}))
    assert 'it is not a gain of U(1)' in text
    assert 'u1-permuted shares the gain' in text and 'u1-zero' not in text


def test_a_control_that_may_or_may_not_share_the_gain():
    table = main_table({'u1-feature': 1.0})
    # Level with the baseline on average, and with the gain in half the seeds.
    control = (table.arm == 'u1-permuted') & (table.seed % 2 == 0)
    table.loc[control, 'test_top1'] += 2
    table.loc[(table.arm == 'u1-permuted') & ~control, 'test_top1'] -= 1.8
    text = words(table)
    assert 'not shown to be higher than the control u1-permuted' in text
    assert text.endswith('not shown to be a gain of U(1)')
    assert 'shares' not in text


def test_a_control_that_never_finished_is_not_beaten():
    table = main_table({'u1-feature': 1.0})
    there = table[table.arm != 'u1-permuted']
    assert 'a gain of U(1) here' in words(there, ['u1-zero'])
    text = words(there, ['u1-permuted', 'u1-zero'])
    assert 'u1-permuted (too few pairs)' in text
    assert 'not shown to be a gain' in text


def test_an_interval_without_the_test_is_not_enough():
    table = main_table({})
    own, base = (
        table[table.arm == arm].index for arm in ('u1-feature', 'one-hot')
    )
    # Of ten real pairs: the interval begins at 0.03, and p = 0.08.
    change = [0.9, 0.7, -0.2, 0.3, 0.3, -0.8, 1.7, 0.4, 0.1, 1.2]
    table.loc[own, 'test_top1'] = table.loc[base, 'test_top1'].values + change
    assert 'higher by the interval, but not by the permutation' in words(table)


def test_a_gain_without_controls_stays_open():
    table = main_table({'u1-feature': 1.0})
    assert 'stays open' in words(table[table.role != 'control'])


def test_a_control_with_too_few_seeds_does_not_count_as_beaten():
    table = main_table({'u1-feature': 1.0})
    short = (table.arm == 'u1-permuted') & (table.seed > 0)
    assert 'u1-permuted (too few pairs)' in words(table[~short])


def test_a_loss_is_called_one():
    assert words(main_table({'u1-feature': -1.0})) == 'lower than the baseline'


def test_five_pairs_cannot_pass_holm():
    table = main_table({'u1-feature': 1.0}, seeds=5)
    assert 'no effect is shown' in words(table)
    line = floor_line(arm_results(table, 'test_top1'))
    assert line.startswith('**5 pairs give no permutation p below 0.062')
    ten = floor_line(arm_results(main_table({}), 'test_top1'))
    assert ten == '10 pairs give no permutation p below 0.002.'


def test_results_by_hand():
    table = main_table({'u1-feature': 1.0})
    first, *others = arm_results(table, 'test_top1')
    assert first.arm == 'one-hot' and first.to_baseline is None
    assert (first.cpu, first.memory, first.n) == (1, 1, 10)
    own = next(r for r in others if r.arm == 'u1-feature')
    one, two = (
        table[table.arm == arm].set_index('seed').test_top1
        for arm in ('u1-feature', 'one-hot')
    )
    assert own.to_baseline.mean == pytest.approx((one - two).mean(), abs=1e-4)
    assert own.cpu == pytest.approx(1.1) and own.missing == ()
    assert own.cpu_quartiles == pytest.approx((1.1, 1.1))
    # Five arms are compared; the smallest p is multiplied by five.
    assert own.holm == pytest.approx(5 * own.to_baseline.permutation)


def test_pairs_are_made_by_seed_not_by_row():
    table = main_table({'u1-feature': 1.0}, sd=0.01)
    shuffled = table.sample(frac=1, random_state=1)
    lost = (shuffled.arm == 'u1-feature') & (shuffled.seed == 3)
    result = next(
        r
        for r in arm_results(shuffled[~lost], 'test_top1')
        if r.arm == 'u1-feature'
    )
    assert (result.n, result.missing) == (9, (3,))
    assert result.to_baseline.sd < 0.03


def test_words_for_what_cannot_be_said():
    table = main_table({'u1-feature': 1.0}, sd=0)
    result = arm_results(table, 'test_top1')[1]
    assert plain_conclusion(result) == 'higher than the baseline'
    assert interval(result.to_baseline) == '+1.00 [no interval]'
    equal = next(
        r for r in arm_results(table, 'test_top1') if r.arm == 'u1-zero'
    )
    assert plain_conclusion(equal) == 'equal to the baseline in every pair'
    single = arm_results(table[table.seed == 0], 'test_top1')[1]
    assert 'fewer than 2 pairs' in plain_conclusion(single)
    assert paired(pd.Series([1.0]), pd.Series([1.0])) is None


def test_twice_the_same_run_is_an_error():
    table = main_table({})
    with pytest.raises(ValueError, match='two rows of one-hot, seed 0'):
        arm_results(pd.concat([table, table.head(1)]), 'test_top1')
    with pytest.raises(ValueError, match='no arm'):
        arm_results(table[table.role != 'baseline'], 'test_top1')


def make_behaviour(table: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for run in main_only(table).itertuples():
        worse = run.arm == 'u1-feature'
        for quantity, value in (
            ('calibration error (ECE), %', 2 + 3 * worse + run.seed / 10),
            ('epochs to 95 %', 4.0 + run.seed % 2),
            ('never reached', math.nan),
        ):
            noise = 0.01 * rng.normal()
            rows.append(
                dict(
                    config=run.config,
                    arm=run.arm,
                    role=run.role,
                    seed=run.seed,
                    quantity=quantity,
                    detail='',
                    value=value + noise,
                )
            )
    return pd.DataFrame(rows)


def main_only(table: pd.DataFrame) -> pd.DataFrame:
    return table[table.role != 'ablation']


def test_the_best_variant_of_each_method_is_named():
    gains = {'lambda-1': 0.8, 'label-smoothing+value-0.2': -0.9}
    results = arm_results(make_table(gains), 'val_top1')
    own, rival = ablation_lines(results)
    # Four of U(1): two arms, which are choices as well, and two weights.
    assert own.startswith('Best of 4: **lambda-1**, +0.8')
    assert own.endswith('higher than the baseline.')
    assert rival.startswith(
        'Best of 1 of label-smoothing: **label-smoothing+value-0.2**, -0.9'
    )


def test_behaviour_names_what_survives_the_correction():
    values = make_behaviour(make_table({}))
    late = (values.quantity == 'epochs to 95 %') & (values.arm == 'u1-image')
    values.loc[late & (values.seed < 3), 'value'] = math.nan
    frame, lines = behaviour_frame(values, 'one-hot')
    assert list(frame.quantity) == list(dict.fromkeys(values.quantity))
    # Five arms: the smallest p of ten pairs, 2/1024, becomes 0.0098.
    assert lines[0] == (
        '**calibration error (ECE), %**: higher for u1-feature (p = 0.010).'
    )
    assert lines[1].endswith(': no effect of any arm is shown.')
    assert lines[2] == (
        '**never reached**: not compared: fewer than 2 pairs have a value.'
    )
    epochs = frame.set_index('quantity').loc['epochs to 95 %']
    assert '(7 of 10 runs)' in epochs['u1-image']
    assert 'runs' not in epochs['u1-zero']
    assert frame.set_index('quantity').loc['never reached', 'u1-zero'] == (
        'never'
    )


@pytest.fixture
def report(root, tmp_path, monkeypatch):
    """The tool in this process: torch is slow to import."""

    def run(*args: str) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['tools/report.py', *args])
        runpy.run_path(str(root / 'tools/report.py'), run_name='__main__')

    return run


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
    """And no gain must be shown against five pairs of a control."""
    table = make_table({'u1-feature': 1.0})
    few = (table.arm == 'u1-zero') | (table.arm == 'label-smoothing')
    table = table[~few | (table.seed < 5)]
    table = table[table.role != 'ablation']
    write_results(tmp_path / 'results', table)
    report('results', 'page')
    page = (tmp_path / 'page/README.md').read_text()
    main, exploratory = page.split('### Exploratory arms')
    assert '**u1-feature**: higher than the baseline and than every' in main
    assert '| label-smoothing | rival |' not in main
    assert '| label-smoothing | rival | 5 |' in exploratory
    assert '| one-hot | baseline | 5 |' in exploratory
    assert '5 pairs give no permutation p below' in exploratory
    assert 'without seeds' not in page


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


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(seed='one'), 'seed must hold finite numbers'),
        (dict(test_top1='high'), 'test_top1 must hold finite numbers'),
        (dict(cpu_s=np.inf), 'cpu_s must hold finite numbers'),
        (dict(val_curve='[1'), 'val_curve='),
        (dict(versions='[]'), 'versions='),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, change, words):
    table = make_table({}).assign(**change)
    with pytest.raises(ValueError, match='results.csv.*tools/benchmark') as e:
        read_results(write_results(tmp_path, table))
    assert words in str(e.value)
    with pytest.raises(ValueError, match='no column folder, seed'):
        columns = ['seed', 'folder']
        read_results(write_results(tmp_path, table.drop(columns=columns)))
    (tmp_path / 'results.csv').write_bytes(b'a,b\n1,2,3\n"\xff')
    with pytest.raises(ValueError, match='results.csv is no table'):
        read_results(tmp_path)


def test_an_arm_may_be_named_like_a_number_or_nothing(tmp_path):
    table = make_table({})
    table['arm'] = table.arm.replace({'u1-zero': '1e5', 'u1-image': 'nan'})
    table['initial_head_fc'] = '1e5'
    found = read_results(write_results(tmp_path, table))
    assert found.arm.tolist() == table.arm.tolist()
    assert set(found.initial_head_fc) == {'1e5'}
    table.loc[0, 'initial_head_fc'] = None
    found = read_results(write_results(tmp_path, table))
    assert found.initial_head_fc.isna().sum() == 1


def test_tables_of_others_are_not_overwritten(tmp_path):
    for name, write in (
        ('planned.csv', write_plan),
        ('results.csv', write_table),
    ):
        (tmp_path / name).write_text('mine\n')
        with pytest.raises(FileExistsError, match=name):
            write([], tmp_path)
        assert (tmp_path / name).read_text() == 'mine\n'
        (tmp_path / name).unlink()
        for _ in range(2):  # its own it may
            write([], tmp_path)
    with pytest.raises(ValueError, match='no finished run'):
        read_results(tmp_path)


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
    assert 'u1-permuted (too few pairs)' in page


def test_a_run_without_validation_has_no_curve(report, tmp_path):
    table = make_table({})
    table['val_curve'] = '[]'
    table = table[table.role != 'ablation']
    write_results(tmp_path / 'results', table)
    report('results', 'page')
    assert (tmp_path / 'page/tiny_digits-curves.png').is_file()


def test_runs_that_are_no_pairs_are_refused(report, tmp_path):
    table = make_table({})
    wrong = (table.arm == 'u1-zero') & (table.seed == 4)
    table.loc[wrong, 'initial_backbone'] = 'others'
    write_results(tmp_path / 'results', table)
    with pytest.raises(PairingError, match='initial_backbone differs'):
        report('results', 'page')
    assert not (tmp_path / 'page').exists()


def test_missing_results(report, capsys):
    with pytest.raises(SystemExit):
        report('nowhere', 'page')
    assert 'no results.csv' in capsys.readouterr().err


def test_no_finished_run(report, tmp_path, capsys):
    (tmp_path / 'results').mkdir()
    (tmp_path / 'results/results.csv').write_text('\n')
    with pytest.raises(SystemExit):
        report('results', 'page')
    assert 'has no finished run' in capsys.readouterr().err


def test_arms_of_other_versions_are_no_pair():
    table = make_table({}, seeds=3)
    check_pairs(table)
    table.loc[table.arm == 'u1-image', 'versions'] = '{"torch": "2.1.0"}'
    with pytest.raises(PairingError, match='versions differs'):
        check_pairs(table)
