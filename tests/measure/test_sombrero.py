"""The curve's fit and its error are those of weighted least squares."""

import math

import numpy as np
import pytest
from energy_profiles import PIXELS, PROFILE, RADIUS, summary_of
from scipy import stats

from u1_plugin.measure.accumulators import EnergyAccumulator
from u1_plugin.measure.profile import EnergySummary, concentration
from u1_plugin.measure.sombrero import fit_sombrero


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
