"""Paired differences."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from u1_plugin.lab.statistics import (
    exact_differences,
    paired_difference,
    sign_flip_pvalue,
    signed_rank_pvalue,
)


def test_equal_to_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 7), rng.normal(0, 1, 7)
    result, test = paired_difference(a, b), stats.ttest_rel(a, b)
    interval = test.confidence_interval(0.95)
    assert (result.low, result.high) == pytest.approx(
        (interval.low, interval.high)
    )
    assert result.pvalue == pytest.approx(test.pvalue)
    assert result.mean == pytest.approx((a - b).mean()) and result.n == 7


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    results = [
        paired_difference(rng.normal(0.3, 1, 5), np.zeros(5))
        for _ in range(1000)
    ]
    held = np.mean([r.low <= 0.3 <= r.high for r in results])
    assert abs(held - 0.95) < 0.024


@pytest.mark.parametrize(
    'difference, verdict',
    [
        ([1.0, 1.1, 0.9], 'higher'),
        ([-1.0, -1.1, -0.9], 'lower'),
        ([1.0, -1.0, 0.2], 'no difference shown'),
        ([0.0, 0.0, 0.0], 'no difference shown'),
    ],
)
def test_verdict(difference, verdict):
    assert paired_difference(difference, [0, 0, 0]).verdict == verdict


def test_equal_differences_have_no_interval():
    result = paired_difference([2, 3], [1, 2])
    assert result.mean == 1 and math.isnan(result.low)


@pytest.mark.parametrize('pair', [([1], [2]), ([1, 2], [1, 2, 3])])
def test_too_few_pairs(pair):
    with pytest.raises(ValueError, match='at least 2 pairs'):
        paired_difference(*pair)


def test_failed_runs_are_no_values():
    with pytest.raises(ValueError, match='leave out the seeds'):
        paired_difference([1, math.nan, 2], [1, 2, 3])


@pytest.mark.parametrize(
    'values', ['ab', [{}, 1], [[1], [1, 2]], [1j, 2], None]
)
def test_what_is_no_number(values):
    with pytest.raises(ValueError, match='give numbers, one a pair'):
        paired_difference(values, [1, 2])


@pytest.mark.parametrize('confidence', [None, 0, 1, 1.5, '0.95', math.nan])
def test_a_confidence_is_a_chance(confidence):
    for treated in ([1, 2], [1, 1]):  # the second has no interval
        with pytest.raises(ValueError, match='confidence=.* > 0 and < 1'):
            paired_difference(treated, [0, 0], confidence)


#: How an accuracy in per cent comes about, from counts of N images.
FORMS = {
    'float64': lambda counts, n: 100 * counts / n,
    'mean of float64': lambda counts, n: counts / n * 100,
    'MMPretrain, float32': lambda counts, n: (
        counts.astype(np.float32) * np.float32(100.0 / n)
    ).astype(float),
    'share': lambda counts, n: counts / n,
}


def flips_of(n: int) -> np.ndarray:
    return 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)


def share_as_far(values: np.ndarray) -> float:
    """Of all sign flips, in whole numbers."""
    return np.mean(abs(flips_of(len(values)) @ values) >= abs(values.sum()))


@pytest.mark.parametrize('form', FORMS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whole_images_tie_whatever_the_floats(form, data):
    images = data.draw(
        st.sampled_from([2, 7, 359, 360, 797, 10_000, 50_000, 99_991, 10**6])
    )
    top = st.integers(max(0, images - 60), images)
    pairs = data.draw(st.lists(st.tuples(top, top), min_size=2, max_size=10))
    treated, control = np.array(pairs).T
    found = exact_differences(
        FORMS[form](treated, images), FORMS[form](control, images)
    )
    exact = treated - control
    assert sign_flip_pvalue(found.values, found.slack) == share_as_far(exact)
    ranks = 2 * stats.rankdata(abs(exact)) * np.sign(exact)
    assert signed_rank_pvalue(found.values) == share_as_far(ranks)
    scale = 1 if form == 'share' else 100
    assert found.mean == pytest.approx(
        scale * exact.mean() / images, rel=1e-5, abs=4e-5
    )


def test_a_round_number_does_not_make_float32_of_the_others():
    """Of a million images one is less than the rounding of float32."""
    images = 10**6
    treated = np.array([images, images - 2, images, images - 1, images - 1])
    control = np.array([images - 3, images, images - 5, images - 2, images - 1])
    exact = treated - control
    found = exact_differences(treated / images, control / images)
    assert sign_flip_pvalue(found.values, found.slack) == share_as_far(exact)
    assert len(np.unique(abs(found.values))) == len(np.unique(abs(exact)))


def test_means_of_class_accuracies_tie_as_fractions_do():
    # Class sizes whose common multiple is no number of images.
    sizes = np.array([23, 29, 31, 37, 41, 43])
    rng = np.random.default_rng(0)
    lost = 0
    for _ in range(30):
        change = rng.integers(-1, 2, (6, 6)) * [1, 1, 0, 0, 0, 0]
        control = sizes - rng.integers(1, 4, (6, 6))
        right = np.stack([control + change, control])
        treated, control = (100 * right / sizes).mean(-1)
        parts = [
            [sum(Fraction(int(c), int(n)) for c, n in zip(row, sizes))]
            for row in right.reshape(-1, 6)
        ]
        exact = np.array(parts, object).reshape(2, 6)
        exact = exact[0] - exact[1]
        sums = [abs(s) for s in flips_of(6).astype(object) @ exact]
        expected = np.mean([s >= abs(exact.sum()) for s in sums])
        found = exact_differences(treated, control)
        assert found.values.dtype == float and found.slack > 0
        assert sign_flip_pvalue(found.values, found.slack) == expected
        lost += sign_flip_pvalue(treated - control) != expected
    assert lost  # so that the rule is needed


def test_the_halves_count_every_flip():
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 11):
        values = rng.integers(-3, 4, n)
        assert sign_flip_pvalue(values) == share_as_far(values)
    # 1 to 26 and their negatives: one sum of 2^26 either side is as far.
    assert sign_flip_pvalue(np.arange(1, 27)) == 2 / 2**26
    assert sign_flip_pvalue(np.zeros(3)) == 1


def test_many_pairs_are_drawn():
    rng = np.random.default_rng(2)
    values = rng.integers(-5, 7, 100)
    expected = 2 * stats.norm.sf(
        abs(values.sum()) / np.sqrt(np.square(values).sum())
    )
    found = sign_flip_pvalue(values)
    assert found == pytest.approx(expected, abs=0.01) and 0.01 < found < 0.99
    assert found == sign_flip_pvalue(values)
    assert sign_flip_pvalue(np.arange(1, 101)) == 1 / 2**16
    # One modulus: as a sign test counts them.
    values = np.repeat([3, -3], [60, 41])
    assert sign_flip_pvalue(values) == stats.binomtest(60, 101).pvalue


def test_ranks_by_scipy():
    for seed in range(5):
        rng = np.random.default_rng(seed)
        values = rng.integers(-4, 6, 9)
        test = stats.wilcoxon(
            values,
            zero_method='pratt',
            method=stats.PermutationMethod(n_resamples=np.inf),
        )
        assert signed_rank_pvalue(values) == pytest.approx(test.pvalue)


def test_equal_differences_of_floats_are_equal():
    counts = np.array([345, 347, 350, 344])
    no_images = np.random.default_rng(0).normal(0, 1, 6)
    for treated, control in (
        (100 * (counts + 1) / 360, 100 * counts / 360),
        (no_images + 0.3, no_images),
    ):
        assert np.ptp(treated - control) > 0
        result = paired_difference(treated, control)
        assert math.isnan(result.low) and math.isnan(result.pvalue)
        assert result.mean == pytest.approx((treated - control).mean())
        none = paired_difference(control, control)
        assert (none.low, none.high, none.pvalue) == (0, 0, 1)


@pytest.mark.parametrize('scale', [1e-300, 1e-9, 1.0, 1e300])
def test_any_unit(scale):
    rng = np.random.default_rng(3)
    treated, control = rng.normal(0, 1, (2, 8))
    result = paired_difference(treated * scale, control * scale)
    test = stats.ttest_rel(treated, control)
    assert result.pvalue == pytest.approx(test.pvalue)
    low = test.confidence_interval(0.95).low
    assert result.low == pytest.approx(low * scale)
    found = exact_differences(treated * scale, control * scale)
    assert found.mean == pytest.approx((treated - control).mean() * scale)
    assert sign_flip_pvalue(found.values, found.slack) == share_as_far(
        treated - control
    )


def test_an_exact_p_of_floats_is_never_zero():
    """Sums of the same numbers differ by the order in which they are added."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.uniform(0.1, 3, 5).round(3)
        for kind in (np.float64, np.float32):
            assert sign_flip_pvalue(values.astype(kind)) == 2 / 2**5
