"""Measured dependences against other packages' and definitions."""

import math

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from sklearn.metrics import mutual_info_score
from strategies import (
    SEED,
    by_holm,
    close,
    options,
    smooth,
    whole,
)

from u1_plugin import measure
from u1_plugin.measure.circular_tests import rayleigh_pvalue

SEVERAL = whole(2, 9)
MAPS = smooth(st.integers(1, 7), st.integers(2, 6), st.integers(2, 6))


@fuzz(
    'measure.holm',
    pvalues=st.lists(st.floats(0, 1) | st.just(math.nan), max_size=8),
)
def test_holm(pvalues):
    found = attempt(lambda: measure.holm(np.array(pvalues)))
    known = ~np.isnan(pvalues) if pvalues else np.zeros(0, bool)
    assert np.isnan(found[~known]).all()
    if known.any():
        wanted = by_holm(np.array(pvalues)[known])
        assert close(found[known], wanted, 1e-9)


TABLES = st.lists(
    st.lists(st.integers(0, 20), min_size=4, max_size=4), min_size=1, max_size=5
).map(np.array)


@fuzz('measure.mutual_information', table=TABLES)
def test_mutual_information(table):
    assume(table.sum())
    found = attempt(lambda: measure.mutual_information(table))
    wanted = mutual_info_score(None, None, contingency=table)
    assert close(found, wanted, 1e-9)


@fuzz(
    'measure.class_dependence, permutation_null',
    share=0.5,
    table=TABLES,
    case=options(
        dict(permutations=whole(1, 30), resamples=whole(2, 9), seed=SEED)
    ),
)
def test_dependence(table, case):
    given, wrong = case
    found = attempt(lambda: measure.class_dependence(table, **given), wrong)
    if found is REFUSED:
        return
    assert found.n == table.sum()
    if (table.sum(1) > 0).sum() >= 2:
        p = found.information_share.pvalue
        assert 1 / (1 + given.get('permutations', 999)) <= p <= 1
        null = measure.permutation_null(table, 3, np.random.default_rng(0))
        assert null.shape == (3, 2) and (null[:, 0] >= 0).all()
        assert (null[:, 1] <= 1 + 1e-9).all()


@fuzz('measure.rayleigh_pvalue', theta=smooth(st.integers(1, 300)))
def test_rayleigh(theta):
    n = len(theta)
    length = abs(np.exp(1j * theta.double().numpy()).mean())
    # Zar's approximation.
    root = math.sqrt(1 + 4 * n + 4 * (n**2 - (n * length) ** 2))
    wanted = min(1.0, math.exp(root - (1 + 2 * n)))
    found = attempt(lambda: rayleigh_pvalue(np.array(n), np.array(length)))
    assert close(found, wanted)
