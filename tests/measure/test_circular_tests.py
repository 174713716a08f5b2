"""Circular tests from sums agree with values by hand and of other libraries."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from u1_plugin.measure.circular_tests import (
    holm,
    rayleigh_pvalue,
    summarize_class_angles,
)

Z = 1.959963984540054


@pytest.mark.parametrize(
    'n, length, p',
    [
        # exp(sqrt(1 + 4n + 4(n^2 - (nR)^2)) - (1 + 2n)), Zar's 27.4.
        (10, 0.5, math.exp(math.sqrt(1 + 40 + 4 * (100 - 25)) - 21)),
        (8, 0.82522, math.exp(math.sqrt(33 + 4 * (64 - 6.60176**2)) - 17)),
        (1, 1.0, math.exp(math.sqrt(5) - 3)),
        (100, 0.0, 1.0),
        # Of many angles exp(-n R^2), where the formula's digits cancel.
        (10**9, 1e-5, math.exp(-0.1)),
        (394_524_535, 0.0, 1.0),
        (0, math.nan, 1.0),
        (0, 0.3, 1.0),
        # Beyond R = 1, by rounding, the root is 0 and not NaN.
        (10, 1.2, math.exp(-(24**2) / 21)),
    ],
)
def test_rayleigh_by_hand(n, length, p):
    found = rayleigh_pvalue(np.array([n]), np.array([length]))
    np.testing.assert_allclose(found, [p], rtol=1e-8 if n > 1000 else 1e-12)


def test_rayleigh_has_its_level():
    # Its law is nearly that of exp(-n R^2) for many angles.
    theta = np.random.default_rng(1).uniform(0, 2 * np.pi, (2000, 200))
    length = abs(np.exp(1j * theta).mean(1))
    found = rayleigh_pvalue(np.full(2000, 200), length)
    np.testing.assert_allclose(
        found, np.exp(-200 * length**2), rtol=0.1, atol=3e-3
    )
    assert stats.kstest(found, 'uniform').pvalue > 0.01


def test_rayleigh_finds_an_effect():
    theta = np.random.default_rng(0).vonmises(0.7, 2.0, (100, 60))
    length = abs(np.exp(1j * theta).mean(1))
    assert (rayleigh_pvalue(np.full(100, 60), length) < 0.01).all()
    assert rayleigh_pvalue(np.array([20]), np.array([1.0])) < 1e-6


@pytest.mark.parametrize('count', [1, 2, 7])
def test_holm_is_statsmodels(count, monkeypatch):
    # It collects the process's garbage every time: half a second each.
    monkeypatch.setattr('gc.collect', lambda *generation: 0)
    rng = np.random.default_rng(count)
    for _ in range(20):
        p = rng.uniform(0, 0.3, count).round(2)
        expected = multipletests(p, method='holm')[1]
        np.testing.assert_allclose(holm(p), expected)
        # NaN is no test: the others are corrected for their own number.
        holes = np.insert(p, rng.integers(0, count + 1, 2), np.nan)
        found = holm(holes)
        np.testing.assert_allclose(found[~np.isnan(holes)], expected)
        assert np.isnan(found[np.isnan(holes)]).all()


def test_holm_at_the_ends():
    assert holm(np.array([])).shape == (0,)
    for wrong in ([0.1, -0.1], [0.1, 1.1], [[0.1]]):
        with pytest.raises(ValueError, match='pvalues=.* must be'):
            holm(np.array(wrong))
    assert np.isnan(holm(np.array([np.nan]))).all()
    np.testing.assert_allclose(holm([0.4, 0.6, 0.01]), [0.8, 0.8, 0.03])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1, 1])


def summary_of(classes, skipped=0):
    """Of lists of angles, one a class."""
    moments = np.array(
        [
            [len(a), *(f(k * np.array(a)).sum() for k, f in KINDS)]
            for a in classes
        ]
    )
    table = np.arange(3.0 * len(classes)).reshape(-1, 3)
    return summarize_class_angles(moments, table, skipped), table


KINDS = [(1, np.cos), (1, np.sin), (2, np.cos), (2, np.sin)]
CLASSES = [
    [0.1, 0.4, -0.3, 0.2, 0.0],
    [3.0, -3.0, 2.9, 3.1],  # on both sides of pi
    [],
    [1.3],
    [-2.0, -1.9],
]


def test_summary_of_classes():
    found, table = summary_of(CLASSES, skipped=7)
    assert (found.n, found.skipped) == (12, 7)
    assert found.count.tolist() == [5, 4, 0, 1, 2]
    assert found.table is table
    for c, own in enumerate(CLASSES):
        if not own:
            assert np.isnan(
                [
                    *(found.mean[c], found.length[c], found.half_width[c]),
                    *(found.pvalue[c], found.corrected[c]),
                ]
            ).all()
            continue
        mean = stats.circmean(own, high=np.pi, low=-np.pi)
        length = 1 - stats.circvar(own)
        assert found.mean[c] == pytest.approx(mean)
        assert found.length[c] == pytest.approx(length)
        if len(own) == 1:
            assert np.isnan(found.pvalue[c]) and np.isnan(found.half_width[c])
            continue
        # Fisher 4.21: (1 - mean cos 2(t - mean)) / 2R^2, and 4.22.
        second = np.cos(2 * (np.array(own) - mean)).mean()
        error = math.sqrt((1 - second) / (2 * length**2) / len(own))
        assert found.half_width[c] == pytest.approx(math.asin(Z * error))
        expected = rayleigh_pvalue(np.array(len(own)), np.array(length))
        assert found.pvalue[c] == pytest.approx(float(expected))
    tested = ~np.isnan(found.pvalue)
    np.testing.assert_allclose(
        found.corrected[tested],
        multipletests(found.pvalue[tested], method='holm')[1],
    )


def test_summary_of_all_together():
    found, _ = summary_of(CLASSES)
    sums = np.array([np.exp(1j * np.array(own)).sum() for own in CLASSES])
    assert found.resultant_length == pytest.approx(abs(sums).sum() / 12)
    assert found.shared_length == pytest.approx(abs(sums.sum()) / 12)


def test_summary_where_nothing_bounds_the_mean():
    # Opposite angles: R is near 0, and 95 % of no angle is all of them.
    found, _ = summary_of([[0, 2.8], [0.0] * 4])
    assert found.length[0] == pytest.approx(math.cos(1.4))
    assert np.isnan(found.half_width[0])
    assert found.half_width[1] == pytest.approx(0, abs=1e-7)
    nobody, _ = summary_of([[], []])
    assert nobody.n == 0 and nobody.resultant_length == 0
    assert nobody.shared_length == 0


def test_a_length_is_never_beyond_one():
    # As sums of equal angles may come out.
    moments = np.array([[3.0, 3.0000001, 0.0, 3.0, 0.0]])
    found = summarize_class_angles(moments, np.zeros((1, 1)))
    assert found.length == [1.0]


def test_holm_is_statsmodels_and_leaves_out_what_was_not_tested():
    pvalues = np.random.default_rng(0).uniform(size=30) ** 3
    expected = multipletests(pvalues, method='holm')[1]
    np.testing.assert_allclose(holm(pvalues), expected)
    found = holm(np.array([0.01, np.nan, 0.04]))
    np.testing.assert_allclose(found, [0.02, np.nan, 0.04])
    assert np.isnan(holm(np.array([np.nan]))).all()


@pytest.mark.parametrize('angle', np.linspace(0, 6, 40))
def test_equal_angles_are_known_to_the_last_digit(angle):
    found, _ = summary_of([[angle] * 10])
    assert found.half_width[0] == pytest.approx(0, abs=1e-7)
