"""A planted effect is found, none is not: claim by claim, on known data."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score
from statsmodels.stats.multitest import multipletests

from u1_plugin.geometry import circular_correlation as correlation_of_tensors
from u1_plugin.lab.analysis.judging import claim_verdict, judge
from u1_plugin.lab.analysis.verdicts import (
    angle_tests,
    concentration_tests,
    sombrero_tests,
)
from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.circular_tests import holm, rayleigh_pvalue
from u1_plugin.measure.correlations import circular_correlation
from u1_plugin.measure.information import (
    _drawn,
    bootstrap,
    class_dependence,
    mutual_information,
    permutation_null,
    table_between_share,
)
from u1_plugin.measure.profile import (
    concentration,
    make_rings,
    rotational_symmetry,
    symmetry,
)
from u1_plugin.measure.sombrero import fit_sombrero

SIZE = 14


def radius_squared(size: int = SIZE) -> torch.Tensor:
    """In half diagonals."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return (axis**2 + axis[:, None] ** 2) / (size**2 / 2)


def sombrero(a: float, b: float, c: float) -> torch.Tensor:
    square = radius_squared()
    return a * square**2 - b * square + c


def summary_of(mean_map: torch.Tensor, n: int, seed: int, noise: float = 0.1):
    """Images whose mean relative energy is exactly that of the map.

    The noise sums to 0 over each image, so that its total stays known.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(n, *mean_map.shape, generator=generator).double()
    spread = spread - spread.mean((1, 2), keepdim=True)
    total = EnergyAccumulator()
    total.update(mean_map / mean_map.mean() + noise * spread.clamp(-3, 3))
    return total.summary()


def angle_summary(theta: np.ndarray, labels: np.ndarray, classes: int):
    theta = torch.from_numpy(theta)
    total = AngleAccumulator(classes)
    total.update(
        torch.stack([theta.cos(), theta.sin()], 1), torch.from_numpy(labels)
    )
    return total.summary()


def within(rate: float, expected: float, n: int) -> bool:
    """Four standard errors of a share of n."""
    return abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


# Where the energy lies


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


# Angles


def test_mutual_information_is_sklearns():
    rng = np.random.default_rng(0)
    tables = rng.poisson(1.0, (20, 6, 9)).astype(float)
    tables[0, 2] = 0
    expected = [
        mutual_info_score(None, None, contingency=table) for table in tables
    ]
    np.testing.assert_allclose(mutual_information(tables), expected, atol=1e-12)


def test_permutations_keep_the_margins_and_the_mean():
    """Against permuting the labels themselves."""
    rng = np.random.default_rng(0)
    labels, cells = rng.integers(4, size=150), rng.integers(6, size=150)

    def table(labels):
        return np.bincount(labels * 6 + cells, minlength=24).reshape(4, 6)

    null = permutation_null(table(labels), 4000, rng)
    naive = np.array(
        [
            mutual_information(table(rng.permutation(labels)).astype(float))
            for _ in range(4000)
        ]
    )
    error = math.sqrt(2) * naive.std() / math.sqrt(4000)
    assert abs(null[:, 0].mean() - naive.mean()) < 4 * error
    assert stats.ks_2samp(null[:, 0], naive).pvalue > 1e-4


def test_false_positives_of_the_angle_tests():
    """1,000 data sets whose angles know nothing of the class."""
    rng, n = np.random.default_rng(0), 1000
    labels = np.arange(120) % 6
    # Not uniform: a shared angle, which is no dependence on the class.
    theta = rng.vonmises(1.0, 1.5, (n, 120))
    cells = ((theta / (2 * np.pi) + 0.5) * 12).astype(int).clip(0, 11)
    wrong = np.zeros(2)
    for own in cells:
        table = np.bincount(labels * 12 + own, minlength=72).reshape(6, 12)
        found = class_dependence(table.astype(float), 99, 2)
        wrong[0] += found.information_share.pvalue <= 0.05
        wrong[1] += found.between_share.pvalue <= 0.05
    assert all(within(rate, 0.05, n) for rate in wrong / n), wrong


@pytest.mark.parametrize('count', [10, 200])
def test_false_positives_of_rayleigh(count):
    theta = np.random.default_rng(0).uniform(-np.pi, np.pi, (1000, count))
    length = abs(np.exp(1j * theta).mean(1))
    pvalues = rayleigh_pvalue(np.full(1000, count), length)
    assert within((pvalues < 0.05).mean(), 0.05, 1000)
    assert stats.kstest(pvalues, 'uniform').pvalue > 1e-4


def test_false_positives_of_the_agreement():
    rng = np.random.default_rng(0)
    angles = rng.uniform(-np.pi, np.pi, (1000, 2, 10))
    pvalues = np.array(
        [circular_correlation(a, b, 99).pvalue for a, b in angles]
    )
    assert within((pvalues <= 0.05).mean(), 0.05, 1000)


def test_agreement_is_the_correlation_of_the_geometry():
    rng = np.random.default_rng(0)
    first = rng.uniform(-np.pi, np.pi, 12)
    second = np.angle(np.exp(1j * (first + 0.3 * rng.normal(size=12) + 2)))
    found = circular_correlation(first, second, 999)
    expected = correlation_of_tensors(
        torch.from_numpy(first), torch.from_numpy(second)
    )
    assert math.isclose(found.value, float(expected), abs_tol=1e-9)
    assert found.pvalue == 1 / 1000 and found.low < found.value < found.high
    with_nan = circular_correlation(
        np.append(first, np.nan), np.append(second, 1.0), 999
    )
    assert math.isclose(with_nan.value, found.value)
    assert math.isnan(circular_correlation(first[:3], second[:3], 9).value)
    mirrored = circular_correlation(first, -second, 999)
    assert math.isclose(mirrored.value, -found.value, abs_tol=1e-12)
    assert mirrored.pvalue == found.pvalue


def test_holm_is_statsmodels_and_leaves_out_what_was_not_tested():
    pvalues = np.random.default_rng(0).uniform(size=30) ** 3
    expected = multipletests(pvalues, method='holm')[1]
    np.testing.assert_allclose(holm(pvalues), expected)
    found = holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(found, [0.02, np.nan, 0.04])
    assert np.isnan(holm(np.array([np.nan]))).all()


def planted(spread: float, n: int = 2000, seed: int = 0):
    """Ten classes whose mean angles are ``spread`` radians apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    theta = rng.vonmises(0.0, 4.0, n) + labels * spread
    return angle_summary(theta, labels, 10)


def test_planted_class_angles_are_found():
    planes = {'feature': planted(0.6), 'image': planted(0.6, seed=1)}
    findings = judge({'l': angle_tests(planes)})
    assert [finding.verdict for finding in findings] == ['supported'] * 5
    assert claim_verdict(findings) == 'supported'
    assert all(f.corrected >= f.test.estimate.pvalue for f in findings)


def test_a_shared_angle_is_no_broken_symmetry():
    """R is 0.86 in every class, and nothing depends on the class."""
    shared = planted(0.0, n=20000)
    assert shared.resultant_length > 0.8 and (shared.corrected < 1e-9).all()
    tests = angle_tests({'feature': shared})
    assert claim_verdict(judge({'l': tests})) == 'not supported'


def test_a_dependence_without_different_means_is_named():
    """Classes that differ in spread alone have no angle of their own."""
    rng, labels = np.random.default_rng(0), np.arange(20000) % 2
    kappa = np.array([1.0, 8.0])[labels]
    theta = rng.vonmises(0.5, kappa)
    depends, differ = judge(
        {'l': angle_tests({'feature': angle_summary(theta, labels, 2)})}
    )
    assert depends.verdict == 'supported' and differ.verdict == 'not supported'


def test_one_class_or_few_images_decide_nothing():
    rng = np.random.default_rng(0)
    one = angle_summary(rng.uniform(-3, 3, 100), np.zeros(100, int), 10)
    few = planted(0.6, n=12)
    findings = judge(
        {'a': angle_tests({'feature': one}), 'b': angle_tests({'image': few})}
    )
    assert {finding.verdict for finding in findings} == {'undecided'}
    assert findings[0].row()['remark'] == 'images of one class only'
    assert '12 images' in findings[2].row()['remark']


def test_the_interval_of_the_dependence_holds_the_truth():
    """Against the same estimate from a hundred times the images."""
    truth = class_dependence(planted(0.3, 200_000).table, 9, 2)
    hits = []
    for seed in range(60):
        found = class_dependence(planted(0.3, 2000, seed).table, 49, 60)
        hits.append(
            [
                own.low < expected.value < own.high
                for own, expected in (
                    (found.information_share, truth.information_share),
                    (found.between_share, truth.between_share),
                )
            ]
        )
    # 95 % but for the bias of the information, towards 0.
    assert (np.mean(hits, 0) > 0.8).all(), np.mean(hits, 0)


def test_the_adjusted_information_is_sklearns():
    """Where the labels' entropy is the smaller one."""
    table = planted(0.3, 500).table[:3]
    found = class_dependence(table, 4000, 2)
    labels, cells = (
        np.repeat(axis.ravel(), table.astype(int).ravel())
        for axis in np.indices(table.shape)
    )
    expected = adjusted_mutual_info_score(labels, cells, average_method='min')
    assert abs(found.information_share.value - expected) < 0.005


def test_the_interval_of_the_dependence_by_hand():
    """Normal, about what exceeds the permutations' mean, relative to all."""
    table = planted(0.1, 300).table[:4]
    found = class_dependence(table, 50, 40, 3)
    rng = np.random.default_rng(3)
    null, drawn = permutation_null(table, 50, rng), bootstrap(table, 40, rng)
    shares = table.sum(1) / table.sum()
    entropy = stats.entropy(shares)
    information = mutual_information(table)
    assert found.n == table.sum()
    np.testing.assert_allclose(
        found[1:4], [entropy, information, null[:, 0].mean()], rtol=1e-12
    )
    values = information, table_between_share(table)
    for k, (value, most) in enumerate(zip(values, (entropy, 1))):
        room = most - null[:, k].mean()
        share = (value - null[:, k].mean()) / room
        half = stats.norm.ppf(0.975) * drawn[:, k].std(ddof=1) / room
        pvalue = (1 + (null[:, k] >= value - 1e-12).sum()) / 51
        np.testing.assert_allclose(
            found[4 + k], (share, share - half, share + half, pvalue)
        )


def test_draws_of_the_dependence_are_as_many_as_the_signature_says():
    table = planted(0.1, 300).table
    assert class_dependence(table) == class_dependence(table, 999, 200, 0)
    assert class_dependence(table, 9) != class_dependence(table, 9, seed=1)


@pytest.mark.parametrize(
    'entries, sizes',
    [
        (2**21, [4, 4, 2]),
        (2**23 + 1, [1, 1, 1]),
        (2**22 + 1, [1] * 5),
        (360, [5]),
    ],
)
def test_tables_are_drawn_in_blocks_of_64_mebibytes(entries, sizes):
    asked = []

    def draw(size):
        asked.append(size)
        return np.ones((size, 2, 2))

    found = _drawn(sum(sizes), np.broadcast_to(0.0, entries), draw)
    assert asked == sizes and found.shape == (sum(sizes), 2)


def test_where_chance_says_all_nothing_is_beyond_it():
    """Each image has a class and a bin of its own, however they are dealt."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = class_dependence(np.eye(5, 7), 99)
    assert math.isclose(found.chance, found.entropy)
    assert math.isnan(found.information_share.value)
    assert math.isnan(found.information_share.low)
    assert found.information_share.pvalue == 1


def test_correction_grows_with_the_number_of_layers():
    tests = angle_tests({'feature': planted(0.05, 400)}, 999)
    alone = judge({'l': tests})
    many = judge({f'l{k}': tests for k in range(20)})
    assert many[0].corrected >= alone[0].corrected
    assert len(many) == 40 and many[-1].layer == 'l19'
