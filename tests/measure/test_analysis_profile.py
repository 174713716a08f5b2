"""Formulas and guards of the radial profile, against numbers of their own."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats

from u1_plugin.measure.accumulators import EnergyAccumulator
from u1_plugin.measure.estimate import NORMAL_QUANTILE, t_estimate
from u1_plugin.measure.profile import (
    EnergySummary,
    Rings,
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


def correlation_of_turns(grid: np.ndarray, turns) -> float:
    return np.mean(
        [
            np.corrcoef(grid.ravel(), np.rot90(grid, k).ravel())[0, 1]
            for k in turns
        ]
    )


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


PIXELS = np.array([2, 4, 6, 8, 12])
EDGES = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
RADIUS = EDGES - 0.08


def summary_of(profile, covariance=None, n=25, maps=None, sizes=None):
    """A summary of these numbers, whatever map would have them."""
    profile = np.array(profile, float)
    count = len(profile)
    if covariance is None:
        root = np.random.default_rng(1).normal(size=(count, count))
        covariance = root @ root.T / 100
    rings = Rings(
        np.zeros((4, 8), int),
        PIXELS[:count],
        RADIUS[:count],
        EDGES[:count],
        RADIUS[:count] ** 2 + 0.002,
        RADIUS[:count] ** 4 + 0.003,
    )
    maps = np.ones((1, 4, 8)) if maps is None else np.array(maps, float)
    sizes = np.full(len(maps), 1.0) if sizes is None else np.array(sizes)
    mean_map = (maps * sizes[:, None, None]).sum(0) / sizes.sum()
    return EnergySummary(
        n, 0, 1.0, mean_map, maps, sizes, rings, profile, covariance, 0.0
    )


PROFILE = [2.0, 1.4, 0.7, 0.6, 1.1]


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


def weighted_fit(summary: EnergySummary) -> np.ndarray:
    """a, b and c by NumPy's least squares."""
    rings = summary.rings
    rows = np.stack([rings.fourth, -rings.square, np.ones(len(rings.pixels))])
    root = np.sqrt(rings.pixels)
    return np.linalg.lstsq((rows * root).T, summary.profile * root, rcond=None)[
        0
    ]


def test_the_fit_is_numpy_s():
    summary = summary_of(PROFILE, n=12)
    found = fit_sombrero(summary)
    expected = weighted_fit(summary)
    np.testing.assert_allclose(found.coefficients, expected)
    # The coefficients are linear in the profile: their Jacobian, one by one.
    jacobian = np.stack(
        [
            weighted_fit(summary._replace(profile=summary.profile + unit))
            - expected
            for unit in np.eye(5)
        ],
        1,
    )
    covariance = jacobian @ summary.covariance @ jacobian.T / 12
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6)
    assert found.n == 12 and found.rings == 5
    outermost = RADIUS[-1]
    for own, contrast in (
        (found.a, (1, 0, 0)),
        (found.b, (0, 1, 0)),
        (found.c, (0, 0, 1)),
        (found.rim, (2 * outermost**2, -1, 0)),
    ):
        value = np.dot(contrast, expected)
        error = math.sqrt(contrast @ covariance @ np.array(contrast))
        half = error * stats.t.ppf(0.975, 11)
        assert math.isclose(own.value, value)
        assert math.isclose(own.low, value - half)
        assert math.isclose(own.high, value + half)
        assert math.isclose(own.pvalue, stats.t.sf(value / error, 11))
    a, b, c = expected
    assert math.isclose(found.ring_radius, math.sqrt(b / (2 * a)))
    rings = summary.rings
    curve = a * rings.fourth - b * rings.square + c
    mean = np.average(PROFILE, weights=PIXELS)
    missed = np.average((PROFILE - curve) ** 2, weights=PIXELS)
    spread = np.average((np.array(PROFILE) - mean) ** 2, weights=PIXELS)
    assert math.isclose(found.r2, 1 - missed / spread)
    radius = np.array([0.0, 0.3, 0.9])
    np.testing.assert_allclose(
        found.curve(radius), a * radius**4 - b * radius**2 + c
    )
    rows = np.stack([radius**4, -(radius**2), np.ones(3)], 1)
    errors = [math.sqrt(row @ covariance @ row) for row in rows]
    np.testing.assert_allclose(found.curve_error(radius), errors)


@pytest.mark.parametrize(
    'a, b, radius',
    [
        (3.0, 4.0, math.sqrt(4 / 6)),
        (3.0, -4.0, math.nan),
        (-3.0, 4.0, math.nan),
        (-3.0, -4.0, math.nan),
    ],
)
def test_a_trough_needs_both_signs(a, b, radius):
    rings = summary_of(PROFILE).rings
    profile = a * rings.fourth - b * rings.square + 2
    found = fit_sombrero(summary_of(profile))
    np.testing.assert_allclose(found.coefficients, [a, b, 2], rtol=1e-6)
    np.testing.assert_allclose(found.ring_radius, radius)
    assert math.isclose(found.r2, 1)


@pytest.mark.parametrize('rest', [1.5, 5, 20])
def test_the_share_at_the_most_covers(rest):
    """A known share, in 97.5 % of 400 runs but for 4 standard errors."""
    base = summary_of(PROFILE)
    rings, rng = base.rings, np.random.default_rng(0)
    rows = np.stack([rings.fourth, -rings.square, np.ones(5)], 1)
    curve = rows @ fit_sombrero(base).coefficients
    truth = curve + rest * (np.array(PROFILE) - curve)
    share = fit_sombrero(base._replace(profile=truth)).r2
    factor = 0.3 * np.eye(5) + 0.1
    highest, sampled = [], []
    for _ in range(400):
        images = truth + rng.normal(size=(30, 5)) @ factor.T
        found = fit_sombrero(
            base._replace(
                n=30, profile=images.mean(0), covariance=np.cov(images.T)
            )
        )
        highest.append(found.r2_high)
        sampled.append(found.r2)
    assert (np.array(highest) >= share).sum() >= 0.975 * 400 - 13
    # It is above the sampled share, and not far.
    assert (np.array(highest) >= np.array(sampled)).mean() > 0.9
    assert np.mean(highest) < share + 0.15


def test_the_share_at_the_most_narrows_to_the_share():
    widths = []
    for spread in (1e-2, 1e-4, 1e-8):
        found = fit_sombrero(summary_of(PROFILE, spread * np.eye(5)))
        widths.append(found.r2_high - found.r2)
    assert widths[0] > widths[1] > widths[2] > 0
    assert widths[2] < 1e-3
    equal = fit_sombrero(summary_of(PROFILE, np.zeros((5, 5))))
    assert math.isnan(equal.r2_high) and math.isfinite(equal.r2)
    # Of a flat profile, noise included, it says nothing.
    noise = 1 + 1e-3 * np.array([1, -1, 1, -1, 1])
    flat = fit_sombrero(summary_of(noise, np.eye(5)))
    assert flat.r2 < 0.5 and flat.r2_high == 1


def test_what_fits_anything_explains_nothing():
    three = fit_sombrero(summary_of(PROFILE[:3]))
    assert three.rings == 3 and math.isnan(three.r2)
    assert math.isfinite(three.a.value)
    assert math.isfinite(fit_sombrero(summary_of(PROFILE[:4])).r2)
    with pytest.raises(ValueError, match=r'4x8 has 2 ring\(s\)'):
        fit_sombrero(summary_of(PROFILE[:2]))
    # A spread that is rounding is none to explain.
    ripple = np.array([1, -1, 1, -1, 1])
    assert math.isnan(fit_sombrero(summary_of(1 + 1e-10 * ripple)).r2)
    assert math.isfinite(fit_sombrero(summary_of(1 + 1e-8 * ripple)).r2)


def test_a_covariance_of_rounding_has_no_negative_error():
    found = fit_sombrero(summary_of(PROFILE, -1e-9 * np.eye(5)))
    assert (found.curve_error(np.array([0.0, 0.5])) == 0).all()


@pytest.mark.parametrize(
    'sizes', [(0, 3, 4), (3, 3, 0), (3, 1.5, 4), (3, 3, True), ('3', 3, 4)]
)
def test_rings_need_whole_sizes(sizes):
    with pytest.raises(ValueError, match='must be an integer >= 1'):
        make_rings(*sizes)


@pytest.mark.parametrize('null', [0.0, 0.25])
def test_an_estimate_of_one_degree_is_cauchy_s(null):
    """Its quantile is a tangent, its distribution an arc tangent."""
    found = t_estimate(0.4, 0.1, 1, null)
    half = 0.1 * math.tan(math.pi * 0.475)
    expected = 0.5 - math.atan((0.4 - null) / 0.1) / math.pi
    np.testing.assert_allclose(
        found, (0.4, 0.4 - half, 0.4 + half, expected), rtol=1e-9
    )
    assert null or found == t_estimate(0.4, 0.1, 1)
    # Of many degrees the law is the normal one.
    wide = t_estimate(0.4, 0.1, 1e12)
    assert math.isclose(wide.high, 0.4 + 0.1 * NORMAL_QUANTILE, rel_tol=1e-9)
    assert math.isclose(NORMAL_QUANTILE, stats.norm.ppf(0.975))


@pytest.mark.parametrize(
    'error, df, known',
    [
        (1e-7, 5, False),  # of rounding
        (math.nextafter(1e-7, 1), 5, True),
        (math.nan, 5, False),
        (0.1, math.nextafter(1, 0), False),
        (0.1, math.nan, False),
    ],
)
def test_an_error_needs_a_spread(error, df, known):
    found = t_estimate(0.4, error, df)
    assert found.value == 0.4
    assert math.isfinite(found.low) == known == math.isfinite(found.pvalue)
    assert math.isfinite(found.high) == known


def test_the_ends_of_chances_and_of_counts():
    for radius in (5e-324, math.nextafter(1, 0)):
        assert math.isfinite(concentration(summary_of(PROFILE), radius).share)
    for radius in (0, 1, 1.5, -0.5):
        with pytest.raises(ValueError, match='^radius='):
            concentration(summary_of(PROFILE), radius)
    for groups in (2, 2**31 - 1):
        assert EnergyAccumulator(groups=groups).groups == groups
    for groups in (1, 2**31):
        with pytest.raises(ValueError, match='groups='):
            EnergyAccumulator(groups=groups)
