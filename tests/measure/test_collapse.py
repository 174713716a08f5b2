"""Neural collapse of features: definitions, laws, and sums of parts."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.measure import Collapse, CollapseAccumulator, collapse_of


def classes(seed: int, count: int, channels: int, spread: float = 1.0) -> tuple:
    """Features of classes of 2 to 7 images about means of their own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), rng.integers(2, 8, count))
    means = 3 * rng.normal(size=(count, channels))
    noise = spread * rng.normal(size=(len(labels), channels))
    order = rng.permutation(len(labels))
    features = (means[labels] + noise)[order]
    return torch.from_numpy(features), torch.from_numpy(labels[order])


def accumulated(features, labels, count: int, batch: int = 1000):
    found = CollapseAccumulator(count)
    for part in zip(features.split(batch), labels.split(batch)):
        found.update(*part)
    return found


def measured(features, labels, count: int) -> Collapse:
    return accumulated(features, labels, count).summary()


def by_definition(features, labels, count: int) -> Collapse:
    """Pair by pair, and with NumPy's pseudoinverse."""
    features, labels = features.numpy(), labels.numpy()
    own = [features[labels == c] for c in range(count)]
    means = [x.mean(0) for x in own]
    variances = [np.mean(((x - m) ** 2).sum(1)) for x, m in zip(own, means)]
    within = sum((x - m).T @ (x - m) for x, m in zip(own, means))
    between = np.cov(np.array(means), rowvar=False, bias=True)
    nc1 = np.trace(within / len(labels) @ np.linalg.pinv(between)) / count
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    cdnv = [
        (variances[i] + variances[j]) / (2 * ((means[i] - means[j]) ** 2).sum())
        for i, j in pairs
    ]

    def distance(first, second) -> float:
        """Mean cosine distance of all pairs."""
        return np.mean(
            [
                1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
                for a in first
                for b in second
            ]
        )

    inside = np.mean([distance(x, x) for x in own])
    total = np.mean([distance(x, y) for x in own for y in own])
    return Collapse(
        len(labels), float(nc1), float(np.mean(cdnv)), 1 - inside / total
    )


def assert_same(found: Collapse, wanted: Collapse, names=Collapse._fields):
    for name in names:
        value, expected = getattr(found, name), getattr(wanted, name)
        assert value == pytest.approx(expected, rel=1e-6, abs=1e-9), name


CASES = dict(
    seed=st.integers(0, 10**6),
    count=st.integers(2, 5),
    channels=st.integers(2, 7),
)


@given(**CASES)
def test_definition(seed, count, channels):
    data = classes(seed, count, channels)
    assert_same(measured(*data, count), by_definition(*data, count))


@given(**CASES, batch=st.integers(1, 9))
def test_batches_are_the_whole(seed, count, channels, batch):
    features, labels = classes(seed, count, channels)
    whole = measured(features, labels, count)
    total = accumulated(features, labels, count, batch)
    assert_same(total.summary(), whole)
    assert_same(total.reduce().summary(), whole)


@given(**CASES, scale=st.floats(1e-3, 1e3))
def test_turned_and_scaled_features_are_as_collapsed(
    seed, count, channels, scale
):
    features, labels = classes(seed, count, channels)
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(channels, channels)))
    other = scale * features @ torch.from_numpy(turn)
    assert_same(
        measured(other, labels, count), measured(features, labels, count)
    )


@given(**CASES)
def test_a_shift_changes_directions_alone(seed, count, channels):
    features, labels = classes(seed, count, channels)
    shift = 100 * torch.randn(
        channels, generator=torch.Generator().manual_seed(seed)
    )
    shifted = measured(features + shift, labels, count)
    assert_same(
        shifted, measured(features, labels, count), ('n', 'nc1', 'cdnv')
    )


@given(**CASES)
def test_collapsed_classes(seed, count, channels):
    found = measured(*classes(seed, count, channels, spread=0), count)
    assert_same(found, Collapse(found.n, 0, 0, 1))


@given(**CASES)
def test_more_spread_is_less_collapse(seed, count, channels):
    near, far = (
        measured(*classes(seed, count, channels, spread=s), count)
        for s in (0.01, 0.1)
    )
    assert near.nc1 < far.nc1 and near.cdnv < far.cdnv
    assert near.separation > far.separation


def test_labels_at_random_separate_as_much_as_chance():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 16, generator=generator)
    labels = torch.arange(4000) % 4
    found = measured(features, labels, 4).separation
    # The share that means of 1000 images take by chance: (K - 1) / (n - 1).
    assert 0 < found < 3 * 3 / 3999


def test_separation_counts_classes_alike():
    """One class of a hundred images weighs what one of two does."""
    rows = torch.eye(3)
    few = (torch.stack([rows[0], rows[0], rows[1], rows[2]]), [0, 0, 1, 1])
    many = (torch.cat([rows[:1].expand(100, 3), rows[1:]]), [0] * 100 + [1] * 2)
    found = [
        measured(f, torch.tensor(own), 2).separation for f, own in (few, many)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12)
    # Within: 0 and 1/2; in all: 1 - |(1, 1/2, 1/2) / 2|^2.
    assert found[0] == pytest.approx(1 - (1 / 4) / (1 - 1.5 / 4))


def test_vectors_without_a_direction():
    features, labels = classes(0, 3, 4)
    nothing = torch.zeros(1, 4, dtype=torch.float64)
    with_zero = measured(
        torch.cat([features, nothing]), torch.cat([labels, labels[:1]]), 3
    )
    plain = measured(features, labels, 3)
    assert with_zero.separation == plain.separation
    assert with_zero.n == plain.n + 1 and with_zero.cdnv > plain.cdnv
    dark = measured(features * (labels != 1)[:, None], labels, 3)
    assert math.isnan(dark.separation) and dark.nc1 > 0


def test_what_has_no_measure():
    """Neither is a network whose features are all alike collapsed."""
    labels = torch.arange(9) % 3
    found = measured(torch.full((9, 4), 0.1), labels, 3)
    assert math.isnan(found.nc1) and math.isnan(found.separation)
    assert not math.isfinite(found.cdnv)
    one_mean = torch.randn(3, 4).repeat_interleave(3, 0)
    assert measured(one_mean, labels, 3).cdnv == math.inf


def test_what_is_refused():
    with pytest.raises(ValueError, match='num_classes=1 .* >= 2'):
        CollapseAccumulator(1)
    found = CollapseAccumulator(3)
    with pytest.raises(ValueError, match='seen no image'):
        found.summary()
    features, labels = torch.randn(4, 5), torch.tensor([0, 1, 1, 0])
    for labels_of, message in (
        (labels + 2, r'labels are in \[2, 3\], but num_classes=3'),
        (labels - 1, r'labels are in \[-1, 0\]'),
        (labels.float(), 'give 4 integers'),
        (labels[:2], 'give 4 integers'),
    ):
        with pytest.raises(ValueError, match=message):
            found.update(features, labels_of)
    with pytest.raises(ValueError, match='not finite'):
        found.update(features / 0, labels)
    with pytest.raises(ValueError, match=r'\(B, C\)'):
        found.update(features[0], labels)
    found.update(features, labels)
    with pytest.raises(ValueError, match=r'features of \(C,\) = \(6,\) after'):
        found.update(torch.randn(1, 6), labels[:1])
    with pytest.raises(ValueError, match='1 of them have no image, class 2'):
        found.summary()
    found.update(features[:0], labels[:0])
    assert found.state()['count'].tolist() == [2, 2, 0]


@given(**CASES, missing=st.integers(0, 1))
def test_all_at_once_is_the_stream(seed, count, channels, missing):
    """Of the classes with images, where one may have none."""
    features, labels = classes(seed, count, channels)
    stream = accumulated(features, labels, count + missing)
    found = collapse_of(
        features, labels, count + missing, seen_only=bool(missing)
    )
    assert_same(found, stream.summary(seen_only=bool(missing)))
    assert_same(found, measured(features, labels, count))


@given(**CASES)
def test_a_weight_is_so_many_images(seed, count, channels):
    features, labels = classes(seed, count, channels)
    rng = np.random.default_rng(seed)
    times = torch.from_numpy(rng.integers(1, 4, len(labels)))
    found = collapse_of(features, labels, count, times)
    wanted = collapse_of(
        features.repeat_interleave(times, 0),
        labels.repeat_interleave(times),
        count,
    )
    assert_same(found, wanted)


def test_what_cannot_be_measured_at_once():
    features, labels = classes(0, 3, 4)
    for change, message in (
        (dict(labels=labels[1:]), f'labels .*give {len(labels)} integers'),
        (dict(labels=labels + 0.5), 'labels is torch.float32'),
        (dict(features=features[0]), r'features .*give real numbers'),
        (dict(features=features / 0), 'not finite'),
        (dict(num_classes=4), '1 of them have no image, class 3'),
        (dict(num_classes=2), r'labels are in \[0, 2\]'),
        (dict(weights=torch.ones(2)), 'weights of shape'),
        (dict(weights=-torch.ones(len(labels))), 'weights of shape'),
        (dict(labels=labels * 0, seen_only=True), r'1 class\(es\) with images'),
    ):
        given = dict(features=features, labels=labels, num_classes=3)
        with pytest.raises(ValueError, match=message):
            collapse_of(**{**given, **change})


def test_an_offset_of_all_costs_no_digits():
    """At once; the stream loses some, as its docstring says."""
    features, labels = classes(0, 4, 8)
    features = features.double()
    found, wanted = (
        collapse_of(features + offset, labels, 4) for offset in (1e8, 0.0)
    )
    assert found.nc1 == pytest.approx(wanted.nc1, rel=1e-6)
    assert found.cdnv == pytest.approx(wanted.cdnv, rel=1e-6)
