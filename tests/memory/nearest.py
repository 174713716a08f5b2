"""Nearest neighbours in float64, which the engines are held against."""

import numpy as np
import torch
from banks import some_pixels, vectors_of
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from u1_plugin.memory import (
    ExactSearch,
    FaissSearch,
    MemoryBank,
    PlaneCoordinates,
    PriorBias,
)

METRICS = ['cosine', 'l2']


def queries(n=17, channels=6) -> torch.Tensor:
    return torch.rand(n, channels, generator=torch.Generator().manual_seed(9))


def bank_of(vectors: torch.Tensor, block: int = 40) -> MemoryBank:
    bank = MemoryBank()
    for part in vectors.split(block):
        pixels = some_pixels(len(part), part.size(1))
        bank.append(pixels._replace(vectors=part))
    return bank


def all_distances(asked, vectors, metric) -> torch.Tensor:
    """In float64, ``(Q, N)``, by NumPy alone."""
    asked, vectors = asked.double().numpy(), vectors.double().numpy()
    if metric == 'cosine':
        asked, vectors = (
            part / np.maximum(abs(part).max(1, keepdims=True), 1e-300)
            for part in (asked, vectors)
        )
        asked, vectors = (
            part / np.maximum(np.linalg.norm(part, axis=1), 1)[:, None]
            for part in (asked, vectors)
        )
    squared = ((asked[:, None] - vectors) ** 2).sum(2)
    if metric == 'l2':
        return torch.from_numpy(np.sqrt(squared))
    zero = ~asked.any(1)[:, None] | ~vectors.any(1)
    return torch.from_numpy(np.where(zero, 1.0, squared / 2))


def assert_nearest(found, asked, vectors, metric, k) -> None:
    """These are k nearest; of equals the first, where rounding allows."""
    far = all_distances(asked, vectors, metric)
    expected = far.sort(dim=1, stable=True).values[:, :k]
    tight = dict(rtol=1e-12, atol=1e-15 if metric == 'cosine' else 0)
    torch.testing.assert_close(found.distances, expected, **tight)
    own = far.gather(1, found.indices)
    torch.testing.assert_close(found.distances, own, **tight)
    for row in range(len(asked)):
        index, near = found.indices[row], found.distances[row]
        assert index.unique().numel() == k
        steps = near.diff()
        assert (steps >= 0).all()
        assert (index.diff()[steps == 0] > 0).all()
        # What equals the farthest bit by bit and is left out comes later.
        same = (vectors == vectors[index[-1]]).all(1).nonzero()[:, 0]
        left = same[~torch.isin(same, index)]
        assert not len(left) or left.min() > index[-1]


def engines(bank, metric):
    yield ExactSearch(bank, metric, chunk=7, block=23)
    yield ExactSearch(bank, metric)
    try:
        yield FaissSearch(bank, 'Flat', metric)
    except ImportError:
        pass


def brute_force(bank, metric, k) -> tuple:
    name = 'cosine' if metric == 'cosine' else 'euclidean'
    model = NearestNeighbors(n_neighbors=k, metric=name, algorithm='brute')
    model.fit(vectors_of(bank).double().numpy())
    return model.kneighbors(queries().double().numpy())


@st.composite
def searches(draw):
    """A bank and queries: offsets, scales, doubles, few different numbers."""
    seed = draw(st.integers(0, 2**32 - 1))
    generator = torch.Generator().manual_seed(seed)
    count, channels = draw(st.integers(1, 60)), draw(st.integers(1, 9))
    vectors = torch.randn(count, channels, generator=generator)
    asked = torch.randn(4, channels, generator=generator)
    if draw(st.booleans()):
        vectors, asked = vectors.round(), asked.round()
    offset = draw(st.sampled_from([0.0, 0.0, 1.0, 1e2, 1e4, 1e6]))
    scale = 10.0 ** draw(st.integers(-36, 30))
    vectors, asked = (vectors + offset) * scale, (asked + offset) * scale
    if draw(st.booleans()):  # doubles
        kinds = draw(st.integers(1, count))
        vectors = vectors[torch.randint(kinds, (count,), generator=generator)]
    if draw(st.booleans()):
        asked[0] = vectors[0]
    return vectors, asked, draw(st.integers(1, count))


def bias(plane='both', width=0.3, kappa=4.0, seed=0, count=120, **options):
    asked, memory = some_pixels(17, seed=seed + 50), some_pixels(count)
    query = PlaneCoordinates(asked.positions, asked.hues)
    memory = PlaneCoordinates(memory.positions, memory.hues)
    return PriorBias(query, memory, plane, kappa, 0.4, width)._replace(
        **options
    )
