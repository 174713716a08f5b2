"""The centre of a map, and C4's tests over the images of a cell."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from u1_plugin.lab.analysis.claims_cell import COMPARISONS, memory_tests
from u1_plugin.lab.analysis.claims_measure import centre
from u1_plugin.lab.folds import image_difference


@given(st.integers(1, 12), st.integers(1, 12))
def test_the_middle_half_is_the_middle(height, width):
    maps = torch.arange(height * width).view(1, 1, height, width)
    middle = centre(maps)
    assert torch.equal(centre(maps.flip(2, 3)), middle.flip(2, 3))
    for length, kept in zip((height, width), middle.shape[2:]):
        assert abs(kept - length / 2) <= 1 and kept >= 1


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=60)
)
def test_gains_are_paired_over_the_images(pairs):
    own, other = (100.0 * np.array(side) for side in zip(*pairs))
    arms = {arm for names in COMPARISONS.values() for arm in names}
    scores = dict.fromkeys(arms, other) | dict(image=own)
    found = {test.aspect: test for test in memory_tests(scores)}
    test = found['image angle beyond position']
    assert test.estimate.value == pytest.approx((own - other).mean())
    assert test.claim == 'C4' and test.n == len(pairs)
    if (own != other).any():
        gained, lost = (own > other).sum(), (own < other).sum()
        above = stats.binomtest(gained, gained + lost, alternative='greater')
        if gained > lost:
            assert test.estimate.pvalue == pytest.approx(above.pvalue)
        else:
            assert test.estimate.pvalue >= 0.5
    expected = image_difference(own, other)
    assert test.estimate.low == expected.low
    assert test.estimate.high == expected.high
    flat = found['position over the plain vote'].estimate
    assert flat.value == 0 and flat.pvalue >= 0.5
    assert flat.low < 0 < flat.high
