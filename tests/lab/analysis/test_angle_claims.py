"""Planted class angles are found, and where none are none is found."""

import numpy as np
import pytest
from known_effects import angle_summary, planted, within
from scipy import stats

from u1_plugin.lab.analysis.judging import claim_verdict, judge
from u1_plugin.lab.analysis.verdicts import angle_tests
from u1_plugin.measure.circular_tests import rayleigh_pvalue
from u1_plugin.measure.correlations import fisher_lee_correlation
from u1_plugin.measure.information import class_dependence


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
    assert within(wrong[0] / n, 0.05, n), wrong
    # That of the means is the larger of two p-values.
    assert wrong[1] <= wrong[0], wrong


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
        [fisher_lee_correlation(a, b, 99, 2).pvalue for a, b in angles]
    )
    assert within((pvalues <= 0.05).mean(), 0.05, 1000)


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


def test_one_image_a_class_decides_nothing_of_the_means():
    rng, labels = np.random.default_rng(0), np.arange(100)
    alone = angle_summary(rng.uniform(-3, 3, 100), labels, 100)
    more = angle_summary(rng.uniform(-3, 3, 105), np.arange(105) % 100, 100)
    for summary, words in (
        (alone, '0 classes of two images or more; 2 are needed'),
        (more, '10 images; at least 20 are needed'),
    ):
        _, means = judge({'l': angle_tests({'image': summary}, 99)})
        assert means.verdict == 'undecided'
        assert words in means.row()['remark']


def test_correction_grows_with_the_number_of_layers():
    tests = angle_tests({'feature': planted(0.05, 400)}, 999)
    alone = judge({'l': tests})
    many = judge({f'l{k}': tests for k in range(20)})
    assert many[0].corrected >= alone[0].corrected
    assert len(many) == 40 and many[-1].layer == 'l19'
