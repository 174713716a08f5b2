"""Each threshold of the verdicts on angles holds at its boundary."""

import math

import numpy as np
import pytest
import torch

from u1_plugin.lab.analysis.judging import ClaimTest, judge
from u1_plugin.lab.analysis.verdicts import angle_tests
from u1_plugin.measure import AngleAccumulator
from u1_plugin.measure.circular_tests import summarize_class_angles
from u1_plugin.measure.correlations import fisher_lee_correlation
from u1_plugin.measure.information import class_dependence, occupied_bins


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
            ClaimTest(
                'C3',
                f'angle depends on class, {plane} plane',
                'mutual information with the class, adjusted for chance',
                60,
                found.information_share,
                0.01,
            ),
            ClaimTest(
                'C3',
                f'class means differ, {plane} plane',
                'variance of left-out images that class angles explain',
                60,
                found.between_share,
                0.01,
            ),
        ]
    assert tests[4:] == [
        ClaimTest(
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


@pytest.mark.parametrize('turn', range(0, 10, 3))
def test_differences_within_a_bin_are_not_refuted(turn):
    """Five classes a degree and a half apart: wherever the bins' edges lie."""
    rng = np.random.default_rng(0)
    labels = torch.arange(200) % 5
    theta = np.deg2rad(41 + turn + 1.5 * labels + rng.normal(0, 0.2, 200))
    moments = torch.stack([theta.cos(), theta.sin()], 1)
    accumulator = AngleAccumulator(5)
    accumulator.update(moments, labels)
    summary = accumulator.summary()
    assert summary.length.min() > 0.99999 > summary.shared_length
    assert occupied_bins(summary.table) < 4
    for finding in judge({'last': angle_tests({'image': summary}, 999)}):
        assert finding.verdict != 'not supported'
        if finding.verdict == 'undecided':
            assert 'fewer than 4 bins' in finding.test.remark


def test_angles_all_around_that_know_no_class_are_refuted():
    rng = np.random.default_rng(0)
    theta = torch.from_numpy(rng.uniform(-math.pi, math.pi, 20_000))
    accumulator = AngleAccumulator(5)
    moments = torch.stack([theta.cos(), theta.sin()], 1)
    accumulator.update(moments, torch.arange(20_000) % 5)
    summary = accumulator.summary()
    assert occupied_bins(summary.table) > 30
    for finding in judge({'last': angle_tests({'image': summary}, 999)}):
        assert finding.verdict == 'not supported'
