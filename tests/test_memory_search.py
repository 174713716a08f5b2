"""Engines against scikit-learn's brute force, votes against their formula."""

import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from test_memory_bank import filled, some_pixels, vectors_of

from u1_plugin.memory import (
    ExactSearch,
    FaissSearch,
    MemoryBank,
    Pixels,
    Sites,
    build_search,
    prior,
    vote,
)
from u1_plugin.memory.engines import _sample

METRICS = ['cosine', 'l2']


def queries(n=17, channels=6) -> torch.Tensor:
    return torch.rand(n, channels, generator=torch.Generator().manual_seed(9))


def brute_force(bank, metric, k) -> tuple:
    name = 'cosine' if metric == 'cosine' else 'euclidean'
    model = NearestNeighbors(n_neighbors=k, metric=name, algorithm='brute')
    model.fit(vectors_of(bank).numpy())
    return model.kneighbors(queries().numpy())


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('k', [1, 7, 120])
@pytest.mark.parametrize('block, chunk', [(1, 5), (7, 3), (16384, 1024)])
def test_exact_search_is_brute_force(metric, k, block, chunk):
    bank = filled()
    search = ExactSearch(bank, metric, chunk=chunk, block=block)
    found = search.search(queries(), k)
    distances, indices = brute_force(bank, metric, k)
    np.testing.assert_allclose(found.distances, distances, atol=2e-4)
    assert np.array_equal(found.indices, indices)


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('n, k', [(1000, 3), (1003, 3), (700, 1), (5000, 19)])
def test_long_rows_are_searched_exactly(metric, n, k):
    bank = MemoryBank()
    bank.append(some_pixels(n=n))
    found = ExactSearch(bank, metric).search(queries(), k)
    distances, indices = brute_force(bank, metric, k)
    np.testing.assert_allclose(found.distances, distances, atol=5e-4)
    assert (found.indices.numpy() == indices).mean() > 0.95  # near ties


@pytest.mark.parametrize('metric', METRICS)
def test_faiss_flat_is_brute_force(metric):
    pytest.importorskip('faiss')
    bank = filled()
    found = build_search(bank, 'faiss:Flat', metric).search(queries(), 5)
    distances, indices = brute_force(bank, metric, 5)
    np.testing.assert_allclose(found.distances, distances, atol=2e-4)
    assert np.array_equal(found.indices, indices)


@pytest.mark.parametrize(
    'factory, nprobe', [('HNSW16', 0), ('IVF4,Flat', 4), ('IVF4,PQ3x8', 4)]
)
@pytest.mark.parametrize('metric', METRICS)
def test_approximate_indices_find_most(factory, nprobe, metric):
    pytest.importorskip('faiss')
    bank = MemoryBank()
    bank.append(some_pixels(n=800))
    approximate = FaissSearch(bank, factory, metric, nprobe=nprobe)
    found = approximate.search(queries(), 10).indices
    exact = ExactSearch(bank, metric).search(queries(), 10).indices
    recall = (found[:, :, None] == exact[:, None]).any(1).float().mean()
    assert recall > (0.4 if 'PQ' in factory else 0.9)


@pytest.mark.parametrize('most', [1, 7, 80, 119, 120, 500])
def test_faiss_learns_from_an_even_sample(most):
    bank = filled()
    sample = _sample(bank, most)
    step = -(-len(bank) // most)
    assert torch.equal(sample, vectors_of(bank)[::step])
    assert len(sample) <= most


def test_missing_neighbours_do_not_vote():
    pytest.importorskip('faiss')
    bank = MemoryBank()
    bank.append(some_pixels(n=200))
    found = FaissSearch(bank, 'IVF8,Flat', nprobe=1).search(queries(), 200)
    assert (found.indices == -1).any()
    labels = bank.field('labels')[found.indices.clamp_min(0)]
    images = torch.arange(17)
    scores = vote(found.distances, labels, images, 4, 17)
    assert torch.equal(scores.sum(1), (found.indices >= 0).sum(1).float())


def test_autocast_changes_nothing():
    search = ExactSearch(filled())
    plain = search.search(queries(), 5)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        amp = search.search(queries(), 5)
    assert torch.equal(plain.distances, amp.distances)


def test_votes_are_those_of_k_nearest_neighbours():
    bank = filled()
    k = 5
    model = KNeighborsClassifier(k, metric='cosine', algorithm='brute')
    model.fit(vectors_of(bank).numpy(), bank.field('labels').numpy())
    found = ExactSearch(bank).search(queries(), k)
    labels = bank.field('labels')[found.indices]
    scores = vote(found.distances, labels, torch.arange(17), 4, 17)
    expected = model.predict_proba(queries().numpy())
    np.testing.assert_allclose(scores / k, expected)


def test_the_vote_is_its_formula():
    generator = torch.Generator().manual_seed(3)
    distances = torch.rand(6, 4, generator=generator)
    labels = torch.randint(0, 3, (6, 4), generator=generator)
    weights = torch.rand(6, 4, generator=generator)
    images = torch.tensor([0, 0, 1, 1, 1, 0])
    scores = vote(distances, labels, images, 3, 2, weights, width=0.7)
    expected = torch.zeros(2, 3)
    for q in range(6):
        for j in range(4):
            w = math.exp(-(distances[q, j].item() ** 2) / (2 * 0.49))
            expected[images[q], labels[q, j]] += w * weights[q, j]
    torch.testing.assert_close(scores, expected)


def test_priors_are_their_formulas():
    one = Sites(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[0.5]]))
    two = Sites(torch.tensor([[[0.0, 0.5]]]), torch.tensor([[0.8]]))
    image, feature = math.cos(math.pi / 2) - 1, math.cos(0.3) - 1
    expected = dict(
        image=math.exp(2 * image),
        shuffled=math.exp(2 * image),
        feature=math.exp(2 * feature),
        both=math.exp(2 * (image + feature)),
        position=math.exp(-1.25 / (2 * 0.25)),
        radius=math.exp(-0.25 / (2 * 0.25)),
    )
    for plane, value in expected.items():
        found = prior(one, two, plane, kappa=2.0, sigma=0.5)
        assert found.shape == (1, 1)
        assert found.item() == pytest.approx(value, rel=1e-5)
    assert prior(one, two, 'both', kappa=0.0).item() == 1


@pytest.mark.parametrize(
    'call, words',
    [
        (lambda: ExactSearch(filled(), 'dot'), "metric='dot'"),
        (lambda: ExactSearch(MemoryBank()), 'empty'),
        (lambda: ExactSearch(filled()).search(queries(), 121), 'k=121'),
        (lambda: ExactSearch(filled()).search(queries(3, 5), 1), '(3, 5)'),
        (lambda: build_search(filled(), 'flat'), "engine='flat'"),
        (lambda: build_search(filled(), 'faiss:Nonsense'), 'Nonsense'),
    ],
)
def test_bad_options_are_refused(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)


def test_bad_vote_options_are_refused():
    sites = Sites(torch.zeros(1, 1, 2), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="plane='hue'"):
        prior(sites, sites, 'hue', 1.0)
    with pytest.raises(ValueError, match='kappa=-1'):
        prior(sites, sites, 'image', -1.0)
    with pytest.raises(ValueError, match='width=0'):
        vote(
            torch.zeros(1, 1),
            torch.zeros(1, 1).long(),
            torch.zeros(1).long(),
            2,
            1,
            width=0,
        )


def test_no_query_has_no_neighbour():
    found = ExactSearch(filled()).search(torch.zeros(0, 6), 3)
    assert found.indices.shape == (0, 3)
    assert isinstance(some_pixels(), Pixels)
