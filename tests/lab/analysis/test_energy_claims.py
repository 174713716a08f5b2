"""Planted shapes of energy are found, and where none is none is found."""

import math

import numpy as np
import pytest
import torch
from known_effects import SIZE, radius_squared, sombrero, summary_of, within

from u1_plugin.lab.analysis.judging import claim_verdict, judge
from u1_plugin.lab.analysis.verdicts import concentration_tests, sombrero_tests
from u1_plugin.measure.accumulators import EnergyAccumulator
from u1_plugin.measure.profile import (
    concentration,
    make_rings,
    rotational_symmetry,
    symmetry,
)
from u1_plugin.measure.sombrero import fit_sombrero


def test_share_of_a_disc_is_exact():
    inside = radius_squared() <= 0.25
    relative = torch.where(inside, 3.0, 1.0).double()
    found = concentration(summary_of(relative, 50, 0))
    share = float(relative[inside].sum() / relative.sum())
    assert math.isclose(found.uniform, inside.double().mean())
    assert abs(found.share - share) < 0.01
    assert found.excess.low < share - found.uniform < found.excess.high


def test_planted_sombrero_is_found_and_its_intervals_cover():
    truth = sombrero(3.0, 4.0, 2.0)
    expected = np.array([3.0, 4.0, 2.0]) / float(truth.mean())
    hits, n = np.zeros(3), 250
    for seed in range(n):
        fit = fit_sombrero(summary_of(truth, 30, seed))
        for k, own in enumerate((fit.a, fit.b, fit.c)):
            hits[k] += own.low < expected[k] < own.high
    assert all(within(share, 0.95, n) for share in hits / n)
    assert abs(fit.ring_radius - math.sqrt(4 / 6)) < 0.01
    assert fit.r2 > 0.95 and fit.rings == len(make_rings(14, 14, 16).pixels)
    radius = np.array([0.0, 0.5])
    np.testing.assert_allclose(
        fit.curve_error(radius)[0], math.sqrt(fit.covariance[2, 2])
    )


def verdicts(tests) -> dict:
    findings = judge({'l': tests})
    return {
        claim: claim_verdict([f for f in findings if f.test.claim == claim])
        for claim in {test.claim for test in tests}
    }


@pytest.mark.parametrize(
    'mean_map, c1, c2',
    [
        (sombrero(4.0, 4.0, 2.0), 'supported', 'supported'),
        # Its brim is there, and too low to count.
        (sombrero(3.0, 4.5, 2.5), 'supported', 'not supported'),
        # Falls all the way: no trough within the map.
        (sombrero(0.0, 1.5, 2.0), 'supported', 'not supported'),
        # Upside down.
        (sombrero(-3.0, -4.0, 1.0), 'not supported', 'not supported'),
        (1.0 + radius_squared(), 'not supported', 'not supported'),
    ],
)
def test_energy_claims_on_planted_maps(mean_map, c1, c2):
    summary = summary_of(mean_map, 200, 0)
    found = verdicts(concentration_tests(summary) + sombrero_tests(summary))
    assert found == {'C1': c1, 'C2': c2}


def test_energy_beside_the_axis_is_not_symmetric():
    x = torch.arange(SIZE, dtype=torch.float64) - 3
    mean_map = 1 + torch.exp(-(x**2 + x[:, None] ** 2) / 8)
    findings = judge({'l': concentration_tests(summary_of(mean_map, 200, 0))})
    by_aspect = {finding.test.aspect: finding for finding in findings}
    assert by_aspect['symmetric'].verdict == 'not supported'


def test_a_poor_fit_is_objected_to():
    """A sinusoid has significant coefficients and no Sombrero's shape."""
    radius = radius_squared().sqrt()
    mean_map = 2 + (8 * math.pi * radius).cos() - 0.3 * radius
    (peak, *_) = sombrero_tests(summary_of(mean_map, 200, 0))
    assert 'explains' in peak.objection
    assert judge({'l': [peak]})[0].verdict == 'not supported'


def test_small_maps_and_few_images_decide_nothing():
    small = EnergyAccumulator()
    small.update(torch.rand(100, 4, 4))
    few = EnergyAccumulator()
    few.update(torch.rand(5, 14, 14))
    tests = sombrero_tests(small.summary()), sombrero_tests(few.summary())
    assert '3 ring(s)' in tests[0][0].obstacle
    assert '5 images' in tests[1][0].obstacle
    point = EnergyAccumulator()
    point.update(torch.rand(30, 1, 1))
    c1 = concentration_tests(point.summary())
    c2 = sombrero_tests(point.summary())
    findings = judge({'a': c1, 'b': c2, 'c': tests[0], 'd': tests[1]})
    assert {finding.verdict for finding in findings} == {'undecided'}
    assert all(math.isnan(finding.corrected) for finding in findings)
    with pytest.raises(ValueError, match='1x1 has 1 ring'):
        fit_sombrero(point.summary())


def test_equal_images_say_nothing_of_the_spread():
    total = EnergyAccumulator()
    total.update(sombrero(3.0, 4.0, 2.0).repeat(50, 1, 1))
    findings = judge({'l': concentration_tests(total.summary())})
    assert math.isnan(findings[0].test.estimate.pvalue)
    assert {finding.verdict for finding in findings} == {'undecided'}


def test_false_positives_of_the_energy_tests():
    """1,000 data sets of noise: each test errs as often as it says."""
    n, generator = 1000, torch.Generator().manual_seed(0)
    wrong = np.zeros(4)
    for _ in range(n):
        total = EnergyAccumulator()
        total.update(torch.rand(40, 8, 8, generator=generator) + 0.5)
        summary = total.summary()
        fit = fit_sombrero(summary)
        excess = concentration(summary).excess
        for k, own in enumerate((excess, fit.a, fit.b, fit.rim)):
            wrong[k] += own.pvalue < 0.05
    assert all(within(rate, 0.05, n) for rate in wrong / n), wrong


def test_false_positives_of_the_symmetry_test():
    """At the boundary, a score of 1/2: symmetric part 5/8 of the variance."""
    x = torch.arange(8.0, dtype=torch.float64) - 3.5
    even = torch.exp(-3 * radius_squared(8))
    even, odd = even - even.mean(), x.expand(8, 8)
    mean_map = 1 + 0.3 * (
        math.sqrt(5) * even / even.norm() + math.sqrt(3) * odd / odd.norm()
    )
    assert math.isclose(rotational_symmetry(mean_map), 0.5, abs_tol=1e-9)
    found = [
        symmetry(summary_of(mean_map, 200, seed, 0.05)) for seed in range(300)
    ]
    wrong = np.mean([own.pvalue < 0.05 for own in found])
    covered = np.mean([own.low < 0.5 < own.high for own in found])
    assert within(wrong, 0.05, 300) and within(covered, 0.95, 300)
