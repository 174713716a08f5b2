"""Searches agree with all pairs in float64."""

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    JUNK,
    SEED,
    SHARE,
    SIZES,
    VECTORS,
    Kind,
    bank_of,
    choice,
    close,
    optional,
    options,
    pixels_of,
    smooth,
    tensors,
)

from u1_plugin import dist, memory
from u1_plugin.memory import Queries

DTYPES = choice('float32', 'float16', 'uint8')


def far(queries: torch.Tensor, vectors: torch.Tensor, metric: str):
    """Distances of float64, ``(Q, N)``."""
    queries, vectors = queries.double(), vectors.double()
    if metric == 'l2':
        return (queries[:, None] - vectors).norm(dim=2)
    unit = [torch.nn.functional.normalize(v, dim=1) for v in (queries, vectors)]
    return 1 - unit[0] @ unit[1].T


FLAT = 'IVF1,Flat'  # of one cell, which is all there is
#: With what each is when parsed; all but HNSW look at everything.
ENGINES = [
    ('exact', ('float32',)),
    (dict(type='exact'), ('float32',)),
    (dict(type='exact', dtype='float16'), ('float16',)),
    ('faiss:Flat', ('Flat', None, None)),
    (['faiss:IVF1', 'Flat'], (FLAT, None, None)),
    (dict(type='faiss', factory=FLAT), (FLAT, None, None)),
    (dict(type='faiss', factory=FLAT, nprobe=3), (FLAT, 3, None)),
    (dict(type='faiss', factory=FLAT, recall=1), (FLAT, None, 1.0)),
    ('faiss:HNSW2', ('HNSW2', None, None)),
]
SEARCH = dict(
    metric=choice('cosine', 'l2'),
    chunk=COUNT,
    block=COUNT,
    dtype=choice('float32', 'float16', 'bfloat16'),
)


@fuzz(
    'memory.ExactSearch',
    vectors=VECTORS,
    queries=tensors(SIZES, 4, values=st.sampled_from([0, 1, 2, 3.5])),
    case=options(SEARCH),
    k=st.integers(1, 12) | JUNK,
    offset=st.sampled_from([0.0, 100.0, 1e4]),
)
def test_exact_search(vectors, queries, case, k, offset):
    given, wrong = case
    vectors, queries = vectors + offset, queries + offset
    search = attempt(
        lambda: memory.ExactSearch(bank_of(vectors), **given), wrong
    )
    if search is REFUSED:
        return
    right = COUNT.is_right(k) and k <= len(vectors)
    found = attempt(
        lambda: search.search(queries, k), {} if right else dict(k=k)
    )
    if found is not REFUSED:
        metric = given.get('metric', 'cosine')
        wanted = far(queries, vectors, metric)
        nearest = wanted.sort(dim=1, stable=True).values[:, : int(k)]
        assert close(
            found.distances, nearest, 1e-12 if metric == 'l2' else 1e-9
        )
        assert close(wanted.gather(1, found.indices), found.distances, 1e-9)
        if metric == 'l2':  # and of equals the first
            order = wanted.argsort(dim=1, stable=True)[:, : int(k)]
            assert torch.equal(found.indices, order)


@fuzz(
    'memory.FaissSearch, build_search',
    share=0.5,
    vectors=VECTORS,
    queries=smooth(3, 4),
    engine=st.sampled_from([given for given, _ in ENGINES])
    | st.sampled_from(['faiss:PQ999', 'faiss:'])
    | JUNK,
    metric=st.sampled_from(['cosine', 'l2', 'L2', None]),
    k=COUNT.right,
)
def test_engines(vectors, queries, engine, metric, k):
    wrong = {}
    if not any(_equal(engine, known) for known, _ in ENGINES):
        wrong = dict(engine=engine, factory=engine)
    if metric not in ('cosine', 'l2'):
        wrong = dict(wrong, metric=metric)
    search = attempt(
        lambda: memory.build_search(bank_of(vectors), engine, metric, k), wrong
    )
    if search is REFUSED:
        return
    found = attempt(lambda: search.search(queries, 1))
    wanted = far(queries, vectors, metric).amin(1)
    if engine != 'faiss:HNSW2':
        assert close(found.distances[:, 0], wanted, 1e-6)


def _equal(one, two) -> bool:
    return type(one) is type(two) and one == two


ENGINE = dict(
    type=choice('exact', 'faiss'),
    factory=Kind(
        lambda v: (isinstance(v, str) and v) or _strings(v),
        st.sampled_from(['Flat', 'IVF1,Flat', 'x', ['IVF1', 'Flat']]),
    ),
    nprobe=optional(COUNT),
    recall=optional(SHARE),
    dtype=choice('float32', 'float16', 'bfloat16'),
)


def _strings(value) -> bool:
    listed = isinstance(value, (list, tuple)) and len(value) > 0
    return listed and all(isinstance(part, str) for part in value)


@fuzz('memory.parse_engine', case=options(ENGINE, ('type',)))
def test_parse_engine(case):
    given, wrong = case
    others = []
    if 'type' not in wrong:
        faiss = given['type'] == 'faiss'
        own = (
            {'type', 'factory', 'nprobe', 'recall'}
            if faiss
            else {
                'type',
                'dtype',
            }
        )
        others = [f'engine.{name}' for name in given.keys() - own]
        if faiss and 'factory' not in given:
            others.append('engine.factory=None')
        numbers = [given.get(name) for name in ('nprobe', 'recall')]
        if faiss and None not in numbers:
            others.append('engine.recall')
    expected = wrong or dict.fromkeys(others, None)
    found = attempt(
        lambda: memory.parse_engine(given),
        expected,
        also=others,
    )
    if found is not REFUSED:
        assert memory.parse_engine(found) == found
        kind = memory.FaissEngine if faiss else memory.ExactEngine
        assert isinstance(found, kind)
        for name in given.keys() - {'type', 'factory'}:
            assert getattr(found, name) == given[name]


@fuzz(
    'memory.least_nprobe',
    share=0.5,
    vectors=VECTORS,
    case=options(
        dict(
            recall=SHARE,
            queries=COUNT,
            seed=SEED,
            k=COUNT,
            metric=choice('cosine', 'l2'),
        )
    ),
)
def test_least_nprobe(vectors, case):
    given, wrong = case
    bank = bank_of(vectors)
    found = attempt(lambda: memory.least_nprobe(bank, FLAT, **given), wrong)
    if found is not REFUSED:
        assert (found.nprobe, found.cells, found.share) == (1, 1, 1.0)
        assert found.queries == min(int(given.get('queries', 256)), len(bank))


@fuzz(
    'memory.Memory',
    vectors=VECTORS,
    queries=smooth(2, 4),
    k=st.integers(1, 30),
    shuffle=st.none() | SEED.right | JUNK,
)
def test_memory(vectors, queries, k, shuffle):
    right = shuffle is None or SEED.is_right(shuffle)
    found = attempt(
        lambda: memory.Memory(bank_of(vectors), shuffle=shuffle),
        {} if right else dict(shuffle=shuffle),
    )
    if found is REFUSED:
        return
    asked = Queries(queries, torch.zeros(2, 2), torch.zeros(2))
    matches = attempt(lambda: found.search(asked, k))
    pixels = pixels_of(vectors)
    assert matches.distances.shape == (2, min(k, len(vectors)))
    assert torch.equal(matches.labels, pixels.labels[matches.indices])
    if shuffle is None:
        assert torch.equal(matches.positions, pixels.positions[matches.indices])


@fuzz(
    'memory.coreset',
    vectors=smooth(st.integers(1, 9), 4),
    case=options(dict(share=SHARE, width=COUNT, seed=SEED), ('share',)),
)
def test_coreset(vectors, case):
    given, wrong = case
    bank = bank_of(vectors)
    found = attempt(lambda: memory.coreset(bank, **given), wrong)
    if found is not REFUSED:
        count = max(1, round(float(given['share']) * len(vectors)))
        assert len(found) == count == len(set(found.tolist()))
        assert found.tolist() == sorted(found.tolist())


@fuzz(
    'memory.few_shot',
    labels=st.lists(st.integers(-1, 3), max_size=12),
    shots=st.integers(-1, 4) | JUNK,
    seed=SEED.right | JUNK,
)
def test_few_shot(labels, shots, seed):
    labels = np.array(labels, int)
    counts = np.unique(labels, return_counts=True)[1]
    wrong = {}
    if not (COUNT.is_right(shots) and len(labels) and shots <= counts.min()):
        wrong = dict(shots=shots, labels=labels)
    if not SEED.is_right(seed):
        wrong = dict(wrong, seed=seed)
    found = attempt(lambda: memory.few_shot(labels, shots, seed), wrong)
    if found is not REFUSED:
        chosen = np.unique(labels[found], return_counts=True)
        assert (chosen[1] == shots).all() and len(chosen[0]) == len(counts)
        assert (np.diff(found) > 0).all()


@fuzz('dist.all_gather_rows', rows=tensors(SIZES, SIZES))
def test_all_gather_rows(rows):
    assert attempt(lambda: dist.all_gather_rows(rows))[0] is rows
