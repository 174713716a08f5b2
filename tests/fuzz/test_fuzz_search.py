"""Searches and votes against all pairs in float64."""

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    JUNK,
    NON_NEGATIVE,
    POSITIVE,
    SEED,
    SHARE,
    SIZES,
    VECTORS,
    bank_of,
    choice,
    close,
    options,
    pixels_of,
    smooth,
    tensors,
)

from u1_plugin import memory
from u1_plugin.memory import Queries, Sites
from u1_plugin.memory.vote import vote_shares

DTYPES = choice('float32', 'float16', 'uint8')


def far(queries: torch.Tensor, vectors: torch.Tensor, metric: str):
    """Distances of float64, ``(Q, N)``."""
    queries, vectors = queries.double(), vectors.double()
    if metric == 'l2':
        return (queries[:, None] - vectors).norm(dim=2)
    unit = [torch.nn.functional.normalize(v, dim=1) for v in (queries, vectors)]
    return 1 - unit[0] @ unit[1].T


ENGINES = ('exact', 'faiss:Flat', 'faiss:HNSW2')
SEARCH = dict(metric=choice('cosine', 'l2'), chunk=COUNT, block=COUNT)


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
    engine=st.sampled_from(
        ['exact', 'faiss:Flat', 'faiss:HNSW2', 'faiss:PQ999', 'faiss:']
    )
    | JUNK,
    metric=st.sampled_from(['cosine', 'l2', 'L2', None]),
)
def test_engines(vectors, queries, engine, metric):
    wrong = {}
    if not isinstance(engine, str) or engine not in ENGINES:
        wrong = dict(engine=engine, factory=engine)
    if metric not in ('cosine', 'l2'):
        wrong = dict(wrong, metric=metric)
    search = attempt(
        lambda: memory.build_search(bank_of(vectors), engine, metric), wrong
    )
    if search is REFUSED:
        return
    found = attempt(lambda: search.search(queries, 1))
    wanted = far(queries, vectors, metric).amin(1)
    if engine != 'faiss:HNSW2':
        assert close(found.distances[:, 0], wanted, 1e-6)


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


PRIOR = dict(plane=choice(*memory.PRIORS), kappa=NON_NEGATIVE, sigma=POSITIVE)


@fuzz(
    'memory.prior',
    case=options(PRIOR, ('plane', 'kappa')),
    places=smooth(2, 3, 3),
)
def test_prior(case, places):
    given, wrong = case
    first, second = (
        Sites(part[..., :2].tanh(), part[..., 2]) for part in places
    )
    found = attempt(lambda: memory.prior(first, second, **given), wrong)
    if found is REFUSED:
        return
    plane, kappa = given['plane'], float(given['kappa'])
    sigma = float(given.get('sigma', 0.5))
    a, b = first.positions.double(), second.positions.double()
    turn = torch.atan2(a[:, 1], a[:, 0]) - torch.atan2(b[:, 1], b[:, 0])
    turn, hue = turn.cos() - 1, (first.hues - second.hues).double().cos() - 1
    apart = dict(
        position=(a - b).norm(dim=1), radius=a.norm(dim=1) - b.norm(dim=1)
    )
    if plane in apart:
        wanted = -((apart[plane] / sigma) ** 2) / 2
    else:
        parts = dict(image=turn, shuffled=turn, feature=hue, both=turn + hue)
        wanted = kappa * parts[plane]
    assert close(found, wanted.exp())


@fuzz(
    'memory.vote',
    distances=tensors(
        3,
        2,
        values=st.floats(0, 9, width=32) | st.sampled_from([np.inf, np.nan]),
    ),
    labels=st.lists(st.integers(-1, 3), min_size=6, max_size=6),
    images=st.lists(st.integers(-1, 2), min_size=3, max_size=3),
    case=options(dict(width=POSITIVE)),
)
def test_vote(distances, labels, images, case):
    given, wrong = case
    if wrong.get('width', 0) is None:
        return
    labels = torch.tensor(labels).reshape(3, 2)
    near = distances.isfinite()
    named = labels[near]
    if distances.isnan().any():
        wrong = dict(wrong, distances=distances)
    if ((named < 0) | (named > 2)).any():
        wrong = dict(wrong, labels=labels)
    if not all(0 <= i < 2 for i in images):
        wrong = dict(wrong, images=images)
    found = attempt(
        lambda: memory.vote(
            distances, labels, torch.tensor(images), 3, 2, **given
        ),
        wrong,
    )
    if found is REFUSED:
        return
    wanted = np.zeros((2, 3))
    for row in range(3):
        for column in range(2):
            if near[row, column]:
                d, h = float(distances[row, column]), given.get('width')
                vote = 1 if h is None else np.exp(-((d / float(h)) ** 2) / 2)
                wanted[images[row], labels[row, column]] += vote
    assert close(found, wanted)


@fuzz(
    'memory.vote_shares',
    distances=tensors(3, 2, values=st.floats(0, 9, width=32) | st.just(np.inf)),
    logs=tensors(3, 2, values=st.floats(-1e9, 0, width=32)),
    labels=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    images=st.lists(st.integers(0, 1), min_size=3, max_size=3),
    width=st.none() | st.floats(1e-3, 50),
)
def test_vote_shares(distances, logs, labels, images, width):
    labels, images = torch.tensor(labels).reshape(3, 2), torch.tensor(images)
    found = attempt(
        lambda: vote_shares(distances, labels, images, 3, 2, logs, width)
    )
    votes = logs.double() - (
        0 if width is None else (distances.double() / width) ** 2 / 2
    )
    votes[distances.isinf()] = -np.inf
    for image in range(2):
        own = votes[images == image].flatten()
        own = (own - own.max()).exp() if own.isfinite().any() else own.exp()
        near = labels[images == image].flatten()
        wanted = [float(own[near == c].sum()) for c in range(3)]
        total = sum(wanted)
        wanted = [w / total if total else 1 / 3 for w in wanted]
        assert close(found[image], wanted, 1e-9)


@fuzz('memory.all_gather_rows', rows=tensors(SIZES, SIZES))
def test_all_gather_rows(rows):
    assert attempt(lambda: memory.all_gather_rows(rows))[0] is rows
