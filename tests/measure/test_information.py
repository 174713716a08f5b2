"""Information and shares of angles equal those of other libraries."""

import math
import warnings

import numpy as np
import pytest
from known_effects import planted
from scipy import stats
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score

from u1_plugin.measure.between_share import table_between_share
from u1_plugin.measure.information import (
    _drawn,
    bootstrap,
    class_dependence,
    mutual_information,
    occupied_bins,
    permutation_null,
)


@pytest.mark.parametrize(
    'options', [dict(permutations=0), dict(resamples=1), dict(seed=None)]
)
def test_options_of_permutations(options):
    (name,) = options
    with pytest.raises(ValueError, match=f'{name}=.* must be'):
        class_dependence(np.eye(2, 3, dtype=int), **options)


@pytest.mark.parametrize(
    'table',
    [np.ones(3), -np.ones((2, 3)), np.full((2, 3), np.nan), np.eye(2) / 2]
    + [np.array([[1, 2], [-1, 3]]), np.array([[1, 2], [np.inf, 3]])]
    + [np.array([[1, 2], [np.nan, 3]]), np.ones((2, 3), bool)],
)
def test_what_counts_nothing(table):
    with pytest.raises(ValueError, match='table=.* counts >= 0'):
        class_dependence(table, 9)


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
    share = float(table_between_share(table))
    errors, exact = drawn.std(0, ddof=1), []
    for value, draws in zip((information, share), null.T):
        exact.append((1 + (draws >= value - 1e-12).sum()) / 51)
    chance = null[:, 0].mean()
    room = entropy - chance
    for k, (value, error, pvalue) in enumerate(
        (
            ((information - chance) / room, errors[0] / room, exact[0]),
            (share, errors[1], max(exact[1], stats.norm.sf(share / errors[1]))),
        )
    ):
        half = stats.norm.ppf(0.975) * error
        np.testing.assert_allclose(
            found[4 + k], (value, value - half, value + half, pvalue)
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


@pytest.mark.parametrize('dtype', ['uint8', 'int16', 'float16', 'float32'])
def test_counts_of_any_type_say_the_same(dtype):
    table = np.random.default_rng(0).integers(0, 40, (4, 12))
    narrow = table.astype(dtype)
    assert class_dependence(narrow, 99) == class_dependence(table, 99)
    assert mutual_information(narrow) == mutual_information(table)
    assert table_between_share(narrow) == table_between_share(table)


def test_more_counts_than_can_be_dealt_are_refused():
    with pytest.raises(ValueError, match='holds 4.8e.11 counts.*at most'):
        class_dependence(np.full((4, 12), 10**10), 9)


def test_occupied_bins():
    assert occupied_bins(np.ones((3, 8))) == pytest.approx(8)
    halves = np.array([[9, 0, 0, 1], [1, 0, 0, 9]])
    assert occupied_bins(halves) == pytest.approx(2)
    one = np.zeros((3, 8))
    one[:, 2] = 7
    assert occupied_bins(one) == 1
    assert math.isnan(occupied_bins(np.zeros((3, 8))))


def test_a_table_of_nothing_is_not_dealt():
    with pytest.raises(ValueError, match=r'table of shape \(3, 4\) counts no'):
        permutation_null(np.zeros((3, 4)), 9, np.random.default_rng(0))
