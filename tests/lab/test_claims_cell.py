"""The centre of a map, and C4's tests over the splits of a cell."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from u1_plugin.lab.analysis.claims_cell import COMPARISONS, memory_tests
from u1_plugin.lab.analysis.claims_measure import centre


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_middle_half_is_the_middle(height, width):
    maps = torch.arange(height * width).view(1, 1, height, width)
    middle = centre(maps)
    assert torch.equal(centre(maps.flip(2, 3)), middle.flip(2, 3))
    for length, kept in zip((height, width), middle.shape[2:]):
        assert abs(kept - length / 2) <= 1 and kept >= 1


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 40)),
        min_size=3,
        max_size=6,
    )
)
def test_gains_are_paired_over_the_splits(pairs):
    own, other = (100 * np.array(side) / 40 for side in zip(*pairs))
    arms = {arm for names in COMPARISONS.values() for arm in names}
    accuracy = {arm: other.tolist() for arm in arms} | dict(image=own.tolist())
    found = {test.aspect: test for test in memory_tests(accuracy, 200)}
    test = found['image angle beyond position']
    assert test.estimate.value == pytest.approx((own - other).mean())
    assert test.claim == 'C4' and test.n == 200
    if np.ptp(own - other):
        expected = stats.ttest_rel(own, other, alternative='greater')
        assert test.estimate.pvalue == pytest.approx(expected.pvalue)
        low, high = stats.ttest_rel(own, other).confidence_interval()
        assert test.estimate.low == pytest.approx(low)
        assert test.estimate.high == pytest.approx(high)
    flat = found['position over the plain vote'].estimate
    assert flat.value == 0 and flat.pvalue >= 0.5
    # Arms that agree in every split say nothing.
    assert math.isnan(flat.low) and math.isnan(flat.high)
