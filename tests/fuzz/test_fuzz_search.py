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

from u1_plugin import memory
from u1_plugin.memory import Kernel, Matches, Queries, Rule, Sites
from u1_plugin.memory.vote import vote_shares

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


KERNEL = dict(
    kernel=optional(choice('uniform', 'gaussian', 'softmax')),
    width=optional(POSITIVE),
    temperature=optional(POSITIVE),
)


def unread(given) -> list:
    """Options of which a kernel reads none, or that it lacks."""
    own = dict(gaussian='width', softmax='temperature')
    there = [n for n in ('width', 'temperature') if given.get(n) is not None]
    kernel = given.get('kernel')
    if kernel is None:
        return there if len(there) > 1 else []
    read = own.get(kernel)
    return [n for n in there if n != read] + [
        n for n in (read,) if n and n not in there
    ]


def weights_of(given, distances) -> np.ndarray:
    """By the formulas of METHOD, in float64."""
    distances = distances.double().numpy()
    width, temperature = (given.get(n) for n in ('width', 'temperature'))
    if width is not None:
        return np.exp(-((distances / float(width)) ** 2) / 2)
    if temperature is not None:
        return np.exp((1 - distances) / float(temperature))
    return np.isfinite(distances).astype(float)


@fuzz('memory.kernel_of', case=options(KERNEL))
def test_kernel_of(case):
    given, wrong = case
    others = [] if wrong else unread(given)
    found = attempt(
        lambda: memory.kernel_of(**given),
        wrong or dict.fromkeys(others, None),
        also=[*others, 'width', 'temperature', 'kernel'],
    )
    if found is not REFUSED:
        assert not others
        assert given.get('kernel') in (None, found.name)
        assert memory.kernel_of(**found.options) == found


@fuzz(
    'memory.vote',
    distances=tensors(
        3,
        2,
        values=st.floats(0, 2, width=32) | st.sampled_from([np.inf, np.nan]),
    ),
    labels=st.lists(st.integers(-1, 3), min_size=6, max_size=6),
    images=st.lists(st.integers(-1, 2), min_size=3, max_size=3),
    case=options(KERNEL),
)
def test_vote(distances, labels, images, case):
    given, wrong = case
    labels = torch.tensor(labels).reshape(3, 2)
    near = distances.isfinite()
    named = labels[near]
    others = [] if wrong else unread(given)
    wrong = dict(wrong, **dict.fromkeys(others, None))
    also = [*others, *('width', 'temperature') * bool(wrong)]
    if distances.isnan().any():
        wrong = dict(wrong, distances=distances)
    if ((named < 0) | (named > 2)).any():
        wrong = dict(wrong, labels=labels)
    if not all(0 <= i < 2 for i in images):
        wrong = dict(wrong, images=images)
    votes = np.zeros((2, 3))
    with np.errstate(over='ignore', invalid='ignore'):
        if not wrong:
            weights = weights_of(given, distances)
            for row, column in near.nonzero().tolist():
                own = images[row], labels[row, column]
                votes[own] += weights[row, column]
        if not (votes < torch.finfo(distances.dtype).max).all():
            wrong = dict(temperature=float(given['temperature']))
    found = attempt(
        lambda: memory.vote(
            distances, labels, torch.tensor(images), 3, 2, **given
        ),
        wrong,
        also=also,
    )
    if found is not REFUSED:
        assert close(found, votes)


@fuzz(
    'memory.vote_shares, class_shares',
    distances=tensors(3, 2, values=st.floats(0, 2, width=32) | st.just(np.inf)),
    hues=tensors(3, 2, values=st.floats(-3, 3, width=32)),
    kappa=st.floats(0, 1e9),
    labels=st.lists(st.integers(0, 2), min_size=6, max_size=6),
    images=st.lists(st.integers(0, 1), min_size=3, max_size=3),
    kernel=st.just(Kernel())
    | st.builds(
        Kernel, st.sampled_from(['gaussian', 'softmax']), st.floats(1e-3, 50)
    ),
)
def test_vote_shares(distances, hues, kappa, labels, images, kernel):
    labels, images = torch.tensor(labels).reshape(3, 2), torch.tensor(images)
    logs = kappa * (hues.double().cos() - 1)
    options = kernel.options
    found = attempt(
        lambda: vote_shares(distances, labels, images, 3, 2, logs, **options)
    )
    votes = logs.clone()
    if 'width' in options:
        votes -= (distances.double() / options['width']) ** 2 / 2
    if 'temperature' in options:
        votes += (1 - distances.double()) / options['temperature']
    votes[distances.isinf()] = -np.inf
    for image in range(2):
        own = votes[images == image].flatten()
        own = (own - own.max()).exp() if own.isfinite().any() else own.exp()
        near = labels[images == image].flatten()
        wanted = [float(own[near == c].sum()) for c in range(3)]
        total = sum(wanted)
        wanted = [w / total if total else 1 / 3 for w in wanted]
        assert close(found[image], wanted, 1e-6)
    # The same by places: the query's hue is 0.
    places = torch.zeros(3, 2, 2)
    matches = Matches(distances, labels, labels, labels, places, hues)
    asked = pixels_of(torch.zeros(3, 1))._replace(
        images=images, positions=places[:, 0], hues=torch.zeros(3)
    )
    rule = Rule('feature', kappa, kernel=kernel)
    again = attempt(lambda: memory.class_shares(matches, asked, 3, 2, rule))
    assert close(again, found, 1e-5)


@fuzz('memory.all_gather_rows', rows=tensors(SIZES, SIZES))
def test_all_gather_rows(rows):
    assert attempt(lambda: memory.all_gather_rows(rows))[0] is rows
