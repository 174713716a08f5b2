"""Each threshold of the verdicts on energy holds at its boundary."""

import math

import numpy as np
import pytest

from u1_plugin.lab.analysis.judging import ClaimTest
from u1_plugin.lab.analysis.verdicts import concentration_tests, sombrero_tests
from u1_plugin.measure.noise_correction import highest_symmetry
from u1_plugin.measure.profile import (
    EnergySummary,
    Rings,
    concentration,
    symmetry,
)
from u1_plugin.measure.sombrero import fit_sombrero, heights


def energy_summary(
    profile=(2.0, 1.4, 0.7, 0.6, 1.1), n=40, maps=None
) -> EnergySummary:
    profile = np.array(profile, float)
    count = len(profile)
    edge = np.arange(1, count + 1) / count
    radius = edge - 0.08
    rings = Rings(
        np.zeros((6, 6), int),
        np.arange(1, count + 1) * 3,
        radius,
        edge,
        radius**2 + 0.002,
        radius**4 + 0.003,
    )
    if maps is None:
        y, x = np.mgrid[:6, :6] - 2.5
        noise = np.random.default_rng(0).normal(size=(4, 6, 6))
        maps = 2 + np.exp(-(y**2 + x**2) / 6) + 0.05 * noise
    return EnergySummary(
        n,
        0,
        1.0,
        np.mean(maps, 0),
        np.array(maps),
        np.full(len(maps), n / len(maps)),
        rings,
        profile,
        np.eye(count) / 100,
        0.0,
    )


def test_what_is_asked_of_the_energy():
    summary = energy_summary()
    near, turned = concentration_tests(summary)
    assert near == ClaimTest(
        'C1',
        'concentrated',
        'share of energy within r = 0.5, less the uniform share',
        40,
        concentration(summary, 0.5).excess,
        0.01,
    )
    assert turned == ClaimTest(
        'C1',
        'symmetric',
        'correlation of the mean map with its quarter turns',
        40,
        symmetry(summary, 0.5),
        0.5,
        highest=highest_symmetry(summary.group_maps, summary.group_sizes),
    )
    fit = fit_sombrero(summary)
    found = heights(summary, fit)
    above = 'above the trough, in uniform densities'
    assert sombrero_tests(summary) == [
        ClaimTest(
            'C2',
            'crown',
            f'energy at the axis {above}',
            40,
            found.crown._replace(pvalue=max(found.crown.pvalue, fit.b.pvalue)),
            0.1,
        ),
        ClaimTest('C2', 'quartic', 'a', 40, fit.a),
        ClaimTest(
            'C2',
            'brim',
            f'energy at the rim {above}',
            40,
            found.brim._replace(pvalue=max(found.brim.pvalue, fit.rim.pvalue)),
            0.1,
        ),
    ]


@pytest.mark.parametrize('equal', [False, True])
def test_where_the_spread_is_not_known_nothing_is_shown(equal):
    """Neither of the fit nor of the rings: images that are all alike."""
    summary = energy_summary()
    if equal:
        summary = summary._replace(covariance=0 * summary.covariance)
    crown, _, brim = (test.estimate.pvalue for test in sombrero_tests(summary))
    assert math.isnan(crown) == math.isnan(brim) == equal


@pytest.mark.parametrize('n, obstacle', [(19, True), (20, False)])
def test_twenty_images_decide(n, obstacle):
    summary = energy_summary(n=n)
    tests = concentration_tests(summary) + sombrero_tests(summary)
    expected = f'{n} images; at least 20 are needed' if obstacle else None
    assert [test.obstacle for test in tests] == [expected] * 5


ONE_RING = 'the map has one ring; choose an earlier layer or larger inputs'
FEW_RINGS = (
    '{} ring(s), which three coefficients fit whatever they are; choose an '
    'earlier layer or larger inputs'
)


@pytest.mark.parametrize('rings', [1, 2, 3, 4])
def test_rings_that_a_claim_needs(rings):
    summary = energy_summary((2.0, 1.4, 0.7, 0.9)[:rings])
    near, turned = concentration_tests(summary)
    assert (
        near.obstacle == turned.obstacle == (ONE_RING if rings == 1 else None)
    )
    shape = sombrero_tests(summary)
    expected = FEW_RINGS.format(rings) if rings < 4 else None
    assert [test.obstacle for test in shape] == [expected] * 3
    for test in shape:
        assert math.isnan(test.estimate.value) == (rings < 3)
        assert test.objection is None
    # Rings are what hinders even where there are few images as well.
    few = energy_summary((2.0, 1.4, 0.7)[: min(rings, 3)], n=5)
    assert 'ring' in sombrero_tests(few)[0].obstacle


def test_a_flat_map_has_no_symmetry():
    flat = energy_summary(maps=np.ones((4, 6, 6)))
    near, turned = concentration_tests(flat)
    assert near.obstacle is None
    assert turned.obstacle == 'the mean map is flat'
    few = energy_summary(maps=np.ones((4, 6, 6)), n=3)
    assert concentration_tests(few)[1].obstacle.startswith('3 images')


def partly_explained(share: float) -> EnergySummary:
    """A fitted part and a residue, in the proportion that is asked."""
    summary = energy_summary()
    rings = summary.rings
    rows = np.stack([rings.fourth, -rings.square, np.ones(5)], 1)
    root = np.sqrt(rings.pixels)[:, None]
    curve = rows @ [3, 4, 2]
    residue = np.array([1.0, -2.0, 1.0, 3.0, -1.0])
    residue -= rows @ np.linalg.lstsq(rows * root, residue * root[:, 0])[0]

    def spread(values):
        mean = np.average(values, weights=rings.pixels)
        return np.average((values - mean) ** 2, weights=rings.pixels)

    scale = math.sqrt(spread(curve) * (1 / share - 1) / spread(residue))
    return summary._replace(profile=curve + scale * residue)


DOUBT = (
    'the curve explains 50% of the profile, noise included; more images '
    'would tell'
)


@pytest.mark.parametrize('share, doubt', [(0.496, DOUBT), (0.504, None)])
def test_the_curve_must_explain_half(share, doubt):
    tests = sombrero_tests(partly_explained(share))
    assert [test.objection for test in tests] == [None] * 3
    assert [test.doubt for test in tests] == [doubt] * 3


@pytest.mark.parametrize('sign', [-1, 1])
def test_an_objection_needs_an_interval_below_half(sign):
    """At the covariance with which it ends there, and a little beside it."""
    summary = partly_explained(0.4)
    low, high = 1e-9, 1.0
    for _ in range(60):  # bisection: the interval grows with the spread
        middle = (low + high) / 2
        wide = summary._replace(covariance=middle * np.eye(5))
        if fit_sombrero(wide).r2_high < 0.5:
            low = middle
        else:
            high = middle
    beside = low * (1 + sign * 1e-3)
    tests = sombrero_tests(summary._replace(covariance=beside * np.eye(5)))
    objection = 'the curve explains 40% of the profile'
    if sign > 0:
        assert all(t.objection is None for t in tests)
        assert all(t.doubt.startswith(objection) for t in tests)
    else:
        assert [test.objection for test in tests] == [objection] * 3
        assert [test.doubt for test in tests] == [None] * 3
