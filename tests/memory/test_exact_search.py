"""The exact search is that of brute force in float64, bit by bit."""

import numpy as np
import pytest
import torch
from banks import filled, some_pixels, vectors_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest import (
    METRICS,
    all_distances,
    assert_nearest,
    bank_of,
    brute_force,
    queries,
    searches,
)
from sklearn.neighbors import KNeighborsClassifier
from votes import shares_of

from u1_plugin.memory import ExactSearch, FaissSearch, MemoryBank
from u1_plugin.memory.scores import Scores


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


def test_coarser_products_answer_the_same():
    """As with TensorFloat32 or bfloat16, whose products are less precise."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(500, 32, generator=generator)
    asked = torch.randn(20, 32, generator=generator)
    search = ExactSearch(bank_of(vectors), 'l2')
    expected = search.search(asked, 5)
    plain = search.scores.prepare(asked.double())
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision('medium')
        coarse = search.scores.prepare(asked.double())
        found = search.search(asked, 5)
    finally:
        torch.set_float32_matmul_precision(before)
    assert (coarse.slack > 100 * plain.slack).all()
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.distances, expected.distances)


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
    shares = shares_of(found.distances, labels, torch.arange(17), 4, 17)
    expected = model.predict_proba(queries().numpy())
    np.testing.assert_allclose(shares, expected)


def test_a_bank_is_read_once_where_scores_tell_all_apart(monkeypatch):
    bank, sizes = bank_of(torch.eye(60)[:, :6] + torch.rand(60, 6)), []
    score = Scores._score

    def counted(self, asked, block, *others):
        sizes.append(len(block))
        return score(self, asked, block, *others)

    monkeypatch.setattr(Scores, '_score', counted)
    ExactSearch(bank, 'cosine', block=25).search(queries(), 3)
    assert sum(sizes) == 60


@pytest.mark.parametrize('length', [1.0, 1 + 2.0**-21, 1 + 2.0**-19, 3.0])
def test_lengths_about_one_are_one_within_the_bounds(length):
    """Vectors of length one, or nearly, are not divided by it."""
    generator = torch.Generator().manual_seed(4)
    vectors = torch.randn(300, 6, generator=generator).double()
    vectors /= vectors.norm(dim=1, keepdim=True)
    vectors[::2] *= length
    vectors = vectors.float()
    bank = bank_of(vectors)
    found = ExactSearch(bank, 'cosine').search(queries(), 9)
    assert_nearest(found, queries(), vectors, 'cosine', 9)


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
