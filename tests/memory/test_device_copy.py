"""An exact search that keeps a copy of the vectors."""

import copy
import os
import pickle
import tempfile
import threading
from pathlib import Path

import pytest
import torch
from bank_files import both
from banks import DTYPES, some_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest import METRICS, assert_nearest, bias, queries

from u1_plugin.memory import (
    ExactSearch,
    Memory,
    MemoryBank,
    Queries,
    parse_engine,
)
from u1_plugin.memory.device_copy import DeviceCopy

DEVICES = ['cpu'] + ['cuda'] * torch.cuda.is_available()


def test_other_tests_see_no_gpu():
    """Whose processes fork, which CUDA forbids once it has begun."""
    hidden = os.environ.get('CUDA_VISIBLE_DEVICES') == ''
    assert hidden != bool(os.environ.get('U1_TEST_GPU'))


def bank_of(dtype: str, *parts: torch.Tensor) -> MemoryBank:
    bank = MemoryBank(dtype)
    for part in parts:
        bank.append(some_pixels(len(part), part.size(1))._replace(vectors=part))
    return bank


def same(one, two) -> None:
    for first, second in zip(one, two):
        assert torch.equal(first.cpu(), second.cpu())


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('dtype', ['float32', 'float16', 'uint8'])
@pytest.mark.parametrize('offset', [0.0, 1e3])
def test_the_answer_is_that_without_a_copy(device, metric, dtype, offset):
    generator = torch.Generator().manual_seed(0)
    parts = torch.rand(90, 7, generator=generator).round(decimals=1) + offset
    bank = bank_of(dtype, parts[:40], parts[40:])
    asked = parts[::9] + 0.01
    for scores in ('float32', 'bfloat16'):
        options = dict(metric=metric, chunk=4, block=16, dtype=scores)
        wanted = ExactSearch(bank, **options).search(asked, 6)
        copied = ExactSearch(bank, device=device, **options)
        same(copied.search(asked.to(device), 6), wanted)
    stored = torch.cat(list(bank.blocks()))
    assert_nearest(wanted, asked, stored, metric, 6)


@pytest.mark.parametrize('device', DEVICES)
def test_votes_are_those_without_a_copy(device):
    bank = bank_of('float32', some_pixels(120).vectors)
    given = bias('image')
    wanted = ExactSearch(bank).search(queries(), 7, given)
    copied = ExactSearch(bank, device=device)
    same(copied.search(queries().to(device), 7, given), wanted)


def test_the_copy_follows_the_bank():
    vectors = some_pixels(120).vectors
    bank = bank_of('float32', vectors[:50])
    search = ExactSearch(bank, device='cpu')
    bank.append(some_pixels(120))
    same(search.search(queries(), 3), ExactSearch(bank).search(queries(), 3))
    bank.keep([0, 1, 2, 60])
    same(search.search(queries(), 3), ExactSearch(bank).search(queries(), 3))


def test_a_search_reads_the_copy_alone(monkeypatch):
    """On a GPU the bank would move there each time."""
    bank = bank_of('float32', some_pixels(120).vectors)
    wanted = ExactSearch(bank).search(queries(), 3)
    search = ExactSearch(bank, device='cpu')

    def refuse(*_):
        raise AssertionError('the bank is read')

    monkeypatch.setattr(MemoryBank, 'lent_blocks', refuse)
    monkeypatch.setattr(MemoryBank, 'vectors', refuse)
    same(search.search(queries(), 3), wanted)


def test_a_copy_lends_and_gives_what_the_bank_does():
    vectors = some_pixels(120).vectors
    bank = bank_of('float16', vectors[:50], vectors[50:])
    copy = DeviceCopy(bank, 'cpu')
    assert len(copy) == len(bank) == 120
    index = torch.tensor([119, 0, 50, 49, 0])
    assert torch.equal(copy.vectors(index), bank.vectors(index))
    parts = list(copy.lent_blocks(33))
    assert [len(part) for part in parts] == [33, 33, 33, 21]
    assert torch.equal(torch.cat(parts), torch.cat(list(bank.blocks())))


@pytest.mark.parametrize('held', [0, 1, 49, 50, 70, 119, 120, 999])
@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
def test_what_does_not_fit_is_streamed(held, dtype):
    vectors = some_pixels(120).vectors
    bank = bank_of(dtype, vectors[:50], vectors[50:])
    row = sum(v.nbytes for v in next(bank.stored_blocks(1)).values())
    copy = DeviceCopy(bank, 'cpu', room=held * row)
    stored = torch.cat(list(bank.blocks()))
    for rows in (7, 33, 500):
        parts = list(copy.lent_blocks(rows))
        assert max(len(part) for part in parts) <= rows
        assert torch.equal(torch.cat(parts), stored)
    index = torch.tensor([119, 0, 50, 49, 0, 69, 70])
    assert torch.equal(copy.vectors(index), stored[index])


@pytest.mark.parametrize('device', ['gpu', '', 'cuda:x'])
def test_no_device_is_named(device):
    with pytest.raises(ValueError, match=f"device='{device}'"):
        ExactSearch(bank_of('float32', torch.ones(3, 4)), device=device)


@settings(max_examples=30)
@given(
    device=st.sampled_from(DEVICES),
    dtype=st.sampled_from(DTYPES),
    in_file=st.booleans(),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    room=st.integers(0, 3000),
    rows=st.integers(1, 50),
    data=st.data(),
)
def test_what_does_not_fit_a_device_is_streamed(
    device, dtype, in_file, sizes, room, rows, data
):
    with tempfile.TemporaryDirectory() as folder:
        bank = both(Path(folder), dtype, sizes)[in_file]
        copied = DeviceCopy(bank, device, room)
        expected = torch.cat(list(bank.blocks()))
        blocks = [block.cpu() for block in copied.lent_blocks(rows)]
        assert max(map(len, blocks)) <= rows
        assert torch.equal(torch.cat(blocks), expected)
        index = st.lists(st.integers(0, len(bank) - 1), max_size=30)
        index = torch.tensor(data.draw(index), dtype=torch.long)
        assert torch.equal(copied.vectors(index).cpu(), expected[index])


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('room', [0, 600, None])
def test_a_search_may_run_elsewhere(tmp_path, monkeypatch, device, room):
    asked = some_pixels(9, 6, 7)
    queries = Queries(asked.vectors, asked.positions, asked.hues)
    bank, mapped = both(tmp_path)
    expected = Memory(bank).search(queries, 5)
    place = 'u1_plugin.memory.exact_search.DeviceCopy'

    class Copy(DeviceCopy):  # a class, for the search asks what it holds
        def __init__(self, *args) -> None:
            super().__init__(*args, room=room)

    monkeypatch.setattr(place, Copy)
    engine = dict(type='exact', device=device)
    memory = Memory(mapped, engine)
    assert str(memory) == f'exact on {device}'
    for one, two in zip(memory.search(queries, 5), expected):
        assert one.device == two.device and torch.equal(one, two)


@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 3, 'meta', 'mps'])
def test_a_device_that_is_not_here_is_named(device):
    with pytest.raises(ValueError, match=f'engine.device=.?{device}'):
        parse_engine(dict(type='exact', device=device))


@pytest.mark.parametrize('dtype', ['float32', 'uint8'])
def test_blocks_on_a_gpu_are_large(dtype):
    """What lies there is bounded by the scores alone; meta stands for a GPU."""
    bank = bank_of(dtype, some_pixels(120).vectors)
    channels = bank.channels
    for device in (None, 'cpu'):
        search = ExactSearch(bank, device=device)
        prepared = search.scores.prepare(queries())

        def rows(count, device='meta', search=search, prepared=prepared):
            asked = torch.empty(count, channels, device=device)
            return search._rows(prepared._replace(vectors=asked), 1)

        assert rows(2**20) == 64 == 4 * rows(2**20, 'cpu')
        lies_there = device is not None and dtype == 'float32'
        assert rows(1) == (len(bank) if lies_there else 2**26 // channels)


def test_what_sends_blocks_is_not_copied():
    """A stream of a GPU can neither be copied nor pickled; no more a lock."""
    held = DeviceCopy(bank_of('float32', torch.rand(5, 3)), 'cpu')
    held._side = threading.Lock()
    for twin in (copy.deepcopy(held), pickle.loads(pickle.dumps(held))):
        index = torch.arange(5)
        assert torch.equal(twin.vectors(index), held.vectors(index))
