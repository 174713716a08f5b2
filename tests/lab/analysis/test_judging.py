"""Each word of a verdict follows its tests and their correction."""

import math

import numpy as np
import pytest

from u1_plugin.lab.analysis.judging import (
    ClaimTest,
    Finding,
    claim_verdict,
    judge,
)
from u1_plugin.measure.circular_tests import holm
from u1_plugin.measure.estimate import Estimate

CLEAR = Estimate(0.8, 0.7, 0.9, 0.001)


def test(estimate=CLEAR, **options) -> ClaimTest:
    return ClaimTest('C1', 'aspect', 'name', 40, estimate, **options)


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
