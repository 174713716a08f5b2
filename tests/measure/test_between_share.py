"""The share that class angles predict of images that are left out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from u1_plugin.measure.between_share import table_between_share
from u1_plugin.measure.information import class_dependence

BINS = 36


def simulated(rng, means, kappa, n):
    """Table of von Mises angles, as many of each class."""
    classes = len(means)
    labels = np.arange(n) % classes
    kappas = np.broadcast_to(kappa, classes)[labels]
    angles = rng.vonmises(means[labels], kappas + 1e-9)
    cells = np.round(angles / (2 * np.pi) * BINS).astype(int) % BINS
    table = np.zeros((classes, BINS), int)
    np.add.at(table, (labels, cells), 1)
    return table


def explained(means, kappa):
    """What the true angles of classes explain."""
    kappas = np.broadcast_to(kappa, len(means))
    lengths = special.i1e(kappas) / special.i0e(kappas)
    shared = abs((lengths * np.exp(1j * means)).mean()) ** 2
    return (lengths.mean() ** 2 - shared) / (1 - shared)


def by_hand(table):
    """Image by image."""
    labels, cells = (
        np.repeat(axis.ravel(), table.ravel())
        for axis in np.indices(table.shape)
    )
    kept = table.sum(1)[labels] > 1
    labels, cells = labels[kept], cells[kept]
    z = np.exp(2j * np.pi * cells / table.shape[1])
    if not len(z):
        return 0

    def cosine(others):
        others = others.sum()
        return others / abs(others) if abs(others) > 1e-9 else 0

    cosines = [[], []]
    for k, own in enumerate(z):
        rest = np.arange(len(z)) != k
        for values, group in zip(cosines, (rest & (labels == labels[k]), rest)):
            values.append((own * np.conj(cosine(z[group]))).real)
    within, shared = np.clip(np.mean(cosines, 1), 0, None) ** 2
    return (within - shared) / (1 - shared) if shared < 1 - 1e-9 else 0


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(3, 8))
def test_each_image_is_left_out_of_its_mean(seed, classes, bins):
    rng = np.random.default_rng(seed)
    table = rng.poisson(0.8, (classes, bins))
    table[0, 0] += 1
    found = table_between_share(table)
    assert found == pytest.approx(by_hand(table), abs=1e-9)
    assert found <= 1 + 1e-12
    stacked = table_between_share(np.stack([table, table]))
    np.testing.assert_allclose(stacked, found, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(0, BINS - 1))
def test_neither_a_turn_nor_the_order_of_classes_matters(seed, turn):
    table = np.random.default_rng(seed).poisson(0.3, (5, BINS))
    table[0] += 1
    found = table_between_share(table)
    turned = np.roll(table, turn, 1)[::-1]
    assert table_between_share(turned) == pytest.approx(found, abs=1e-9)


def test_classes_of_one_angle_each_are_predicted_wholly():
    table = np.zeros((3, BINS), int)
    table[[0, 1, 2], [0, 12, 24]] = 4
    assert table_between_share(table) == pytest.approx(1)
    # One image says nothing of another.
    assert table_between_share(np.eye(3, BINS)) == 0
    # One angle is no difference.
    assert table_between_share(np.eye(1, BINS).repeat(3, 0) * 4) == 0


@pytest.mark.parametrize(
    'kappa, n',
    [
        (np.repeat([10, 0], 15), 300),
        (np.repeat([10, 0], 5), 500),
        (np.repeat([5, 0], 5), 2000),
        (np.linspace(1, 8, 10), 500),
        (np.full(30, 2.0), 300),
        (np.zeros(30), 300),
    ],
)
def test_classes_about_one_angle_support_nothing_however_they_spread(kappa, n):
    """Nor do their numbers say otherwise."""
    rng = np.random.default_rng(n)
    found = [
        class_dependence(
            simulated(rng, np.zeros(len(kappa)), kappa, n), 99, 60, seed
        ).between_share
        for seed in range(40)
    ]
    values = np.array([estimate.value for estimate in found])
    assert values.mean() < 3 * values.std(ddof=1) / 40**0.5
    assert np.mean([estimate.low > 0 for estimate in found]) <= 0.1
    assert np.mean([estimate.pvalue <= 0.05 for estimate in found]) <= 0.15


@pytest.mark.parametrize(
    'kappa, classes, n, short',
    [
        (2.0, 10, 2000, 0.02),
        (np.repeat([10, 0], 15), 30, 300, 0.03),
        (1.0, 10, 1000, 0.03),
        (2.0, 30, 300, 0.06),
    ],
)
def test_the_share_comes_near_to_what_the_true_angles_explain(
    kappa, classes, n, short
):
    """From below, the nearer the more images a class has."""
    rng = np.random.default_rng(classes)
    gaps, detected = [], []
    for seed in range(40):
        means = rng.uniform(-np.pi, np.pi, classes)
        table = simulated(rng, means, kappa, n)
        found = class_dependence(table, 99, 60, seed).between_share
        gaps.append(found.value - explained(means, kappa))
        detected.append(found.pvalue <= 0.05)
    error = np.std(gaps, ddof=1) / 40**0.5
    assert -short - 4 * error < np.mean(gaps) < 4 * error
    assert np.mean(detected) > 0.9


def test_the_interval_holds_the_mean_of_its_share():
    rng, values, halves = np.random.default_rng(1), [], []
    for seed in range(60):
        table = simulated(rng, np.linspace(-3, 2, 10), 1.5, 300)
        found = class_dependence(table, 9, 60, seed).between_share
        values.append(found.value)
        halves.append(found.high - found.value)
    off = abs(np.array(values) - np.mean(values))
    assert 0.85 < np.mean(off < halves) <= 1


def test_classes_of_one_image_are_not_in_it():
    rng = np.random.default_rng(2)
    values, halves = [], []
    for seed in range(60):
        pairs = simulated(rng, rng.uniform(-3, 3, 10), 2.0, 30)
        ones = simulated(rng, rng.uniform(-3, 3, 90), 2.0, 90)
        table = np.concatenate([ones, pairs])
        found = class_dependence(table, 19, 60, seed).between_share
        alone = class_dependence(pairs, 19, 60, seed).between_share
        assert found.value == alone.value
        values.append(found.value)
        halves.append(found.high - found.value)
    off = abs(np.array(values) - np.mean(values))
    assert np.mean(off < halves) > 0.85


@pytest.mark.parametrize(
    'table',
    [
        np.eye(30, BINS, dtype=int),
        np.concatenate([3 * np.eye(1, BINS), np.eye(9, BINS)]).astype(int),
    ],
)
def test_where_fewer_than_two_classes_have_two_images_nothing_is_known(table):
    found = class_dependence(table, 19, 10)
    assert np.isnan(found.between_share).all()
    assert not np.isnan(found.information)
