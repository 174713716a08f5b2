"""Every exact engine finds the nearest, and of equals the first."""

import pytest
import torch
from banks import filled, some_pixels, vectors_of
from nearest import METRICS, assert_nearest, bank_of, engines, queries

from u1_plugin.memory import ExactSearch, Memory, Queries, build_search


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


def test_no_query_has_no_neighbour():
    for engine in engines(filled(), 'cosine'):
        found = engine.search(torch.zeros(0, 6), 3)
        assert found.indices.shape == found.distances.shape == (0, 3)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat', 'faiss:HNSW8'])
def test_nothing_is_built_again_of_a_bank_that_stays(engine):
    if engine != 'exact':
        pytest.importorskip('faiss')
    search = build_search(filled(), engine)
    parts = 'scores' if engine == 'exact' else 'index'
    before = getattr(search, parts)
    search.search(queries(), 5), search.search(queries(), 7)
    assert getattr(search, parts) is before
