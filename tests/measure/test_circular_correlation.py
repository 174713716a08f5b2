"""The circular correlation has its value, its interval and its p value."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from u1_plugin.geometry import circular_correlation as correlation_of_tensors
from u1_plugin.measure.correlations import circular_correlation

Z = 1.959963984540054


def correlation(first, second) -> float:
    """Jammalamadaka and Topics in Circular Statistics, 8.2.2."""
    a, b = (np.sin(t - stats.circmean(t)) for t in (first, second))
    return (a * b).sum() / math.sqrt((a**2).sum() * (b**2).sum())


def pair(count, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.vonmises(0.5, 1.5, count)
    return first, first + rng.vonmises(0.3, 2.0, count)


@pytest.mark.parametrize('count', [4, 5, 12, 40])
def test_correlation_and_its_interval(count):
    first, second = pair(count)
    found = circular_correlation(first, second, 99)
    expected = correlation(first, second)
    assert found.value == pytest.approx(expected)
    half = Z / math.sqrt(count - 3)
    assert math.atanh(found.low) == pytest.approx(math.atanh(expected) - half)
    assert math.atanh(found.high) == pytest.approx(math.atanh(expected) + half)
    back = circular_correlation(first, -second, 99)
    assert back.value == pytest.approx(-expected)
    assert back.pvalue == found.pvalue


def test_correlation_of_few_pairs():
    first, second = pair(6)
    second[[1, 4]] = np.nan
    first[0] = np.nan
    found = circular_correlation(first, second, 99)
    assert np.isnan(found).all() and len(found) == 4  # three pairs are left
    first[0] = 0.2
    found = circular_correlation(first, second, 99)
    kept = [0, 2, 3, 5]
    assert found.value == pytest.approx(correlation(first[kept], second[kept]))


def exact_pvalue(first, second) -> float:
    """Share of all reassignments that correlate as much, either way."""
    value = abs(correlation(first, second))
    others = [
        abs(correlation(first, second[list(order)]))
        for order in itertools.permutations(range(len(first)))
    ]
    return np.mean(np.array(others) >= value - 1e-9)


@pytest.mark.parametrize('seed', range(4))
def test_correlation_by_permutation(seed):
    first, second = pair(5, seed)
    expected = exact_pvalue(first, second)
    found = circular_correlation(first, second, 20_000, seed).pvalue
    # Four standard errors of 20,000 draws.
    assert found == pytest.approx(expected, abs=0.015)
    assert found == circular_correlation(first, second, 20_000, seed).pvalue


def test_reassignments_that_change_nothing_tie():
    # Equal angles: half of all orders give the very value, but for rounding.
    first = np.array([0.1, 0.1, 0.7, 0.7, 1.9, 1.9])
    second = np.array([0.3, 0.3, 0.9, 0.9, 2.1, 2.1]) / 3
    expected = exact_pvalue(first, second)
    assert expected > 5 / 720  # at least 2^3 of 720 orders
    found = circular_correlation(first, second, 20_000).pvalue
    assert found == pytest.approx(expected, abs=0.005)


def test_the_smallest_pvalue():
    first = np.linspace(-1, 1, 30)
    found = circular_correlation(first, first, 199)
    assert found.value == pytest.approx(1) and found.pvalue == 1 / 200
    # atanh of 1 is infinite: the ends are those of 1 - 1e-12.
    half = Z / math.sqrt(27)
    assert found.low == pytest.approx(
        math.tanh(math.atanh(1 - 1e-12) - half), abs=1e-15
    )
    assert found.low < found.high <= 1
    opposite = circular_correlation(first, -first, 199)
    assert opposite.pvalue == 1 / 200
    assert opposite.high == pytest.approx(-found.low, abs=1e-15)


@pytest.mark.parametrize('spread, varies', [(0.0, False), (1e-5, True)])
def test_one_angle_correlates_with_nothing(spread, varies):
    first = 1 + spread * np.arange(5)
    _, second = pair(5)
    found = circular_correlation(first, second, 99)
    if varies:
        assert found.value == pytest.approx(correlation(first, second))
        assert found.pvalue >= 0.01
    else:
        assert found.value == 0 and np.isnan(found[1:]).all()


def test_one_angle_needs_no_exact_zero():
    first = 1 + 1e-13 * np.arange(5)
    _, second = pair(5)
    assert circular_correlation(first, second, 99).value == 0


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(permutations=None), 'permutations=None must be'),
        (dict(permutations=0), 'permutations=0 must be'),
        (dict(permutations=9, seed=-1), 'seed=-1 must be'),
        (dict(permutations=9, second=np.zeros(4)), r'\(5,\) and \(4,\)'),
        (dict(permutations=9, second=[0.0] * 5), 'second='),
    ],
)
def test_correlation_says_what_is_wrong(options, message):
    first, second = pair(5)
    with pytest.raises(ValueError, match=message):
        circular_correlation(**{'first': first, 'second': second, **options})


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


def test_the_interval_of_equal_angles_holds_their_correlation():
    first = np.random.default_rng(0).uniform(-3, 3, 20)
    for sign in (1, -1):
        found = circular_correlation(first, sign * first, 9)
        assert math.isclose(found.value, sign)
        assert found.low <= found.value <= found.high
