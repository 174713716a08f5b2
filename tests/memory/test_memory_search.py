"""Engines against brute force in float64."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from test_memory_bank import filled, some_pixels, vectors_of

from u1_plugin.memory import (
    Bias,
    ExactSearch,
    FaissSearch,
    Memory,
    MemoryBank,
    Queries,
    Sites,
    build_search,
    check_engine,
    coreset,
    vote,
)
from u1_plugin.memory.exact_search import _greater, _top
from u1_plugin.memory.precise import distances, prepared, total
from u1_plugin.memory.scores import Scores, sample_of

METRICS = ['cosine', 'l2']
NAN, INF = float('nan'), float('inf')


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


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('k', [1, 7, 120])
@pytest.mark.parametrize('block, chunk', [(1, 5), (7, 3), (16384, 1024)])
def test_exact_search_is_brute_force(metric, k, block, chunk):
    bank = filled()
    search = ExactSearch(bank, metric, chunk=chunk, block=block)
    found = search.search(queries(), k)
    distances, indices = brute_force(bank, metric, k)
    np.testing.assert_allclose(found.distances, distances, atol=1e-9)
    assert np.array_equal(found.indices, indices)
    assert torch.equal(found.costs, found.distances)


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('n, k', [(1000, 3), (1003, 3), (700, 1), (5000, 19)])
def test_long_rows_are_searched_exactly(metric, n, k):
    bank = MemoryBank()
    bank.append(some_pixels(n=n))
    found = ExactSearch(bank, metric).search(queries(), k)
    distances, indices = brute_force(bank, metric, k)
    np.testing.assert_allclose(found.distances, distances, atol=1e-9)
    assert np.array_equal(found.indices, indices)


@pytest.mark.parametrize('metric', METRICS)
def test_faiss_flat_is_brute_force(metric):
    pytest.importorskip('faiss')
    bank = filled()
    found = build_search(bank, 'faiss:Flat', metric).search(queries(), 5)
    distances, indices = brute_force(bank, metric, 5)
    np.testing.assert_allclose(found.distances, distances, atol=1e-9)
    assert np.array_equal(found.indices, indices)


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6])
def test_a_common_offset_hides_no_neighbour(metric, offset):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(300, 64, generator=generator) / 2 + offset
    asked = vectors[:20] + torch.randn(20, 64, generator=generator) / 100
    asked = torch.cat([asked, vectors[:5]])
    for search in engines(bank_of(vectors), metric):
        found = search.search(asked, 5)
        assert_nearest(found, asked, vectors, metric, 5)
        assert (found.distances[20:, 0] == 0).all()  # itself


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0.0, 3.0])
def test_scales_do_not_change_neighbours(metric, offset):
    """Powers of two, which scale without rounding."""
    generator = torch.Generator().manual_seed(0)
    vectors = (torch.randn(100, 16, generator=generator) + offset).half()
    asked = (torch.randn(5, 16, generator=generator) + offset).half()
    vectors, asked = vectors.float(), asked.float()
    plain = ExactSearch(bank_of(vectors), metric).search(asked, 6)
    assert_nearest(plain, asked, vectors, metric, 6)
    # Down to float32's least numbers and up to its greatest.
    for power in (-123, -75, -50, 50, 64, 124):
        scale = 2.0**power
        for search in engines(bank_of(vectors * scale), metric):
            found = search.search(asked * scale, 6)
            assert torch.equal(found.indices, plain.indices), power
            if metric == 'l2':
                found = found._replace(distances=found.distances / scale)
            assert torch.equal(found.distances, plain.distances)


@pytest.mark.parametrize('metric', METRICS)
def test_scales_may_be_mixed(metric):
    generator = torch.Generator().manual_seed(3)
    scales = 10.0 ** torch.randint(-37, 37, (300, 1), generator=generator)
    vectors = torch.randn(300, 8, generator=generator) * scales
    vectors[::50] = 0
    asked = torch.cat(
        [
            vectors[:25] * (1 + 1e-3 * torch.rand(25, 8, generator=generator)),
            torch.zeros(1, 8),
            torch.full((1, 8), 3e38),
            torch.full((1, 8), 1e-45),
        ]
    )
    for search in engines(bank_of(vectors), metric):
        found = search.search(asked, 9)
        assert_nearest(found, asked, vectors, metric, 9)


@pytest.mark.parametrize('metric', METRICS)
def test_zero_vectors_have_their_distances(metric):
    vectors = torch.tensor([[1.0, 1], [0, 0], [-1, -1], [0, 0], [2, 2.5]])
    asked = torch.tensor([[0.0, 0], [3, 3]])
    for search in engines(bank_of(vectors), metric):
        found = search.search(asked, 5)
        if metric == 'cosine':
            assert found.distances[0].tolist() == [1] * 5
            assert found.indices[0].tolist() == [0, 1, 2, 3, 4]
            assert found.indices[1].tolist() == [0, 4, 1, 3, 2]
            assert found.distances[1, :4][[0, 2, 3]].tolist() == [0, 1, 1]
            assert found.distances[1, 4].item() == pytest.approx(2, rel=1e-15)
        else:
            assert found.indices[0].tolist() == [1, 3, 0, 2, 4]


def test_parallel_vectors_are_equally_near():
    base = torch.tensor([1.0, 2, 5, 7])
    vectors = base * torch.tensor([3.0, 1, 7, 1e10, 1e-10])[:, None].half()
    vectors = torch.cat([vectors[:3], base[None] * 4, -base[None]])
    for search in engines(bank_of(vectors), 'cosine'):
        found = search.search(base[None] * 11, 5)
        assert found.indices.tolist() == [[0, 1, 2, 3, 4]]
        assert found.distances[0, :4].tolist() == [0] * 4
        assert found.distances[0, 4].item() == pytest.approx(2, rel=1e-15)


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('different', [1, 3, 20])
def test_of_equals_the_first_is_found(metric, different):
    """However the bank is cut, and however many are asked at a time."""
    generator = torch.Generator().manual_seed(different)
    kinds = torch.randn(different, 12, generator=generator)
    vectors = kinds[torch.randint(different, (300,), generator=generator)]
    asked = torch.cat([kinds[:3], torch.randn(4, 12, generator=generator)])
    expected = ExactSearch(bank_of(vectors, 300), metric).search(asked, 100)
    assert_nearest(expected, asked, vectors, metric, 100)
    for cut, block, chunk in ((300, 64, 99), (37, 16384, 3), (300, 29, 2)):
        bank = bank_of(vectors, cut)
        for k in (1, 6, 100):
            search = ExactSearch(bank, metric, chunk=chunk, block=block)
            found = search.search(asked, k)
            assert torch.equal(found.indices, expected.indices[:, :k])
            assert torch.equal(found.distances, expected.distances[:, :k])
    faiss = list(engines(bank, metric))[-1]
    for rows in (slice(0, 12), slice(3, 4)):
        found = faiss.search(asked[rows], 100)
        assert torch.equal(found.indices, expected.indices[rows])
        assert torch.equal(found.distances, expected.distances[rows])


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


@settings(max_examples=80)
@given(
    searches(),
    st.sampled_from(METRICS),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 5),
)
def test_any_search_is_that_of_float64(case, metric, cut, block, chunk):
    vectors, asked, k = case
    bank = bank_of(vectors, cut)
    found = ExactSearch(bank, metric, chunk, block).search(asked, k)
    assert_nearest(found, asked, vectors, metric, k)
    one = [ExactSearch(bank, metric).search(a[None], k) for a in asked]
    for field, parts in zip(found, zip(*one)):
        assert torch.equal(field, torch.cat(parts))
    try:
        other = FaissSearch(bank, 'Flat', metric).search(asked, k)
    except ImportError:
        return
    for field, second in zip(found, other):
        assert torch.equal(field, second)


@settings(max_examples=40)
@given(searches(), st.sampled_from(METRICS))
def test_the_bounds_hold(case, metric):
    """Of each score, about the closeness that the distance defines."""
    vectors, asked, _ = case
    scores = Scores(bank_of(vectors), metric)
    question = scores.asked(asked.double())
    found = torch.cat(
        [part.clone() for *_, part in scores.blocks(question, 9)], dim=1
    )
    far = all_distances(asked, vectors, metric)
    if metric == 'l2':
        far = (far * scores.scale).square() / 2
    closeness = question.base[:, None] - far
    rows = question.slack.isfinite()
    upper = found + question.slack[:, None]
    index = torch.arange(len(vectors)).expand(len(asked), -1)
    lower = found - question.slack[:, None]
    lower = lower - scores.span(index, vectors.size(1))
    assert (closeness <= upper)[rows].all()
    assert (closeness >= lower)[rows].all()


def test_coarser_products_answer_the_same():
    """As with TensorFloat32 or bfloat16, whose products are less precise."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 32, generator=generator)
    asked = torch.randn(20, 32, generator=generator)
    search = ExactSearch(bank_of(vectors), 'l2')
    expected = search.search(asked, 5)
    plain = search.scores.asked(asked.double())
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision('medium')
        coarse = search.scores.asked(asked.double())
        found = search.search(asked, 5)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (coarse.slack > 100 * plain.slack).all()
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)


def test_distances_depend_on_their_vectors_alone():
    generator = torch.Generator().manual_seed(0)
    for channels, metric in itertools.product((1, 2, 7, 64, 513), METRICS):
        first = torch.randn(100, channels, generator=generator)
        second = torch.randn(100, channels, generator=generator)
        first, second = prepared(first, metric), prepared(second, metric)
        whole = distances(first, second, metric)
        parts = [
            distances(a[None], b[None], metric) for a, b in zip(first, second)
        ]
        assert torch.equal(whole, torch.cat(parts))
        assert torch.equal(whole, distances(second, first, metric))


@pytest.mark.parametrize('channels', [1, 2, 3, 5, 8, 31, 512])
def test_the_total_is_the_sum(channels):
    values = torch.arange(3.0 * channels).reshape(3, channels)
    assert torch.equal(total(values), values.sum(1))


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
    scores = vote(found.distances, labels, images, 4, 17)
    assert torch.equal(scores.sum(1), (found.indices >= 0).double().sum(1))


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


@pytest.mark.parametrize('dtype', ['float16', 'uint8'])
@pytest.mark.parametrize('metric', METRICS)
def test_stored_vectors_are_what_is_searched(dtype, metric):
    bank = filled(dtype)
    for search in engines(bank, metric):
        found = search.search(queries(), 9)
        assert_nearest(found, queries(), vectors_of(bank), metric, 9)


def test_wider_queries_keep_their_precision():
    vectors = torch.arange(40.0).reshape(20, 2)
    asked = torch.tensor([[7.0, 8.0]], dtype=torch.float64)
    above, below = asked + 1e-12, asked - 1e-12
    for search in engines(bank_of(vectors), 'l2'):
        assert search.search(asked, 2).indices.tolist() == [[3, 4]]
        assert search.search(above, 2).indices.tolist() == [[4, 3]]
        assert search.search(below, 2).indices.tolist() == [[3, 4]]
    for dtype in (torch.float16, torch.bfloat16):
        found = ExactSearch(bank_of(vectors), 'l2').search(asked.to(dtype), 1)
        assert found.distances.dtype == torch.float64


CHANGES = dict(
    remove=lambda bank: bank.remove(labels=[0]),
    keep=lambda bank: bank.keep(torch.arange(50, 110)),
    append=lambda bank: bank.append(some_pixels(seed=5)),
    swap=lambda bank: (bank.remove(images=[0]), bank.append(some_pixels(5))),
)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat', 'faiss:HNSW8'])
@pytest.mark.parametrize('change', CHANGES)
def test_a_changed_bank_is_searched_as_it_is(engine, change):
    if engine != 'exact':
        pytest.importorskip('faiss')
    bank = filled()
    asked = Queries(queries(), torch.zeros(17, 2), torch.zeros(17))
    search, memory = build_search(bank, engine), Memory(bank, engine, shuffle=1)
    search.search(queries(), 5), memory.search(asked, 5)
    CHANGES[change](bank)
    fresh = build_search(bank, engine).search(queries(), 5)
    for old, new in zip(search.search(queries(), 5), fresh):
        assert torch.equal(old, new)
    fresh = Memory(bank, engine, shuffle=1).search(asked, 5)
    for old, new in zip(memory.search(asked, 5), fresh):
        assert torch.equal(old, new)
    assert torch.equal(fresh.labels, bank.field('labels')[fresh.indices])


def test_an_emptied_bank_says_so():
    bank = filled()
    asked = Queries(queries(), torch.zeros(17, 2), torch.zeros(17))
    search, memory = ExactSearch(bank), Memory(bank)
    bank.remove(labels=range(4))
    for call in (
        lambda: search.search(queries(), 1),
        lambda: memory.search(asked, 1),
        lambda: Memory(bank),
        lambda: build_search(bank, 'exact'),
    ):
        with pytest.raises(ValueError, match='the bank is empty; fill it'):
            call()
    bank.append(some_pixels(channels=3))
    three = queries(2, 3)
    assert search.search(three, 40).indices.shape == (2, 40)
    with pytest.raises(ValueError, match=r'\(Q, 3\)'):
        search.search(queries(), 1)


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


def test_no_query_has_no_neighbour():
    for engine in engines(filled(), 'cosine'):
        found = engine.search(torch.zeros(0, 6), 3)
        assert found.indices.shape == found.distances.shape == (0, 3)


def bias(plane='both', width=0.3, kappa=4.0, seed=0, count=120, **options):
    asked, memory = some_pixels(17, seed=seed + 50), some_pixels(count)
    query = Sites(asked.positions, asked.hues)
    memory = Sites(memory.positions, memory.hues)
    return Bias(query, memory, plane, kappa, 0.4, width)._replace(**options)


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(width=0), 'width=0'),
        (dict(width=NAN), 'width=nan'),
        (dict(width=INF), 'width=inf'),
        (dict(width=True), 'width=True'),
        (dict(width='1'), "width='1'"),
        (dict(width=None), 'width=None'),
        (
            dict(temperature=0.1),
            "temperature=0.1 is not read by kernel='gaussian'",
        ),
        (dict(width=None, temperature=0), 'temperature=0'),
        (dict(width=None, temperature=NAN), 'temperature=nan'),
        (dict(kappa=-1.0), 'kappa=-1'),
        (dict(kappa=NAN), 'kappa=nan'),
        (dict(sigma=0.0), 'sigma=0'),
        (dict(plane='hue'), "plane='hue'"),
        (dict(query=Sites(torch.zeros(3, 2), torch.zeros(3))), "bias' query"),
        (dict(memory=Sites(torch.zeros(3, 2), torch.zeros(3))), "bias' memory"),
        (dict(query=Sites(torch.zeros(17, 2), torch.full((17,), NAN))), 'NaN'),
    ],
)
def test_a_bad_bias_is_refused(changes, words):
    with pytest.raises(ValueError) as caught:
        ExactSearch(filled()).search(queries(), 3, bias(**changes))
    assert words in str(caught.value)


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('plane', ['image', 'feature', 'position', 'radius'])
@pytest.mark.parametrize('width', [1e-3, 0.3, 1e3])
def test_the_greatest_votes_are_found(metric, plane, width):
    """Also where most votes are as small as 0, and among doubles."""
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(9, (120,), generator=generator)
    places = some_pixels(120)
    memory = Sites(places.positions[which], places.hues[which])
    vectors = places.vectors[which.flip(0) % 5]
    given = bias(plane, width)._replace(memory=memory)
    expected = None
    for cut, block, chunk in ((120, 16384, 1024), (19, 16, 64), (120, 37, 40)):
        search = ExactSearch(bank_of(vectors, cut), metric, chunk, block)
        found = search.search(queries(), 11, given)
        if expected is None:
            expected = found
        for one, two in zip(found, expected):
            assert torch.equal(one, two)
    far = all_distances(queries(), vectors, metric)
    logs = given.of_pairs(
        torch.arange(17)[:, None], torch.arange(120)[None], far
    )
    best = (-logs).sort(dim=1, stable=True)
    close = dict(rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.costs, best.values[:, :11], **close)
    torch.testing.assert_close(
        -logs.gather(1, found.indices), found.costs, **close
    )
    torch.testing.assert_close(
        far.gather(1, found.indices), found.distances, **close
    )
    steps = found.costs.diff(dim=1)
    assert (found.indices.diff(dim=1)[steps == 0] > 0).all()


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat'])
def test_a_bias_is_one(engine):
    search = build_search(filled(), engine)
    with pytest.raises(ValueError, match='bias=3 must be a Bias or None'):
        search.search(queries(), 3, 3)


def test_numbers_of_numpy_are_numbers():
    options = dict(chunk=np.int64(2), block=np.int32(3))
    found = ExactSearch(filled(), **options).search(queries(), np.int64(3))
    wanted = ExactSearch(filled()).search(queries(), 3)
    assert torch.equal(found.indices, wanted.indices)
    Memory(filled(), shuffle=np.int64(3))
    found = coreset(filled(), np.float32(0.5), np.int64(2), np.int64(1))
    assert torch.equal(found, coreset(filled(), 0.5, 2, 1))


@pytest.mark.parametrize('k', [1, 3, 10])
@pytest.mark.parametrize('more', [-1, 0, 1, 63, 64, 700])
def test_the_greatest_of_a_long_row(k, more):
    """About the length from which groups of 64 are compared first."""
    count = 64 * 4 * k + more
    generator = torch.Generator().manual_seed(more)
    rows = [torch.randperm(count, generator=generator) for _ in range(3)]
    # The greatest side by side at either end, and one in each group.
    rows += [torch.arange(count), torch.arange(count).flip(0)]
    rows.append((torch.arange(count) % 64) * count + torch.arange(count) // 64)
    scores = torch.stack(rows).double()
    values, at = _top(scores, k)
    expected = scores.topk(k, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(at, expected.indices)


@given(
    st.integers(1, 5),
    st.integers(1, 200),
    st.integers(-1, 40),
    st.integers(0, 9),
)
def test_what_is_above_a_bound_is_found(rows, count, least, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 40, (rows, count), generator=generator).float()
    bounds = (least + torch.arange(float(rows)))[:, None]
    values, at = _greater(scores, bounds)
    for row, wanted in enumerate(scores > bounds):
        kept = ~values[row].isneginf()
        assert torch.equal(at[row][kept], wanted.nonzero()[:, 0])
        assert torch.equal(values[row][kept], scores[row][wanted])


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('order', ['nearest last', 'nearest first', 'equal'])
def test_later_blocks_are_searched_for_what_is_nearer(metric, order):
    """Of the first block alone all groups are ranked."""
    vectors = torch.randn(700, 6, generator=torch.Generator().manual_seed(2))
    asked = torch.randn(9, 6, generator=torch.Generator().manual_seed(3))
    far = all_distances(asked, vectors, metric).mean(0)
    turned = far.argsort(descending=order == 'nearest last')
    vectors = vectors[:90].repeat(8, 1) if order == 'equal' else vectors[turned]
    bank = bank_of(vectors, 130)
    found = ExactSearch(bank, metric, block=130).search(asked, 12)
    assert_nearest(found, asked, vectors, metric, 12)
    for row in found.indices:
        assert len(row.unique()) == 12


@pytest.mark.parametrize('metric', METRICS)
def test_rows_longer_than_any_candidates(metric):
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(4000, 5, generator=generator)
    asked = torch.randn(9, 5, generator=generator)
    found = ExactSearch(bank_of(vectors, 4000), metric).search(asked, 1)
    assert_nearest(found, asked, vectors, metric, 1)


@pytest.mark.parametrize('kappa', [0.0, 1.0, 100.0])
def test_bounds_of_votes_hold_the_rounding_of_float64(kappa):
    logs = -torch.tensor([0.0, 1e-9, 0.3, 1.0, 700.0]).double() * (1 + kappa)
    given = bias(kappa=kappa)
    upper, lower = given.bounds(logs, 1), given.bounds(logs, -1)
    ulps = 4 * torch.from_numpy(np.spacing(logs.abs().numpy() + kappa))
    assert (upper >= logs + ulps)[1:].all()
    assert (lower <= logs - ulps)[1:].all()
    assert upper[0] >= 0 >= lower[0]
    narrow = 1e-11 * (logs.abs() + kappa)
    assert (upper - logs <= narrow).all() and (logs - lower <= narrow).all()


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


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0.0, 50.0])
@pytest.mark.parametrize('width', [None, 0.3, 1e9])
def test_what_ranks_a_pixel_lies_between_its_bounds(metric, offset, width):
    """Of pixels that are the query, and votes of nothing but the place too."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(120, 16, generator=generator) + offset
    asked = torch.cat([vectors[:9], vectors[9:17] + 0.01])
    vectors[20:24] = asked[-1] = 0
    search = ExactSearch(bank_of(vectors), metric)
    given = None if width is None else bias('image', width)
    question = search.scores.asked(asked, given)
    # Of zeros, products of centred vectors say nothing.
    known = question.slack.isfinite()
    assert known[:-1].all()
    assert known[-1] == (metric == 'l2' or search.scores.plain)
    candidates = search._candidates(question, 120)
    assert (
        candidates.indices.sort(dim=1).values.tolist() == [[*range(120)]] * 17
    )
    far = all_distances(asked, vectors, metric).gather(1, candidates.indices)
    if given is None:
        scaled = far
        if metric == 'l2':
            scaled = (far * search.scores.scale).square() / 2
        truth = question.base[:, None] - scaled
    else:
        rows = torch.arange(17)[:, None]
        truth = given.of_pairs(rows, candidates.indices, far)
    assert (search._least(question, candidates) < truth)[known].all()
    assert (truth < candidates.most).all()
    assert (candidates.most.diff(dim=1) <= 0)[known].all()


@pytest.mark.parametrize('channels', [1, 16, 300])
@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0.0, 50.0])
def test_bounds_are_no_narrower_than_the_law_and_hardly_wider(
    channels, metric, offset
):
    """Products of C terms are off by C u |q| |v| at most, u = 2^-24."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(120, channels, generator=generator) + offset
    scores = Scores(bank_of(vectors), metric)
    assert scores.plain == (offset == 0)
    asked = scores.asked(vectors[:9].double())
    index = torch.arange(120)
    span = scores.span(index, channels)
    law, most = channels * 2.0**-24, (channels + 12) * 2.0**-24
    if scores.plain and metric == 'cosine':
        # Of unit vectors, whatever they are.
        assert (asked.slack >= law).all() and (span == 0).all()
        assert (asked.slack <= 2 * most).all() and (asked.base == 1).all()
        return
    # |q| |v| <= (|q|^2 + |v|^2) / 2, above and below the score.
    queries_, moved = asked.vectors.double(), scores.moved(vectors).double()
    squared = queries_.square().sum(1)
    torch.testing.assert_close(asked.base, squared / 2, rtol=1e-5, atol=1e-30)
    assert (asked.slack >= law * squared / 2).all()
    assert (asked.slack <= 2 * most * squared + 1e-12).all()
    squared = moved.square().sum(1)
    assert (span >= law * squared).all() and (span <= 2 * most * squared).all()
    # A score stands in the middle of its span, but for the rounding itself.
    found = torch.cat(
        [part.clone() for *_, part in scores.blocks(asked, 50)], dim=1
    )
    above = found.double() - (queries_ @ moved.T - squared / 2)
    if channels == 300:
        torch.testing.assert_close(
            (above / span).mean(), torch.tensor(0.5).double(), atol=0.1, rtol=0
        )


@pytest.mark.parametrize(
    'factor, cosine, l2',
    [
        (1.0, True, True),
        # Zeros have no direction, and small numbers do not matter beside 1.
        *((0.0, True, True), (1e-30, False, True), (0.9e-15, False, True)),
        *((1.1e-15, True, True), (0.9e15, True, True), (1.1e15, False, False)),
    ],
)
def test_products_of_what_float32_holds_are_plain(factor, cosine, l2):
    sides = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    bank = bank_of(torch.cat([sides, sides * factor]))
    assert Scores(bank, 'cosine').plain == cosine
    assert Scores(bank, 'l2').plain == l2
    # Of small numbers alone lengths may leave float32 as well.
    small = 0 < factor < 1e-15
    assert Scores(bank_of(sides * factor), 'l2').plain == (l2 and not small)


@pytest.mark.parametrize('offset, plain', [(2.6, True), (2.7, False)])
@pytest.mark.parametrize('count', [4, 400])
def test_an_offset_dwarfs_what_is_an_eighth_of_it(offset, plain, count):
    """The mean square of the numbers is their spread's 1 + offset^2 times."""
    turn = torch.arange(count) * 2 * torch.pi / count
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    vectors = circle + torch.tensor([offset, 0.0])
    assert Scores(bank_of(vectors, 400), 'l2').plain == plain


def test_a_query_of_zeros_has_its_greatest_votes():
    """All pixels are at the distance 1: places decide, early ones or late."""
    asked, given = torch.zeros(17, 6), bias('image', 1.0)
    search = ExactSearch(filled(), 'cosine', block=8)
    found = search.search(asked, 5, given)
    rows, columns = torch.arange(17)[:, None], torch.arange(120)[None]
    logs = given.of_pairs(rows, columns, torch.ones(17, 120).double())
    expected = logs.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found.indices, expected.indices[:, :5])
    torch.testing.assert_close(found.costs, -expected.values[:, :5])


@pytest.mark.parametrize('width', [1, 3, 5, 6, None])
def test_a_coreset_is_greedy_after_a_random_projection(width):
    """Step by step, on Gaussian projections of the unit vectors."""
    generator = torch.Generator().manual_seed(2)
    channels = 6 if width else 200
    vectors = torch.rand(50, channels, generator=generator) * 9
    options = {} if width is None else dict(width=width, seed=7)
    chosen = coreset(bank_of(vectors), 0.2, **options)
    seed, width = options.get('seed', 0), width or 128
    units = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    if width < channels:
        units = (
            units @ torch.randn(channels, width, generator=generator).double()
        )
    apart = pairwise_distances(units.numpy())
    generator = torch.Generator().manual_seed(seed)
    taken = [int(torch.randint(50, (1,), generator=generator))]
    while len(taken) < 10:
        taken.append(int(apart[:, taken].min(1).argmax()))
    assert chosen.tolist() == sorted(taken)


def test_a_coreset_keeps_at_least_one():
    bank = bank_of(torch.rand(20, 4))
    first = torch.randint(20, (1,), generator=torch.Generator().manual_seed(3))
    assert coreset(bank, 1e-9, seed=3).tolist() == first.tolist()
    assert len(coreset(bank, 0.124)) == 2  # of 2.48
    assert coreset(bank, 1.0).tolist() == list(range(20))


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat', 'faiss:HNSW8'])
def test_nothing_is_built_again_of_a_bank_that_stays(engine):
    if engine != 'exact':
        pytest.importorskip('faiss')
    search = build_search(filled(), engine)
    parts = 'scores' if engine == 'exact' else 'index'
    before = getattr(search, parts)
    search.search(queries(), 5), search.search(queries(), 7)
    assert getattr(search, parts) is before


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


@pytest.mark.parametrize('engine', ['other:Flat', 'faiss:', 'faiss', 'Flat'])
def test_engines_are_exact_or_of_faiss(engine):
    with pytest.raises(ValueError, match=f"engine='{engine}' must be 'exact'"):
        check_engine(engine, 'l2', 4)
