"""A mapped bank answers as one in memory, and a changed file is refused."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from bank_files import assert_same, both, fill, some_pixels
from banks import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from u1_plugin.memory import (
    ExactSearch,
    Memory,
    MemoryBank,
    PlaneCoordinates,
    PriorBias,
    Queries,
    coreset,
)
from u1_plugin.memory.memmap import MappedArray


def test_files_of_other_writers_are_mapped(tmp_path):
    """Several blocks in one file, as banks in memory are saved."""
    file = tmp_path / 'bank.safetensors'
    bank = fill(MemoryBank('uint8'))
    bank.save(file)
    mapped = MemoryBank.load(file, mmap=True)
    assert_same(mapped, bank)
    mapped.save(tmp_path / 'again')
    assert file.read_bytes() == (tmp_path / 'again').read_bytes()
    state = mapped.state()
    assert_same(MemoryBank.from_state(state), bank)


@settings(max_examples=30)
@given(
    dtype=st.sampled_from(DTYPES),
    metric=st.sampled_from(['cosine', 'l2']),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    channels=st.integers(1, 9),
    block=st.integers(1, 50),
    offset=st.sampled_from([0.0, 100.0]),
    gone=st.sets(st.integers(0, 3), max_size=2),
    data=st.data(),
)
def test_a_mapped_bank_answers_as_one_in_memory(
    dtype, metric, sizes, channels, block, offset, gone, data
):
    with tempfile.TemporaryDirectory() as folder:
        banks = both(Path(folder), dtype, sizes, channels)
        for bank in banks:
            bank.remove(labels=gone)
        if not len(banks[0]):
            return
        k = data.draw(st.integers(1, len(banks[0])))
        queries = some_pixels(7, channels, 9).vectors + offset
        first, second = (
            ExactSearch(bank, metric, chunk=3, block=block).search(queries, k)
            for bank in banks
        )
        for one, two in zip(first, second):
            assert torch.equal(one, two)
        share = data.draw(st.floats(0.05, 0.5))
        first, second = (coreset(bank, share, 3, sample=0.6) for bank in banks)
        assert torch.equal(first, second)


@pytest.mark.parametrize('shuffle', [None, 3])
@pytest.mark.parametrize('biased', [False, True])
def test_matches_have_their_places(tmp_path, shuffle, biased):
    asked = some_pixels(9, 6, 7)
    queries = Queries(asked.vectors, asked.positions, asked.hues)
    here = PlaneCoordinates(asked.positions, asked.hues)
    bias = (
        PriorBias(here, here, 'both', 2.0, 0.5, width=0.3) if biased else None
    )
    first, second = (
        Memory(bank, shuffle=shuffle).search(queries, 5, bias)
        for bank in both(tmp_path)
    )
    for one, two in zip(first, second):
        assert torch.equal(one, two)


@pytest.mark.parametrize('at', [0, 9, 3000, 4096, -100, -1])
def test_a_changed_file_is_not_mapped(tmp_path, at):
    both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match='bank.safetensors'):
        MemoryBank.load(file, mmap=True)


@pytest.mark.parametrize('size', [0, 7, 100, 4096, -1])
def test_a_truncated_file_is_not_mapped(tmp_path, size):
    both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ValueError, match='bank.safetensors'):
        MemoryBank.load(file, mmap=True)


def test_what_is_wrong_is_named(tmp_path):
    both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    for wrong, words in (
        (dict(identity=dict(weights='y')), 'weights'),
        (dict(mmap='yes'), 'mmap='),
    ):
        with pytest.raises(ValueError, match=words):
            MemoryBank.load(file, **{'mmap': True, **wrong})


def test_a_replaced_file_is_still_read(tmp_path):
    bank, mapped = both(tmp_path)
    file = tmp_path / 'bank.safetensors'
    other = MemoryBank()
    other.append(some_pixels(5, 6, 8))
    other.save(file)
    assert_same(mapped, bank)
    file.unlink()
    assert_same(mapped, bank)


@given(data=st.data(), row=st.integers(1, 7), rows=st.integers(1, 3000))
@settings(max_examples=20)
def test_rows_of_a_file_are_those_of_an_array(data, row, rows):
    array = np.arange(rows * row, dtype=np.float32).reshape(rows, row)
    with tempfile.TemporaryFile() as stream:
        stream.write(b'abc' + array.tobytes())
        stream.flush()
        mapped = MappedArray(stream, torch.float32, array.shape, 3)
        chosen = st.lists(st.integers(0, rows - 1), max_size=50)
        for _ in range(3):
            assert mapped.shape == array.shape
            assert mapped.nbytes == array.nbytes
            start, stop = (data.draw(st.integers(0, rows)) for _ in range(2))
            part = mapped[start:stop]
            assert np.array_equal(part.numpy(), array[start:stop])
            some = [n % max(1, len(array)) for n in data.draw(chosen)]
            some = np.array(some if len(array) else [], dtype=np.int64)
            found = mapped[torch.from_numpy(some)]
            assert np.array_equal(found.numpy(), array[some])
            mapped, array = mapped.selected(some), array[some]
