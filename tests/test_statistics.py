"""Paired differences."""

import math

import numpy as np
import pytest
from scipy import stats

from u1_plugin.lab.statistics import paired_difference


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
