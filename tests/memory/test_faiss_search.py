"""Indices of faiss find what they promise, with its true distances."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from banks import filled, some_pixels, vectors_of
from nearest import (
    METRICS,
    all_distances,
    assert_nearest,
    bank_of,
    brute_force,
    queries,
)
from votes import shares_of

from u1_plugin.memory import (
    ExactSearch,
    FaissSearch,
    MemoryBank,
    build_search,
    check_engine,
)
from u1_plugin.memory.scores import sample_of


@pytest.mark.parametrize('metric', METRICS)
def test_faiss_flat_is_brute_force(metric):
    pytest.importorskip('faiss')
    bank = filled()
    found = build_search(bank, 'faiss:Flat', metric).search(queries(), 5)
    distances, indices = brute_force(bank, metric, 5)
    np.testing.assert_allclose(found.distances, distances, atol=1e-9)
    assert np.array_equal(found.indices, indices)


@pytest.mark.parametrize(
    'factory, nprobe', [('HNSW16', None), ('IVF4,Flat', 4), ('IVF4,PQ6x4', 4)]
)
@pytest.mark.parametrize('metric', METRICS)
def test_approximate_indices_find_most(factory, nprobe, metric):
    pytest.importorskip('faiss')
    bank = MemoryBank()
    bank.append(some_pixels(n=800))
    approximate = FaissSearch(bank, factory, metric, nprobe=nprobe)
    near = approximate.search(queries(), 10)
    exact = ExactSearch(bank, metric).search(queries(), 10)
    recall = (near.indices[:, :, None] == exact.indices[:, None]).any(1)
    assert recall.float().mean() > (0.4 if 'PQ' in factory else 0.9)
    # What it finds has its true distances, in order.
    far = all_distances(queries(), vectors_of(bank), metric)
    own = far.gather(1, near.indices)
    torch.testing.assert_close(near.distances, own, rtol=1e-12, atol=1e-15)
    assert (near.distances.diff(dim=1) >= 0).all()


@pytest.mark.parametrize('most', [1, 7, 80, 119, 120, 500])
def test_faiss_learns_from_an_even_sample(most):
    bank = filled()
    sample = sample_of(bank, most)
    step = -(-len(bank) // most)
    assert torch.equal(sample, vectors_of(bank)[::step])
    assert len(sample) <= most


def test_missing_neighbours_do_not_vote():
    pytest.importorskip('faiss')
    bank = MemoryBank()
    bank.append(some_pixels(n=200))
    found = FaissSearch(bank, 'IVF8,Flat', nprobe=1).search(queries(), 200)
    missing = found.indices == -1
    assert missing.any() and torch.equal(missing, found.distances.isinf())
    labels = bank.field('labels')[found.indices.clamp_min(0)]
    images = torch.arange(17)
    shares = shares_of(found.distances, labels, images, 4, 17)
    for row in images:
        there = labels[row][~missing[row]].bincount(minlength=4).double()
        assert torch.equal(shares[row], there / there.sum())


@pytest.mark.parametrize(
    'factory',
    ['Nonsense', '', ' Flat', 'Flat\x00', 'PQ4x8', 'HNSW0', 'HNSW1', 'NSG01']
    + ['IVF0,Flat', 'IVF00,Flat', 'IDMap,Flat', 'IVF-4,Flat', 'ß', 'LSH']
    + ['IVF99999999999999999999,Flat'],
)
def test_bad_factories_are_refused_before_the_bank_is_filled(factory):
    pytest.importorskip('faiss')
    with pytest.raises(ValueError, match='engine=') as caught:
        check_engine(f'faiss:{factory}', 'cosine', 6)
    assert repr(factory)[1:-1] in str(caught.value)
    with pytest.raises(ValueError, match='(factory|engine)='):
        build_search(filled(), f'faiss:{factory}', 'cosine')


@pytest.mark.parametrize(
    'factory', ['Flat', 'HNSW32', 'IVF10,Flat', 'IVF100,PQ3x8', 'HNSW', 'SQ8']
)
def test_good_factories_are_known(factory):
    pytest.importorskip('faiss')
    for metric in METRICS:
        check_engine(f'faiss:{factory}', metric, 6)


@pytest.mark.parametrize('factory', ['IVF121,Flat', 'PCA9,Flat'])
def test_an_index_must_fit_its_bank(factory):
    pytest.importorskip('faiss')
    with pytest.raises(ValueError, match='does not fit 120 vectors') as caught:
        FaissSearch(filled(), factory)
    assert factory in str(caught.value)


@pytest.mark.parametrize('error', [None, RuntimeError])
def test_an_index_goes_to_the_gpus_where_it_can(error, monkeypatch):
    faiss = pytest.importorskip('faiss')
    moved = []

    def move(index):
        moved.append(index)
        if error is not None:
            raise error('no such type')
        return faiss.clone_index(index)

    monkeypatch.setattr(faiss, 'get_num_gpus', lambda: 1)
    monkeypatch.setattr(faiss, 'index_cpu_to_all_gpus', move, raising=False)
    search = FaissSearch(filled())
    assert len(moved) == 1 and (search.index is moved[0]) == (error is not None)
    found = search.search(queries(), 5)
    assert_nearest(found, queries(), vectors_of(filled()), 'cosine', 5)


def test_an_engine_that_is_missing_names_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'faiss', None)
    for call in (
        lambda: build_search(filled(), 'faiss:Flat'),
        lambda: check_engine('faiss:HNSW8', 'l2', 6),
    ):
        with pytest.raises(ImportError, match=r"pip install 'u1_plugin\[faiss"):
            call()


@pytest.mark.parametrize('factory, count', [('Flat', 13), ('HNSW8', 5)])
def test_an_index_is_asked_for_more_where_it_looks_at_all(factory, count):
    pytest.importorskip('faiss')
    search, asked = FaissSearch(filled(), factory), []
    index = search.index

    def find(vectors, k):
        asked.append(k)
        return index.search(vectors, k)

    search.index = SimpleNamespace(search=find)
    search.search(queries(), 5)
    assert asked == [count]


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('k', [2, 3])
def test_more_near_ties_than_candidates_are_told_apart(metric, k):
    """Beside clear neighbours, 90 whose last bits alone differ."""
    pytest.importorskip('faiss')
    generator = torch.Generator().manual_seed(0)
    asked = torch.randn(20, 6, generator=generator)
    for one in asked:
        ulps = torch.randint(-2, 3, (90, 6), generator=generator) * 2.0**-23
        ties = (torch.randn(6, generator=generator) * (1 + ulps)).float()
        near = one * (1 + 1e-3 * torch.arange(k - 1.0)[:, None])
        vectors = torch.cat([ties[:50], near, ties[50:]])
        bank = bank_of(vectors)
        found = FaissSearch(bank, 'Flat', metric).search(one[None], k)
        assert_nearest(found, one[None], vectors, metric, k)
