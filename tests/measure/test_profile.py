"""Rings, concentration and symmetry equal numbers of their own."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from energy_profiles import PIXELS, PROFILE, correlation_of_turns, summary_of
from hypothesis import given
from hypothesis import strategies as st
from known_effects import radius_squared
from scipy import stats

from u1_plugin.measure.profile import (
    concentration,
    make_rings,
    rotational_symmetry,
    symmetry,
)
from u1_plugin.measure.sombrero import fit_sombrero


def naive_rings(height: int, width: int, bins: int):
    """Ring by ring, in whole numbers: ``{ring: [(y, x, r^2), ...]}``."""
    rings: dict = {}
    for y in range(height):
        for x in range(width):
            square = (2 * y - height + 1) ** 2 + (2 * x - width + 1) ** 2
            relative = Fraction(square, height**2 + width**2)
            ring = 1
            while Fraction(ring, bins) ** 2 < relative:
                ring += 1
            rings.setdefault(ring, []).append((y, x, float(relative)))
    return dict(sorted(rings.items()))


@pytest.mark.parametrize(
    'height, width, bins',
    [(1, 1, 2), (3, 3, 3), (3, 4, 5), (4, 3, 10), (7, 7, 1), (14, 14, 16)]
    # Some of their pixels lie on an edge, and rounding says just beyond.
    + [(6, 8, 10), (5, 5, 5), (15, 20, 25), (21, 28, 35), (33, 44, 55)],
)
def test_rings_are_those_of_whole_numbers(height, width, bins):
    found = make_rings(height, width, bins)
    naive = naive_rings(height, width, bins)
    assert found.pixels.tolist() == [len(own) for own in naive.values()]
    np.testing.assert_allclose(found.edge, [ring / bins for ring in naive])
    for k, own in enumerate(naive.values()):
        square = np.array([r2 for _, _, r2 in own])
        assert all(found.index[y, x] == k for y, x, _ in own)
        assert math.isclose(found.radius[k], np.sqrt(square).mean())
        assert math.isclose(found.square[k], square.mean())
        assert math.isclose(found.fourth[k], (square**2).mean())
    assert found.index.shape == (height, width)


def test_symmetry_is_the_correlation_with_the_turned_map():
    rng = np.random.default_rng(0)
    square = rng.random((2, 3, 5, 5)) + 2
    found = rotational_symmetry(torch.from_numpy(square)).numpy()
    assert found.shape == (2, 3)
    for place in np.ndindex(2, 3):
        expected = correlation_of_turns(square[place], (1, 2, 3))
        assert math.isclose(found[place], expected)
    for shape in ((4, 6), (6, 4)):
        wide = rng.random(shape)
        found = float(rotational_symmetry(torch.from_numpy(wide)))
        assert math.isclose(found, correlation_of_turns(wide, (2,)))


@pytest.mark.parametrize('mean', [1e-6, 1.0, 1e6])
def test_a_map_is_flat_relative_to_its_mean(mean):
    ripple = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    # Even under half a turn, odd under a quarter: (-1 + 1 - 1) / 3.
    score = rotational_symmetry(mean * (1 + 2e-8 * ripple))
    assert math.isclose(score, -1 / 3, abs_tol=1e-6)
    assert rotational_symmetry(mean * (1 + 2e-10 * ripple)).isnan()
    assert rotational_symmetry(0 * ripple).isnan()


@pytest.mark.parametrize('scale', [1.0, 1e-25, 1e25])
def test_symmetry_of_float32_maps_of_any_scale(scale):
    ramp = torch.arange(7.0).expand(7, 7) + 1
    score = rotational_symmetry(scale * ramp)
    assert math.isclose(score, -1 / 3, abs_tol=1e-6)
    assert rotational_symmetry(torch.full((7, 7), 0.1) * scale).isnan()
    assert rotational_symmetry(torch.arange(4).view(2, 2)) < 0


@pytest.mark.parametrize(
    'radius, rings',
    [(0.5, 2), (0.4, 2), (0.39, 1), (0.05, 1), (0.6, 3), (0.99, 4)]
    # Edges and radii are compared to nine digits.
    + [(0.4 - 4e-10, 2), (0.4 - 4e-9, 1)],
)
def test_concentration_by_hand(radius, rings):
    summary = summary_of(PROFILE)
    found = concentration(summary, radius)
    total = sum(PIXELS)
    weights = [p / total if k < rings else 0 for k, p in enumerate(PIXELS)]
    share = sum(w * v for w, v in zip(weights, PROFILE))
    variance = sum(
        weights[i] * weights[j] * summary.covariance[i, j]
        for i in range(5)
        for j in range(5)
    )
    error = math.sqrt(variance / 25)
    assert found.radius == radius
    assert math.isclose(found.share, share)
    assert math.isclose(found.uniform, sum(weights))
    excess = share - sum(weights)
    half = error * stats.t.ppf(0.975, 24)
    assert math.isclose(found.excess.value, excess)
    assert math.isclose(found.excess.low, excess - half)
    assert math.isclose(found.excess.high, excess + half)
    assert math.isclose(found.excess.pvalue, stats.t.sf(excess / error, 24))
    assert concentration(summary).radius == 0.5


@pytest.mark.parametrize(
    'options',
    [dict(radius=r) for r in (0, 1, -0.5, math.nan, '0.5', None)],
)
def test_a_radius_lies_inside_the_map(options):
    with pytest.raises(ValueError, match=r'^radius=.* must be a finite'):
        concentration(summary_of(PROFILE), **options)


def test_no_spread_gives_no_interval():
    unknown = np.full((5, 5), math.nan)
    for covariance in (unknown, np.zeros((5, 5)), -1e-9 * np.eye(5)):
        found = concentration(summary_of(PROFILE, covariance)).excess
        assert math.isfinite(found.value) and math.isnan(found.low)
        assert math.isnan(found.high) and math.isnan(found.pvalue)
        fit = fit_sombrero(summary_of(PROFILE, covariance))
        assert math.isfinite(fit.b.value) and math.isnan(fit.b.pvalue)


def grouped_maps(noise: float):
    """Five groups of unequal size, of an off-centre map and noise."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:6, :6] - 2.5
    mean = 2 + np.exp(-(y**2 + (x - 0.6) ** 2) / 6)
    return mean + noise * rng.normal(size=(5, 6, 6)), [3, 9, 4, 7, 2]


@pytest.mark.parametrize('null', [0.5, -0.2, 0.9])
def test_symmetry_s_error_is_the_jackknife_s(null):
    maps, sizes = grouped_maps(0.1)
    summary = summary_of(PROFILE, maps=maps, sizes=sizes)
    value = correlation_of_turns(summary.mean_map, (1, 2, 3))
    rest = [
        np.average(np.delete(maps, k, 0), 0, np.delete(sizes, k))
        for k in range(5)
    ]
    scores = [math.atanh(correlation_of_turns(m, (1, 2, 3))) for m in rest]
    error = math.sqrt(4 / 5 * sum((s - np.mean(scores)) ** 2 for s in scores))
    half = error * stats.t.ppf(0.975, 4)
    centre = math.atanh(value)
    found = symmetry(summary, null)
    assert math.isclose(found.value, value)
    assert math.isclose(found.low, math.tanh(centre - half))
    assert math.isclose(found.high, math.tanh(centre + half))
    expected = stats.t.sf((centre - math.atanh(null)) / error, 4)
    assert math.isclose(found.pvalue, expected)
    if null == 0.5:
        assert symmetry(summary) == found


def test_symmetry_that_cannot_be_told():
    maps, _ = grouped_maps(0.1)
    one = symmetry(summary_of(PROFILE, maps=maps[:1], sizes=[3]))
    assert math.isfinite(one.value) and math.isnan(one.pvalue)
    two = symmetry(summary_of(PROFILE, maps=maps[:2], sizes=[3, 4]))
    assert math.isfinite(two.pvalue)
    flat = symmetry(summary_of(PROFILE, maps=np.ones((4, 6, 6))))
    assert all(map(math.isnan, flat))


@pytest.mark.parametrize('sign', [1, -1])
def test_the_most_symmetric_maps_have_finite_intervals(sign):
    """atanh(1) is not finite: scores of 1 and -1 give way by 1e-12."""
    # Half a turn of these maps changes nothing, or all signs.
    y, x = np.mgrid[:3, :5] - np.array([1, 2])[:, None, None]
    exact = x**2 + y**2 + 0.0 if sign > 0 else x + 2.0 * y
    noise = 3e-5 * np.random.default_rng(0).normal(size=(3, 5))
    maps, sizes = 10 + np.stack([exact, exact + noise, exact]), [5, 1, 5]
    found = symmetry(summary_of(PROFILE, maps=maps, sizes=sizes))
    rest = [
        np.average(np.delete(maps, k, 0), 0, np.delete(sizes, k))
        for k in range(3)
    ]
    turned = [correlation_of_turns(m, (2,)) for m in rest]
    scores = [
        14.162084148244246 * sign if k == 1 else math.atanh(turned[k])
        for k in range(3)
    ]
    error = math.sqrt(2 / 3 * ((scores - np.mean(scores)) ** 2).sum())
    mean = correlation_of_turns(np.average(maps, 0, sizes), (2,))
    assert math.isclose(found.value, mean)
    above = math.atanh(mean) - math.atanh(0.5)
    pvalue = stats.t.sf(above / error, 2)
    assert math.isclose(found.pvalue, pvalue, rel_tol=1e-2)
    # The mean is exact, and what is left without either group is not.
    maps = 10 + np.stack([exact + 2e4 * noise, exact - 2e4 * noise])
    found = symmetry(summary_of(PROFILE, maps=maps))
    scores = [math.atanh(correlation_of_turns(m, (2,))) for m in maps]
    error = abs(scores[0] - scores[1]) / 2
    above = 14.162084148244246 * sign - math.atanh(0.5)
    assert math.isclose(found.value, sign)
    pvalue = stats.t.sf(above / error, 1)
    assert math.isclose(found.pvalue, pvalue, rel_tol=1e-4)
    same = symmetry(summary_of(PROFILE, maps=10 + np.stack([exact] * 3)))
    assert math.isclose(same.value, sign) and math.isnan(same.low)


@pytest.mark.parametrize('null', [1, -1, 2, math.nan, 'half', True])
def test_a_null_is_a_correlation(null):
    with pytest.raises(ValueError, match='^null='):
        symmetry(summary_of(PROFILE), null)


@pytest.mark.parametrize(
    'sizes', [(0, 3, 4), (3, 3, 0), (3, 1.5, 4), (3, 3, True), ('3', 3, 4)]
)
def test_rings_need_whole_sizes(sizes):
    with pytest.raises(ValueError, match='must be an integer >= 1'):
        make_rings(*sizes)


def test_rings_of_a_small_map_by_hand():
    rings = make_rings(3, 3, 16)
    corner = math.sqrt(2) / (3 / math.sqrt(2))
    np.testing.assert_allclose(rings.radius, [0, corner / 2**0.5, corner])
    assert rings.pixels.tolist() == [1, 4, 4]
    np.testing.assert_allclose(rings.edge, [1 / 16, 8 / 16, 11 / 16])
    np.testing.assert_allclose(rings.fourth, rings.square**2)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 30))
def test_rings_hold_every_pixel_once(height, width, bins):
    rings = make_rings(height, width, bins)
    assert rings.pixels.sum() == height * width
    assert (rings.radius <= rings.edge + 1e-9).all()
    assert (np.diff(rings.radius) > 0).all() and rings.radius[-1] < 1
    mean_square = rings.pixels @ rings.square / (height * width)
    # The mean squared distance of a grid has a closed form.
    expected = (height**2 + width**2 - 2) / 12 * 4 / (height**2 + width**2)
    assert math.isclose(mean_square, expected, abs_tol=1e-12)


def test_symmetry_scores_in_closed_form():
    x = torch.arange(8.0, dtype=torch.float64).expand(8, 8) - 3.5
    bump = torch.exp(-4 * radius_squared(8))
    maps = torch.stack([bump, x + 9, 2 * bump + 1, torch.ones(8, 8)])
    score = rotational_symmetry(maps)
    torch.testing.assert_close(
        score[:3], torch.tensor([1, -1 / 3, 1], dtype=torch.float64)
    )
    assert score[3].isnan()
    wide = torch.arange(6.0).expand(4, 6)
    assert math.isclose(rotational_symmetry(wide), -1, abs_tol=1e-6)
    noise = torch.rand(4000, 6, 6, generator=torch.Generator().manual_seed(0))
    # One degree of freedom goes into the mean: -1/35 of a map's variance.
    assert abs(rotational_symmetry(noise).mean() + 1 / 35) < 0.01


@given(st.integers(0, 2**31))
def test_symmetry_is_the_share_that_turns_leave(seed):
    grid = torch.rand(7, 7, generator=torch.Generator().manual_seed(seed))
    grid = grid.double() - grid.double().mean()
    kept = sum(grid.rot90(k) for k in range(4)) / 4
    share = kept.square().sum() / grid.square().sum()
    expected = (4 * share - 1) / 3
    assert math.isclose(rotational_symmetry(grid), expected, abs_tol=1e-9)
