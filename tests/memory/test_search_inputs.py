"""Options and questions that a search cannot take are refused by name."""

import numpy as np
import pytest
import torch
from banks import filled
from nearest import queries

from u1_plugin.memory import (
    ExactSearch,
    Memory,
    MemoryBank,
    Queries,
    build_search,
    check_engine,
    coreset,
)

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'call, words',
    [
        (lambda: ExactSearch(filled(), 'dot'), "metric='dot'"),
        (lambda: ExactSearch(filled(), chunk=0), 'chunk=0'),
        (lambda: ExactSearch(filled(), block=2.5), 'block=2.5'),
        (lambda: ExactSearch(filled(), block=True), 'block=True'),
        (lambda: ExactSearch(MemoryBank()), 'empty'),
        (lambda: ExactSearch([1, 2]), 'bank=[1, 2]'),
        (lambda: build_search(filled(), 'flat'), "engine='flat'"),
        (lambda: build_search(filled(), 'faiss:'), "engine='faiss:'"),
        (lambda: build_search(filled(), None), 'engine=None'),
        (
            lambda: build_search(filled(), 'faiss:PQ999'),
            "engine='faiss:PQ999': factory='PQ999'",
        ),
        (lambda: build_search(filled(), 'exact', 'L2'), "metric='L2'"),
        (lambda: check_engine('exakt', 'l2', 6), "engine='exakt'"),
        (lambda: check_engine('exact', 'l2', 0), 'channels=0'),
        (lambda: Memory(filled(), shuffle=-1), 'shuffle=-1'),
        (lambda: Memory(filled(), 'exact', 'l3'), "metric='l3'"),
        (lambda: Memory(MemoryBank()), 'empty'),
    ],
)
def test_bad_options_are_refused(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat', 'faiss:HNSW8'])
@pytest.mark.parametrize(
    'asked, k, words',
    [
        (queries(), 121, 'k=121 must be in 1..120'),
        (queries(), 0, 'k=0'),
        (queries(), -1, 'k=-1'),
        (queries(), 1.0, 'k=1.0'),
        (queries(), True, 'k=True'),
        (queries(), '3', "k='3'"),
        (queries(3, 5), 1, 'queries (3, 5)'),
        (queries()[0], 1, 'queries (6,)'),
        (queries() * NAN, 1, 'NaN'),
        (queries() * INF, 1, 'NaN, inf'),
        (queries() * -INF, 1, 'NaN, inf'),
        (queries().double() * 1e39, 1, 'beyond float32'),
        (queries().long(), 1, 'torch.int64'),
        ([[0.0] * 6], 1, 'list'),
    ],
)
def test_bad_questions_are_refused(engine, asked, k, words):
    if engine != 'exact':
        pytest.importorskip('faiss')
    with pytest.raises(ValueError) as caught:
        build_search(filled(), engine).search(asked, k)
    assert words in str(caught.value)


@pytest.mark.parametrize('k', [0, -2, 1.5, True, NAN, '3', None])
def test_a_memory_is_asked_for_a_count(k):
    asked = Queries(queries(), torch.zeros(17, 2), torch.zeros(17))
    with pytest.raises(ValueError, match='k='):
        Memory(filled()).search(asked, k)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat', 'faiss:HNSW8'])
def test_a_small_memory_gives_what_it_has(engine):
    if engine != 'exact':
        pytest.importorskip('faiss')
    asked = Queries(queries(), torch.zeros(17, 2), torch.zeros(17))
    found = Memory(filled(), engine).search(asked, 500)
    assert found.indices.shape == (17, 120)
    if engine != 'faiss:HNSW8':
        assert torch.equal(
            found.indices.sort(dim=1).values, torch.arange(120).expand(17, -1)
        )


@pytest.mark.parametrize(
    'field, value, words',
    [
        ('vectors', torch.full((17, 6), NAN), 'NaN'),
        ('positions', torch.full((17, 2), NAN), 'positions or hues'),
        ('hues', torch.full((17,), INF), 'positions or hues'),
        ('positions', torch.zeros(17), 'must be'),
        ('hues', torch.zeros(16), 'must be'),
        ('vectors', torch.zeros(17, 5), '(Q, 6)'),
    ],
)
def test_bad_queries_are_refused(field, value, words):
    asked = Queries(queries(), torch.zeros(17, 2), torch.zeros(17))
    asked = asked._replace(**{field: value})
    with pytest.raises(ValueError) as caught:
        Memory(filled()).search(asked, 3)
    assert words in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    options = dict(chunk=np.int64(2), block=np.int32(3))
    found = ExactSearch(filled(), **options).search(queries(), np.int64(3))
    wanted = ExactSearch(filled()).search(queries(), 3)
    assert torch.equal(found.indices, wanted.indices)
    Memory(filled(), shuffle=np.int64(3))
    found = coreset(filled(), np.float32(0.5), np.int64(2), np.int64(1))
    assert torch.equal(found, coreset(filled(), 0.5, 2, 1))


@pytest.mark.parametrize('engine', ['other:Flat', 'faiss:', 'faiss', 'Flat'])
def test_engines_are_exact_or_of_faiss(engine):
    with pytest.raises(ValueError, match=f"engine='{engine}' must be 'exact'"):
        check_engine(engine, 'l2', 4)
