"""Every threshold and every word of a verdict, at its boundary."""

import math

import numpy as np
import pytest

from u1_plugin.lab.analysis.judging import Finding, Test, claim_verdict, judge
from u1_plugin.lab.analysis.verdicts import (
    angle_tests,
    concentration_tests,
    sombrero_tests,
)
from u1_plugin.measure.circular_tests import holm, summarize_class_angles
from u1_plugin.measure.correlations import fisher_lee_correlation
from u1_plugin.measure.estimate import Estimate
from u1_plugin.measure.information import class_dependence
from u1_plugin.measure.profile import (
    EnergySummary,
    Rings,
    concentration,
    symmetry,
)
from u1_plugin.measure.sombrero import fit_sombrero, heights
from u1_plugin.measure.without_noise import highest_symmetry

CLEAR = Estimate(0.8, 0.7, 0.9, 0.001)


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


# Where the energy lies


def test_what_is_asked_of_the_energy():
    summary = energy_summary()
    near, turned = concentration_tests(summary)
    assert near == Test(
        'C1',
        'concentrated',
        'share of energy within r = 0.5, less the uniform share',
        40,
        concentration(summary, 0.5).excess,
        0.01,
    )
    assert turned == Test(
        'C1',
        'symmetric',
        'correlation of the mean map with its quarter turns',
        40,
        symmetry(summary, 0.5),
        0.5,
        highest=highest_symmetry(summary.group_maps, summary.group_sizes),
    )
    wider = concentration_tests(summary, 0.8)[0]
    assert wider.estimate == concentration(summary, 0.8).excess
    assert 'within r = 0.8' in wider.statistic
    fit = fit_sombrero(summary)
    found = heights(summary, fit)
    above = 'above the trough, in uniform densities'
    assert sombrero_tests(summary) == [
        Test(
            'C2',
            'crown',
            f'energy at the axis {above}',
            40,
            found.crown._replace(pvalue=max(found.crown.pvalue, fit.b.pvalue)),
            0.1,
        ),
        Test('C2', 'quartic', 'a', 40, fit.a),
        Test(
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


# Angles


def angle_summary(classes=6, n=60, seed=0):
    """Classes of different angles, the same number of images each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    theta = rng.vonmises(0.9 * labels, 3.0)
    sums = [np.ones(n), np.cos(theta), np.sin(theta)]
    sums += [np.cos(2 * theta), np.sin(2 * theta)]
    one_hot = labels[:, None] == np.arange(classes)
    cells = ((theta + np.pi) / (2 * np.pi) * 12).astype(int) % 12
    table = one_hot.T.astype(float) @ np.eye(12)[cells]
    return summarize_class_angles(one_hot.T @ np.stack(sums, 1), table)


def test_what_is_asked_of_the_angles():
    first, second = angle_summary(), angle_summary(seed=1)
    tests = angle_tests({'feature': first, 'image': second}, 99, seed=3)
    for plane, summary, own in (
        ('feature', first, tests[:2]),
        ('image', second, tests[2:4]),
    ):
        found = class_dependence(summary.table, 99, seed=3)
        assert own == [
            Test(
                'C3',
                f'angle depends on class, {plane} plane',
                'mutual information with the class, adjusted for chance',
                60,
                found.information_share,
                0.01,
            ),
            Test(
                'C3',
                f'class means differ, {plane} plane',
                'circular variance between classes, adjusted for chance',
                60,
                found.between_share,
                0.01,
            ),
        ]
    assert tests[4:] == [
        Test(
            'C3',
            'planes agree',
            "Fisher and Lee's correlation of the classes' means in both planes",
            6,
            fisher_lee_correlation(first.mean, second.mean, 99, seed=3),
            0.1,
            either=True,
        )
    ]
    alone = angle_tests({'feature': first}, 99, seed=3)
    assert alone == tests[:2]
    assert angle_tests({'feature': first}) == angle_tests(
        {'feature': first}, 9999, 0
    )


@pytest.mark.parametrize('classes', [1, 2])
def test_two_classes_can_differ(classes):
    tests = angle_tests({'image': angle_summary(classes)}, 9)
    expected = 'images of one class only' if classes == 1 else None
    assert [test.obstacle for test in tests] == [expected] * 2


def test_an_empty_class_is_none():
    """Two classes are named, and one has images."""
    summary = angle_summary(2)
    table, count = summary.table.copy(), summary.count.copy()
    table[1] = count[1] = 0
    tests = angle_tests(
        {'image': summary._replace(table=table, count=count)}, 9
    )
    assert tests[0].obstacle == 'images of one class only'


@pytest.mark.parametrize('n', [19, 20])
def test_twenty_images_of_angles_decide(n):
    planes = {'feature': angle_summary(5, 40), 'image': angle_summary(5, n)}
    few = f'{n} images; at least 20 are needed' if n < 20 else None
    for order in (planes, dict(reversed(planes.items()))):
        tests = angle_tests(order, 9)
        by_plane = {t.aspect.rpartition(', ')[2]: t.obstacle for t in tests}
        assert by_plane == {
            'feature plane': None,
            'image plane': few,
            'planes agree': few,
        }


@pytest.mark.parametrize('classes', [4, 5])
def test_five_classes_can_agree(classes):
    planes = {
        'feature': angle_summary(classes),
        'image': angle_summary(classes),
    }
    agree = angle_tests(planes, 9)[-1]
    assert agree.n == classes
    expected = f'{classes} classes; at least 5 are needed'
    assert agree.obstacle == (expected if classes < 5 else None)
    # A class that has an angle in one plane alone counts in neither.
    planes['image'].mean[0] = math.nan
    assert angle_tests(planes, 9)[-1].n == classes - 1
    planes['feature'].mean[1] = math.nan
    assert angle_tests(planes, 9)[-1].n == classes - 2


@pytest.mark.parametrize('sign', [1, -1])
def test_planes_may_agree_either_way(sign):
    """And what agrees less than counts is no agreement."""
    rng = np.random.default_rng(0)
    theta = rng.uniform(-math.pi, math.pi, (2, 500))
    first = angle_summary(2)._replace(mean=theta[0])

    def agreement(mean):
        # The images' table is not what is asked for here.
        planes = dict(feature=first, image=first._replace(mean=mean))
        return judge({'l': angle_tests(planes, 199)[-1:]})[0]

    turned = agreement(sign * theta[0] + 1)
    assert turned.verdict == 'supported'
    assert sign * turned.test.estimate.value > 0.9
    assert agreement(theta[1]).verdict == 'not supported'
    little = np.where(np.arange(500) < 125, sign * theta[0], theta[1])
    found = agreement(little)
    assert found.test.most < 0.1 < 4 * found.test.size or (
        found.verdict != 'supported'
    )


# Verdicts


def test(estimate=CLEAR, **options) -> Test:
    return Test('C1', 'aspect', 'name', 40, estimate, **options)


_BELOW = Estimate(-0.8, -0.9, -0.7, 0.001)
test.__test__ = False  # a maker of tests and none itself


@pytest.mark.parametrize(
    'own, verdict',
    [
        (test(), 'supported'),
        (test(obstacle='few'), 'undecided'),
        (test(objection='no'), 'not supported'),
        (test(obstacle='few', objection='no'), 'undecided'),
        (test(highest=0.7, least=0.8), 'not supported'),
        (test(highest=0.92, least=0.91), 'undecided'),
        (test(highest=math.nan, least=0.91), 'undecided'),
        (test(doubt='perhaps'), 'undecided'),
        (test(doubt='perhaps', least=0.91), 'not supported'),
        (test(doubt='perhaps', objection='no'), 'not supported'),
        (test(CLEAR._replace(value=math.nan)), 'undecided'),
        (test(CLEAR._replace(pvalue=0.2)), 'undecided'),
        (test(CLEAR._replace(pvalue=math.nan)), 'undecided'),
        (test(least=0.8), 'supported'),
        (test(least=0.81), 'undecided'),
        (test(least=0.9), 'undecided'),
        (test(least=0.91), 'not supported'),
        (test(Estimate(-0.8, -0.9, -0.7, 0.001)), 'not supported'),
        (test(_BELOW, either=True, least=0.8), 'supported'),
        (test(_BELOW, either=True, least=0.81), 'undecided'),
        (test(_BELOW, either=True, least=0.91), 'not supported'),
        (test(Estimate(-0.5, -0.9, -0.001, 0.99)), 'not supported'),
        (test(Estimate(-0.5, -0.9, 0.0, 0.99)), 'undecided'),
    ],
)
def test_a_verdict_on_one_test(own, verdict):
    (found,) = judge({'layer': [own]})
    assert found.verdict == verdict
    assert (found.layer, found.test) == ('layer', own)
    if own.obstacle:
        assert math.isnan(found.corrected)
    else:
        np.testing.assert_equal(found.corrected, own.estimate.pvalue)


@pytest.mark.parametrize(
    'pvalue, alpha, verdict',
    [
        (0.049, 0.05, 'supported'),
        (0.05, 0.05, 'undecided'),
        (0.05, 0.06, 'supported'),
        (0.009, 0.01, 'supported'),
    ],
)
def test_the_level_itself_supports_nothing(pvalue, alpha, verdict):
    tests = {'l': [test(CLEAR._replace(pvalue=pvalue))]}
    assert judge(tests, alpha)[0].verdict == verdict
    if alpha == 0.05:
        assert judge(tests) == judge(tests, alpha)


@pytest.mark.parametrize('alpha', [None, 0, 1, '0.05'])
def test_a_level_is_a_chance(alpha):
    for tests in ({}, {'l': [test(CLEAR)]}):
        with pytest.raises(ValueError, match='alpha=.* > 0 and < 1'):
            judge(tests, alpha)


@pytest.mark.parametrize(
    'options', [dict(permutations=0), dict(resamples=1), dict(seed=None)]
)
def test_options_of_permutations(options):
    (name,) = options
    with pytest.raises(ValueError, match=f'{name}=.* must be'):
        class_dependence(np.eye(2, 3, dtype=int), **options)


@pytest.mark.parametrize(
    'table',
    [np.ones(3), -np.ones((2, 3)), np.full((2, 3), np.nan)]
    + [np.array([[1, 2], [-1, 3]]), np.array([[1, 2], [np.inf, 3]])]
    + [np.array([[1, 2], [np.nan, 3]]), np.ones((2, 3), bool)],
)
def test_what_counts_nothing(table):
    with pytest.raises(ValueError, match='table=.* counts >= 0'):
        class_dependence(table, 9)


def test_all_layers_are_corrected_together_but_for_what_is_undecidable():
    pvalues = dict(a=(0.01, 0.04), b=(0.02,))
    tests = {
        layer: [test(CLEAR._replace(pvalue=p)) for p in own]
        for layer, own in pvalues.items()
    }
    tests['b'].insert(0, test(CLEAR._replace(pvalue=1e-9), obstacle='few'))
    found = judge(tests)
    assert [finding.layer for finding in found] == ['a', 'a', 'b', 'b']
    expected = holm(np.array([0.01, 0.04, math.nan, 0.02]))
    np.testing.assert_allclose([f.corrected for f in found], expected)
    np.testing.assert_allclose(expected, [0.03, 0.04, math.nan, 0.04])
    assert all(isinstance(f.corrected, float) for f in found)


def finding(verdict: str) -> Finding:
    return Finding('l', test(), 0.01, verdict)


@pytest.mark.parametrize(
    'verdicts, whole',
    [
        (['supported'], 'supported'),
        (['supported', 'supported'], 'supported'),
        (['supported', 'undecided'], 'undecided'),
        (['undecided'], 'undecided'),
        (['supported', 'not supported'], 'not supported'),
        (['undecided', 'not supported'], 'not supported'),
        ([], 'undecided'),
    ],
)
def test_a_claim_holds_where_all_aspects_do(verdicts, whole):
    assert claim_verdict([finding(verdict) for verdict in verdicts]) == whole


def test_a_row_tells_all():
    own = test(least=0.3)
    row = Finding('layer1', own, 0.02, 'supported').row()
    assert row == dict(
        layer='layer1',
        claim='C1',
        aspect='aspect',
        verdict='supported',
        n=40,
        statistic='name',
        value=0.8,
        low=0.7,
        high=0.9,
        least=0.3,
        pvalue=0.001,
        corrected=0.02,
        remark='',
    )
    both = test(obstacle='few', objection='no')
    assert Finding('l', both, 0.1, 'undecided').row()['remark'] == 'few'
    no = test(objection='no')
    assert Finding('l', no, 0.1, 'not supported').row()['remark'] == 'no'
    perhaps = test(doubt='perhaps')
    assert Finding('l', perhaps, 0.1, 'undecided').row()['remark'] == 'perhaps'
