"""What is claimed of an arm follows its interval, test and controls."""

import math

import pandas as pd
import pytest
from benchmark_results import main_table, make_behaviour, make_table

from u1_plugin.lab.benchmark.arm_results import (
    arm_results,
    conclusion,
    interval,
    paired,
    plain_conclusion,
    seen_and_needed,
    shown_by,
)
from u1_plugin.lab.benchmark.arm_statistics import compare, fewest_pairs
from u1_plugin.lab.benchmark.frames import (
    ablation_lines,
    behaviour_frame,
    conclusions,
    floor_line,
)


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


def test_a_control_with_fewer_seeds_counts_as_well():
    """It is in the table, though it has no line of its own there."""
    table = main_table({'u1-feature': 1.0, 'u1-zero': 1.0})
    results = arm_results(table[table.arm != 'u1-zero'], 'test_top1')
    lines = conclusions(table, results, 'test_top1', ['u1-permuted', 'u1-zero'])
    (line,) = [one for one in lines if one.startswith('**u1-feature**')]
    assert 'not shown to be higher than the control u1-zero' in line
    assert line.endswith('not shown to be a gain of U(1).')


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


def test_equal_differences_of_few_pairs_beat_no_control():
    """Nothing tells their spread: neither an interval nor a test."""
    table = main_table({'u1-feature': 1.0})
    result = next(
        r for r in arm_results(table, 'test_top1') if r.arm == 'u1-feature'
    )
    two = compare([61.0, 61.0], [60.0, 60.0])
    text = conclusion(result, {'perm': two})
    assert 'not shown to be higher than the control perm' in text
    ten = compare([61.0] * 10, [60.0] * 10)
    assert 'than every control' in conclusion(result, {'perm': ten})
    assert shown_by(two, 1.0, 'it', 'arms').startswith(
        'higher by as much in every pair, but not by the permutation test'
    )


def test_too_few_pairs_for_the_test_show_no_gain():
    five = compare([65.1, 65.0, 65.2, 65.0, 65.1], [60.0] * 5)
    assert five.permutation == 2 / 2**5
    assert seen_and_needed(five, 0.5, 0.05) == ('none', '6')
    assert fewest_pairs(0.05) == 6 and fewest_pairs(0.05 / 8) == 9
    ten = compare([65.1, 65.0, 65.2, 65.0, 65.1] * 2, [60.0] * 10)
    assert seen_and_needed(ten, 0.5, 0.05)[1] == '6'
    assert float(seen_and_needed(ten, 0.5, 0.05)[0]) > 0
