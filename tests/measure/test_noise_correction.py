"""Symmetry at the most: without the noise of few images."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.lab.analysis.error_rates import images_of, radius
from u1_plugin.lab.analysis.judging import judge
from u1_plugin.lab.analysis.verdicts import concentration_tests
from u1_plugin.measure.noise_correction import highest_symmetry
from u1_plugin.measure.profile import rotational_symmetry, symmetry

PEAK = 1 + np.exp(-(radius() ** 2) / (2 * 0.3**2))
BESIDE = np.roll(PEAK, 3, 1)


def highest(mean_map, n, noise, seed=0):
    found = images_of(mean_map, n, np.random.default_rng(seed), noise)
    return highest_symmetry(found.group_maps, found.group_sizes), found


@pytest.mark.parametrize('mean_map', [PEAK, BESIDE, PEAK[:, :9]])
def test_with_little_noise_it_is_the_symmetry(mean_map):
    truth = float(rotational_symmetry(torch.from_numpy(mean_map.copy())))
    most, found = highest(mean_map, 400, 0.01)
    assert most == pytest.approx(truth, abs=0.01)
    assert most >= symmetry(found).value - 1e-6
    assert highest(mean_map, 30, 0.5)[0] > truth - 0.05


def test_noise_speaks_against_no_symmetry():
    """Of a symmetric map with few, noisy images; 97.5 % but for 60 runs."""
    low = 0
    for seed in range(60):
        most, found = highest(PEAK, 20, 3.0, seed)
        assert symmetry(found).high < 0.5  # as the sampled map has it
        low += most < 0.5
        _, turned = judge({'l': concentration_tests(found)})
        assert (turned.verdict == 'undecided') == (most >= 0.5)
    assert low <= 6


def test_what_is_not_symmetric_is_refuted_with_enough_images():
    found = highest(BESIDE, 200, 0.5)[1]
    _, turned = judge({'l': concentration_tests(found)})
    assert turned.verdict == 'not supported' and not turned.test.doubt
    noisy = highest(BESIDE, 20, 3.0)[1]
    _, turned = judge({'l': concentration_tests(noisy)})
    assert turned.verdict == 'undecided'
    assert turned.row()['remark'].startswith('noise lowers it')


@given(st.integers(0, 10**6), st.integers(3, 9), st.floats(0.1, 10))
def test_laws_of_the_highest_symmetry(seed, groups, scale):
    """Scale, level, quarter turns and the order of groups are no matter."""
    rng = np.random.default_rng(seed)
    maps = rng.uniform(size=(groups, 5, 5)) + PEAK[:5, :5]
    sizes = rng.integers(1, 5, groups).astype(float)
    most = highest_symmetry(maps, sizes)
    assert most <= 1
    order = rng.permutation(groups)
    for other, weights in (
        (scale * maps + 3, 2 * sizes),
        (np.rot90(maps, 1, (1, 2)), sizes),
        (maps[order], sizes[order]),
    ):
        assert highest_symmetry(other, weights) == pytest.approx(most, abs=1e-6)


def test_what_has_no_spread_has_no_highest_symmetry():
    assert math.isnan(highest_symmetry(np.stack([PEAK] * 9), np.ones(9)))
    assert math.isnan(highest_symmetry(np.stack([PEAK, BESIDE]), np.ones(2)))
