"""Fisher and Lee's correlation of angles: definition, laws and null."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from u1_plugin.measure import fisher_lee_correlation

SAMPLES = dict(seed=st.integers(0, 10**6), count=st.integers(4, 30))
TURN = st.floats(-10, 10)


def pair(seed: int, count: int) -> tuple:
    """Angles all around the circle, and others that lean on them."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(-math.pi, math.pi, count)
    return first, first + rng.vonmises(0.4, 1.5, count)


def found(first, second, permutations: int = 1) -> float:
    return fisher_lee_correlation(first, second, permutations, 2).value


def by_definition(first, second) -> float:
    """Sums over the pairs of pairs: Fisher and Lee, eq. 2."""
    above = np.triu_indices(len(first), 1)
    a, b = (np.sin(t[:, None] - t)[above] for t in (first, second))
    return (a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum())


@given(**SAMPLES)
def test_definition(seed, count):
    first, second = pair(seed, count)
    assert found(first, second) == pytest.approx(by_definition(first, second))


@given(**SAMPLES, turn=TURN, other=TURN)
def test_turning_either_changes_nothing(seed, count, turn, other):
    first, second = pair(seed, count)
    turned = found(first + turn, second + other)
    assert turned == pytest.approx(found(first, second), abs=1e-7)


@given(**SAMPLES)
def test_a_mirror_changes_the_sign(seed, count):
    first, second = pair(seed, count)
    assert found(-first, second) == pytest.approx(-found(first, second))
    assert found(-first, -second) == pytest.approx(found(first, second))


@given(**SAMPLES, turn=TURN)
def test_equal_angles(seed, count, turn):
    first, _ = pair(seed, count)
    assert found(first, first + turn) == pytest.approx(1, abs=1e-7)
    assert found(first, turn - first) == pytest.approx(-1, abs=1e-7)


@given(**SAMPLES)
def test_it_is_symmetric_and_bounded(seed, count):
    first, second = pair(seed, count)
    assert found(first, second) == pytest.approx(found(second, first))
    assert abs(found(first, second)) <= 1


def test_pvalues_are_uniform_where_nothing_agrees():
    rng = np.random.default_rng(0)
    draws = 400
    pvalues = [
        fisher_lee_correlation(*angles, 199, 2).pvalue
        for angles in rng.uniform(-math.pi, math.pi, (draws, 2, 8))
    ]
    assert stats.kstest(pvalues, 'uniform').pvalue > 1e-3


def test_it_sees_what_has_no_mean_direction():
    """Class angles all around the circle."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        first = 2 * math.pi * np.arange(10) / 10
        second = first + rng.vonmises(0, 3.0, 10)
        hits += fisher_lee_correlation(first, second, 99, 2).pvalue <= 0.05
    assert hits > 80


def exact_pvalue(first, second) -> float:
    """Share of all pairings that correlate as much, either way."""
    value = abs(by_definition(first, second))
    others = [
        abs(by_definition(first, second[list(order)]))
        for order in itertools.permutations(range(len(first)))
    ]
    return np.mean(np.array(others) >= value - 1e-9)


@pytest.mark.parametrize('seed', range(3))
def test_pvalue_by_permutation(seed):
    first, second = pair(seed, 5)
    once, again = (
        fisher_lee_correlation(first, second, 20_000, 2, seed).pvalue
        for _ in range(2)
    )
    # Four standard errors of 20,000 draws.
    assert once == pytest.approx(exact_pvalue(first, second), abs=0.015)
    assert once == again


def test_pairings_that_change_nothing_tie():
    # Equal angles: several orders give the very value, but for rounding.
    first = np.array([0.1, 0.1, 0.7, 0.7, 1.9, 1.9])
    second = np.array([0.3, 0.3, 0.9, 0.9, 2.1, 2.1]) / 3
    expected = exact_pvalue(first, second)
    assert expected > 5 / 720  # at least 2^3 of 720 orders
    own = fisher_lee_correlation(first, second, 20_000, 2)
    assert own.pvalue == pytest.approx(expected, abs=0.005)


def test_the_smallest_pvalue():
    first = np.linspace(-1, 1, 30)
    for sign in (1, -1):
        own = fisher_lee_correlation(first, sign * first, 199, 9)
        assert own.value == pytest.approx(sign) and own.pvalue == 1 / 200
        assert own.low <= own.high <= 1


def test_few_pairs_and_one_angle():
    first, second = pair(0, 6)
    hole = np.where(np.arange(6) < 3, np.nan, second)
    assert np.isnan(fisher_lee_correlation(first, hole)).all()
    assert found(first, np.ones(6)) == 0
    with pytest.raises(ValueError, match=r'\(6,\) and \(5,\)'):
        found(first, second[:5])
    with pytest.raises(ValueError, match='permutations=0 must be'):
        fisher_lee_correlation(first, second, 0)
    with pytest.raises(ValueError, match='resamples=1 must be'):
        fisher_lee_correlation(first, second, 9, 1)
    with pytest.raises(ValueError, match='seed=-1 must be'):
        fisher_lee_correlation(first, second, 9, 2, -1)
    with pytest.raises(ValueError, match='second='):
        fisher_lee_correlation(first, [0.0] * 6)


def test_the_interval_holds_the_truth():
    """Against the value of many pairs of the same law."""
    truth = found(*pair(0, 20_000))
    inside = 0
    for seed in range(100):
        own = fisher_lee_correlation(*pair(seed + 1, 60), 1, 200)
        inside += own.low < truth < own.high
    # 95 % but for the percentiles' own error of 60 pairs.
    assert inside >= 85


def test_infinite_angles_are_refused():
    first, second = pair(0, 9)
    first[3] = np.inf
    with pytest.raises(ValueError, match='first holds infinite angles'):
        fisher_lee_correlation(first, second, 9)
    first[3] = np.nan  # unknown, and left out
    assert 0 < fisher_lee_correlation(first, second, 9).pvalue <= 1
