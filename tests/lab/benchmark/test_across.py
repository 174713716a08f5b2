"""Comparisons over several data sets keep the laws of their statistics."""

import itertools
import math

import numpy as np
import pytest
from across_results import across, close, numbers, pooled
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from u1_plugin.lab.benchmark.across import (
    data_set,
    interquartile_mean,
    pool,
    words,
)
from u1_plugin.lab.benchmark.arm_statistics import compare

#: Of the laws: they hold for any number of resamples.
FEW = 200
#: Each data set has a bootstrap of its own as well, which takes its time.
law = settings(max_examples=12)
IMAGES = 500


@st.composite
def top1(draw):
    """Per cents of :data:`IMAGES` images, for 1 to 3 data sets."""
    count = st.integers(150, 350)
    sets = []
    for _ in range(draw(st.integers(1, 3))):
        n = draw(st.integers(2, 7))
        pair = st.lists(count, min_size=n, max_size=n)
        sets.append([100 * np.array(draw(pair)) / IMAGES for _ in range(2)])
    return sets


@law
@given(top1(), st.integers(-100, 100))
def test_a_constant_gain_is_added_to_mean_and_iqm(sets, images):
    gain = 100 * images / IMAGES
    before = numbers(pooled(sets, resamples=FEW))
    moved = [(x + gain, y) for x, y in sets]
    after = numbers(pooled(moved, resamples=FEW))
    close(after[:2, 0], before[:2, 0] + gain)
    # Arms that are equal in all pairs have an interval, others that differ by
    # a constant have none.
    both = ~np.isnan(after[:2]) & ~np.isnan(before[:2])
    close(after[:2][both], (before[:2] + gain)[both])
    rise = after[2:, 0] - before[2:, 0]
    assert (rise * np.sign(images) >= -1e-9).all()


@law
@given(top1())
def test_swapped_arms_negate_differences_and_turn_chances_over(sets):
    one = pooled(sets, resamples=FEW)
    other = pooled([(y, x) for x, y in sets], resamples=FEW)
    first, second = numbers(one), numbers(other)
    swapped = second[:, [0, 2, 1]]
    close(swapped[:2], -first[:2])
    close(swapped[3], 1 - first[3])
    close(swapped[2, 0], 1 - first[2, 0])
    assert one.difference.permutation == other.difference.permutation


@law
@given(top1(), st.randoms(use_true_random=False))
def test_neither_order_of_sets_nor_of_seeds_matters(sets, random):
    found = [data_set(f'set {i}', x, y) for i, (x, y) in enumerate(sets)]
    before = pool(found, resamples=FEW)
    random.shuffle(found)
    np.testing.assert_equal(pool(found, resamples=FEW), before)
    mixed = []
    for x, y in sets:
        order = list(range(len(x)))
        random.shuffle(order)
        mixed.append((x[order], y[order]))
    after = pooled(mixed, resamples=FEW)
    close(numbers(after)[:, 0], numbers(before)[:, 0])
    assert after.difference.permutation == before.difference.permutation


@law
@given(top1())
def test_definitions(sets):
    """By SciPy, and by hand."""
    found = pooled(sets, resamples=1)
    means = [np.mean(x - y) for x, y in sets]
    chances = [
        stats.mannwhitneyu(x, y, method='asymptotic').statistic
        / (len(x) * len(y))
        for x, y in sets
    ]
    shares = [np.mean((x > y) + (x == y) / 2) for x, y in sets]
    expected = [np.mean(v) for v in (means, chances, shares)]
    close(numbers(found)[[0, 2, 3], 0], expected)
    assert found.difference.n == sum(len(x) for x, _ in sets)


@given(
    st.lists(st.integers(-50, 50), min_size=1, max_size=6), st.integers(1, 3)
)
def test_iqm_is_the_trimmed_mean(quarter, sets):
    values = np.arange(4.0 * len(quarter)) + np.repeat(quarter, 4)
    weights = np.full((1, len(values)), 1 / len(values))
    close(interquartile_mean(values, weights), stats.trim_mean(values, 0.25))
    # Copies of a value weigh as much as its multiple.
    copies = np.repeat(values, sets)
    even = np.full((1, len(copies)), 1 / len(copies))
    close(interquartile_mean(copies, even), stats.trim_mean(values, 0.25))


def test_data_sets_weigh_the_same_however_many_pairs_they_have():
    many, few = np.full(30, 71.0), np.array([64.0, 64.0])
    found = pooled([(many, many - 1), (few, few + 4)])
    assert found.difference.mean == pytest.approx(-1.5)
    # Half of all weight is at 1 point, half at -4.
    assert found.iqm.value == pytest.approx(-1.5)
    assert found.probability.value == pytest.approx(0.5)


def test_the_permutation_test_is_of_the_mean_over_data_sets():
    """By counting all flips of pairs that weigh differently."""
    rng = np.random.default_rng(3)
    gains = [rng.normal(0.5, 1, n) for n in (2, 7)]
    shares = np.concatenate([g / (2 * len(g)) for g in gains])
    flips = np.array(list(itertools.product([-1, 1], repeat=len(shares))))
    far = abs(flips @ shares) >= abs(shares.sum()) - 1e-12
    found = pooled([(50 + g, 0 * g + 50) for g in gains], resamples=1)
    assert found.difference.permutation == far.mean() < 1


def test_one_data_set_is_the_ordinary_bootstrap():
    rng = np.random.default_rng(1)
    y = rng.normal(80, 2, 12)
    x = y + rng.normal(0.3, 1, 12)
    ours = pooled([(x, y)])
    theirs = stats.bootstrap(
        (x - y,),
        np.mean,
        n_resamples=99999,
        method='percentile',
        random_state=np.random.default_rng(2),
    )
    # Of a normal distribution's 2.5 % quantile, 5 standard errors.
    error = theirs.standard_error
    slack = 5 * error * math.sqrt(0.025 * 0.975 / 9999) / stats.norm.pdf(1.96)
    ends = theirs.confidence_interval
    assert abs(ours.difference.low - ends.low) < slack
    assert abs(ours.difference.high - ends.high) < slack
    assert ours.difference.permutation == compare(x, y).permutation
    # Of three pairs, one in 27 resamples has the lowest alone.
    three = pooled([(x[:3], y[:3])]).difference
    close([three.low, three.high], [min((x - y)[:3]), max((x - y)[:3])])


def test_the_probability_is_unpaired_and_its_arms_are_resampled_apart():
    """Seeds that decide all: pairs all agree, and runs say next to nothing."""
    y = np.arange(20.0)
    found = pooled([(y + 0.5, y), (y + 0.5, y)])
    assert found.paired_share.value == pytest.approx(1)
    assert math.isnan(found.paired_share.low)
    # 210 of 400 combinations.
    value, low, high = found.probability
    assert value == pytest.approx(0.525)
    # By the variance of Mann and Whitney's U, of two sets.
    error = math.sqrt((2 * 20 + 1) / (12 * 20 * 20) / 2)
    half = stats.norm.ppf(0.975) * error
    close([low, high], [value - half, value + half], 0.1 * half)
    swapped = pooled([(y, y + 0.5), (y, y + 0.5)]).probability
    close([1 - swapped.high, 1 - swapped.low], [low, high], 0.1 * half)


def test_resampling_is_within_data_sets():
    """Sets that differ widely, and not within: no resample mixes them."""
    found = pooled([([70, 70.2], [60, 60]), ([50, 50.2], [60, 60])])
    assert -0.11 < found.difference.low < found.difference.high < 0.31
    assert found.iqm.value == pytest.approx(0.1)


def test_the_interval_covers_as_often_as_its_normal_theory():
    """A percentile interval takes n for n - 1, and the normal's quantile."""
    rng = np.random.default_rng(0)
    sets, pairs, tables = 3, 8, 400
    covered = 0
    for _ in range(tables):
        gains = rng.normal(0.5, 1, (sets, pairs))
        zero = np.zeros(pairs)
        d = pooled([(50 + g, 50 + zero) for g in gains], resamples=999)
        covered += d.difference.low <= 0.5 <= d.difference.high
    half = stats.norm.ppf(0.975) * math.sqrt((pairs - 1) / pairs)
    chance = 1 - 2 * stats.t.sf(half, sets * (pairs - 1))
    low, high = stats.binom.interval(0.999, tables, chance)
    assert low <= covered <= high


def test_one_table_gives_one_interval():
    rng = np.random.default_rng(0)
    sets = [rng.normal(80, 1, (2, 9)) for _ in range(2)]
    first, second = pooled(sets), pooled(sets)
    close(numbers(first), numbers(second))
    # More resamples than are held at a time are drawn in one stream.
    assert numbers(pooled(sets, resamples=1001)).shape == (4, 3)


def test_words():
    assert words(across([0.5, 0.6]), 0.01) == 'higher than one-hot'
    assert words(across([-0.5, -0.6]), 0.01) == 'lower than one-hot'
    none = words(across([0.5, -0.5]), 1.0)
    assert none == 'no effect here: the interval contains 0'
    corrected = words(across([0.5, 0.6]), 0.08)
    assert corrected.startswith('higher, but not after the correction')
    # Three pairs give no p below 1/4.
    few = words(across([1.0], seeds=3), 0.01)
    assert few.startswith('higher by the interval, but not by the perm')
    assert 'p = 0.250' in few and few.endswith('no effect is shown')
    assert words(across([0, 0], noise=0), 1.0) == (
        'equal to one-hot in every pair'
    )
    opposed = across([1, -1], noise=0)
    assert math.isnan(opposed.pooled.difference.low)
    assert words(opposed, 1.0).endswith('has no interval')


def test_what_has_no_spread_has_no_interval():
    one = across([20, 20]).pooled
    assert one.probability.value == 1 and math.isnan(one.probability.low)
    assert one.difference.low > 0
    equal = across([0, 0], noise=0).pooled
    for found, value in zip(equal[1:], (0, 0.5, 0.5)):
        close(found, value)


@pytest.mark.parametrize(
    'x, y, why',
    [
        ([1.0], [2.0], 'at least 2 pairs'),
        ([1.0, 2.0], [1.0], 'at least 2 pairs'),
        ([1.0, math.nan], [1.0, 2.0], 'NaN'),
    ],
)
def test_a_data_set_that_is_none_is_named(x, y, why):
    with pytest.raises(ValueError, match=f'data set clipart: .*{why}'):
        data_set('clipart', x, y)


def test_options_that_are_none():
    sets = across([1, 2]).sets
    with pytest.raises(ValueError, match='resamples=0'):
        pool(sets, resamples=0)
    for wrong in ([], sets[:1] * 2):
        with pytest.raises(ValueError, match='sets=.*different names'):
            pool(wrong)
