"""How many cells an index visits, and what it says of what it finds."""

import logging

import numpy as np
import pytest
import torch
from banks import some_pixels
from hypothesis import given
from hypothesis import strategies as st
from nearest import all_distances

from u1_plugin.memory import (
    ExactSearch,
    FaissSearch,
    Memory,
    MemoryBank,
    Queries,
    build_search,
    least_nprobe,
)
from u1_plugin.memory.recall import HeldOut, least

faiss = pytest.importorskip('faiss')

COUNT, PIXELS, CHANNELS, CELLS = 240, 4, 8, 16
FACTORY = f'IVF{CELLS},Flat'


def vectors() -> torch.Tensor:
    """Pixels of an image lie close together, as those of real ones."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT // PIXELS, 1, CHANNELS, generator=generator)
    noise = torch.rand(COUNT // PIXELS, PIXELS, CHANNELS, generator=generator)
    return (images + 0.4 * noise).flatten(0, 1)


def bank_of(own: torch.Tensor, pixels: int = PIXELS) -> MemoryBank:
    bank = MemoryBank()
    some = some_pixels(len(own), own.size(1))
    images = torch.arange(len(own)) // pixels
    bank.append(some._replace(vectors=own, images=images))
    return bank


def recall_by_hand(own, metric, nprobe, k, queries, seed, factory=FACTORY):
    """All distances, an index of faiss' own, the mean over queries."""
    count = min(queries, len(own))
    drawn = np.random.default_rng(seed).choice(len(own), count, replace=False)
    index = FaissSearch(bank_of(own), factory, metric, nprobe=nprobe).index
    asked = own[np.sort(drawn)]
    if metric == 'cosine':
        asked = torch.nn.functional.normalize(asked.double(), dim=1).float()
    _, found = index.search(asked.numpy(), len(own))
    far = all_distances(own, own, metric).numpy()
    shares = []
    for query, near in zip(np.sort(drawn), found):
        others = np.arange(len(own)) // PIXELS != query // PIXELS
        limit = np.sort(far[query][others])[k - 1]
        near = [n for n in near if n >= 0 and others[n]][:k]
        shares.append(np.mean([far[query][n] <= limit for n in near] or [0]))
        shares[-1] *= len(near) / k
    return float(np.mean(shares))


@pytest.mark.parametrize('metric', ['cosine', 'l2'])
@pytest.mark.parametrize('wanted', [0.3, 0.8, 0.95, 1.0])
def test_the_least_nprobe_is_that_of_trying_all(metric, wanted):
    own, options = vectors(), dict(k=5, queries=30, seed=3)
    found = least_nprobe(
        bank_of(own), FACTORY, wanted, metric=metric, **options
    )
    by_hand = [
        recall_by_hand(own, metric, n, **options) for n in range(1, CELLS + 1)
    ]
    first = next(n for n, share in enumerate(by_hand, 1) if share >= wanted)
    assert found.nprobe == first and found.cells == CELLS
    assert found.share == pytest.approx(by_hand[first - 1], abs=1e-9)
    assert (found.k, found.queries) == (5, 30)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 1))
def test_the_least_of_what_grows(shares, wanted):
    shares, asked = sorted(shares), []

    def share_at(number):
        asked.append(number)
        return shares[number - 1]

    number, share = least(share_at, len(shares), wanted)
    assert share == shares[number - 1]
    if shares[-1] < wanted:
        assert number == len(shares)
    else:
        assert shares[number - 1] >= wanted
        assert number == 1 or shares[number - 2] < wanted
    assert len(asked) <= 2 * len(shares).bit_length() + 1
    assert max(asked) <= max(2 * number, 1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 1))
def test_the_least_of_what_does_not_grow_everywhere(shares, wanted):
    number, share = least(lambda n: shares[n - 1], len(shares), wanted)
    assert share == shares[number - 1]
    if share < wanted:
        assert number == len(shares)
    else:
        assert number == 1 or shares[number - 2] < wanted


@pytest.fixture
def records():
    """What the plugin logs, whoever else listens."""
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logger = logging.getLogger('u1_plugin')
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield kept
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_an_index_with_cells_finds_what_was_asked_for(records):
    bank = bank_of(vectors())
    config = dict(type='faiss', factory=FACTORY)
    search = build_search(bank, dict(config, recall=0.8), k=5)
    found = search.measured
    assert 0.8 <= found.share and 1 <= found.nprobe < CELLS
    (record,) = records
    assert record.levelname == 'INFO'
    assert found == least_nprobe(bank, FACTORY, 0.8, k=5)
    cells = faiss.extract_index_ivf(search.index)
    assert cells.nprobe == found.nprobe
    line = (
        f"factory='{FACTORY}': nprobe {found.nprobe} of {CELLS} cells, "
        f'recall@5 {found.share:.3f}'
    )
    assert line in record.getMessage()
    # Less is found by less.
    less = build_search(bank, dict(config, recall=0.3), k=5).measured
    assert less.nprobe < found.nprobe and 0.3 <= less.share < found.share


def test_without_a_word_nearly_all_is_found(records):
    search = FaissSearch(bank_of(vectors()), FACTORY)
    assert search.measured.share >= 0.95
    assert search.measured == least_nprobe(search.bank, FACTORY)
    assert {r.levelname for r in records} == {'INFO'}


@pytest.mark.parametrize(
    'options, remedy',
    [
        (dict(factory=FACTORY, nprobe=1), 'set a greater nprobe, or recall='),
        (dict(factory='IVF4,PQ2x2'), "take another factory, or engine='exact'"),
        (dict(factory='PQ2x2'), "take another factory, or engine='exact'"),
    ],
)
def test_a_low_recall_is_a_warning(records, options, remedy):
    search = FaissSearch(bank_of(vectors()), **options)
    assert search.measured.share < 0.95
    (record,) = (r for r in records if r.levelno >= logging.WARNING)
    text = record.getMessage()
    assert options['factory'] in text and remedy in text
    assert f'recall@10 {search.measured.share:.3f}' in text
    if 'nprobe' in options:
        assert (search.measured.nprobe, search.measured.cells) == (1, CELLS)
    elif 'IVF' not in options['factory']:
        assert search.measured.cells is None


def test_a_recall_out_of_reach_is_refused():
    bank = bank_of(vectors())
    engine = dict(type='faiss', factory='IVF4,PQ2x2', recall=0.9)
    with pytest.raises(ValueError, match='nprobe 4 of 4 cells') as caught:
        build_search(bank, engine)
    words = "engine.recall=0.9 is not reached by factory='IVF4,PQ2x2'"
    assert words in str(caught.value)
    with pytest.raises(ValueError, match='recall=0.9 is not reached'):
        least_nprobe(bank, 'IVF4,PQ2x2', 0.9)


def test_of_what_looks_at_all_nothing_is_measured(records):
    assert FaissSearch(bank_of(vectors()), 'Flat').measured is None
    assert not records


def test_pixels_of_a_query_s_own_image_do_not_count():
    """Each image is a cell of its own, and a query's neighbours are not."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(8).repeat_interleave(6, 0)
    own = centres + 0.01 * torch.rand(48, 8, generator=generator)
    inside = least_nprobe(bank_of(own, pixels=1), 'IVF8,Flat', 0.99, k=5)
    outside = least_nprobe(bank_of(own, pixels=6), 'IVF8,Flat', 0.99, k=5)
    assert inside.nprobe == 1 < outside.nprobe


def test_doubles_of_the_nearest_are_as_good():
    """Every pixel 20 times: of equals it does not matter which is found."""
    own = vectors()[::4].repeat(20, 1)
    found = least_nprobe(bank_of(own, pixels=1), FACTORY, 1.0, k=5)
    assert found.nprobe == 1 and found.share == 1


@pytest.mark.parametrize('count', [1, 2, 5])
def test_small_banks(count):
    """Of one image, and of fewer pixels than neighbours."""
    own = vectors()[:count]
    for pixels in (1, count):
        found = least_nprobe(bank_of(own, pixels), 'IVF1,Flat', 1.0)
        assert (found.nprobe, found.share, found.queries) == (1, 1.0, count)


def test_held_out_pixels_are_drawn_by_their_seed():
    exact = ExactSearch(bank_of(vectors()))
    one, same, other = (HeldOut(exact, 5, 20, seed) for seed in (0, 0, 1))
    assert torch.equal(one.vectors, same.vectors)
    assert not torch.equal(one.vectors, other.vectors)
    assert len(one.vectors.unique(dim=0)) == 20
    assert one.depth == 5 + PIXELS
    assert len(HeldOut(exact, 5, 9999, 0).vectors) == COUNT


def test_the_recall_is_that_of_the_bank_as_it_is():
    bank = bank_of(vectors())
    memory = Memory(bank, dict(type='faiss', factory=FACTORY, recall=0.9), k=3)
    before = memory._search.measured
    bank.append(bank_of_more())
    asked = Queries(vectors()[:3], torch.zeros(3, 2), torch.zeros(3))
    memory.search(asked, 3)
    after = memory._search.measured
    assert after.share >= 0.9 and after != before
    assert str(memory).endswith(str(after)) and after.k == 3


def bank_of_more():
    generator = torch.Generator().manual_seed(7)
    more = torch.rand(200, CHANNELS, generator=generator)
    images = torch.arange(200) + 10**6
    return some_pixels(200, CHANNELS)._replace(vectors=more, images=images)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(recall=0), 'recall=0'),
        (dict(recall=1.5), 'recall=1.5'),
        (dict(queries=0), 'queries=0'),
        (dict(seed=-1), 'seed=-1'),
        (dict(k=0), 'k=0'),
        (dict(metric='dot'), "metric='dot'"),
        (dict(factory='HNSW8'), "factory='HNSW8', which has no cells"),
        (dict(factory='IVF999,Flat'), 'does not fit 240 vectors'),
        (dict(factory='Nonsense'), "factory='Nonsense'"),
        (dict(bank=MemoryBank()), 'empty'),
    ],
)
def test_bad_options_are_refused(options, words):
    usual = dict(bank=bank_of(vectors()), factory=FACTORY)
    with pytest.raises(ValueError) as caught:
        least_nprobe(**usual | options)
    assert words in str(caught.value)
