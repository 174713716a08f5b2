"""A bank keeps what it is given, and forgets what is removed."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from banks import (
    DTYPES,
    FIELDS,
    IDENTITY,
    assert_same,
    filled,
    some_pixels,
    vectors_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest import queries

from u1_plugin.memory import (
    Memory,
    MemoryBank,
    Queries,
    bottleneck_pixels,
    coreset,
)
from u1_plugin.memory.bank_state import read_state
from u1_plugin.nn import FeaturePlane


@given(labels=st.sets(st.integers(0, 5)), images=st.sets(st.integers(0, 30)))
def test_removal_is_as_if_never_appended(labels, images):
    bank = filled()
    whole = {name: bank.field(name) for name in ('labels', 'images', 'hues')}
    vectors = vectors_of(bank)
    keep = torch.tensor(
        [
            int(label) not in labels and int(image) not in images
            for label, image in zip(whole['labels'], whole['images'])
        ]
    )
    assert bank.remove(labels, images) == int((~keep).sum())
    assert len(bank) == int(keep.sum())
    if len(bank):
        assert torch.equal(vectors_of(bank), vectors[keep])
        for name, values in whole.items():
            assert torch.equal(bank.field(name), values[keep])


def test_a_bank_holds_copies():
    bank, pixels = MemoryBank(), some_pixels()
    bank.append(pixels)
    expected = some_pixels()
    for field in pixels:
        field.zero_()
    assert torch.equal(vectors_of(bank), expected.vectors)
    assert torch.equal(bank.field('labels'), expected.labels)


@pytest.mark.parametrize('each', [1, 3, 700])
def test_many_small_appends_leave_few_blocks(each):
    pixels = some_pixels(n=3000, channels=3)
    bank, whole = MemoryBank('uint8'), MemoryBank('uint8')
    whole.append(pixels)
    for start in range(0, 3000, each):
        bank.append(pixels.select(slice(start, start + each)))
    assert len(bank) == 3000 and len(list(bank.stored_blocks())) <= 45
    for field in ('labels', 'images', 'positions', 'hues'):
        assert torch.equal(bank.field(field), whole.field(field))
    assert torch.equal(vectors_of(bank), vectors_of(whole))
    assert len(MemoryBank.from_state(bank.state())) == 3000


def test_nothing_is_appended_of_nothing():
    bank = MemoryBank()
    bank.append(some_pixels(0))
    assert len(bank) == 0 and bank.channels is None
    bank.append(some_pixels(3))
    bank.append(some_pixels(0))
    assert_same(MemoryBank.from_state(bank.state()), bank)
    for wrong in (None, torch.tensor(1.0), torch.ones(0, 0), torch.ones(0, 9)):
        with pytest.raises(ValueError, match='vectors'):
            bank.append(some_pixels(0)._replace(vectors=wrong))
    assert MemoryBank().vectors(torch.arange(0)).shape == (0, 0)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 119), max_size=200))
def test_vectors_of_an_index(index):
    index = torch.tensor(index, dtype=torch.long)
    for dtype in DTYPES:
        bank = filled(dtype)
        assert torch.equal(bank.vectors(index), vectors_of(bank)[index])


def test_each_change_has_a_name_of_its_own():
    bank = MemoryBank()
    seen = [bank.changes]
    for change in (
        lambda: bank.append(some_pixels()),
        lambda: bank.remove(labels=[1]),
        lambda: bank.remove(images=[0]),
        lambda: bank.keep(torch.arange(3)),
    ):
        change()
        assert bank.changes not in seen
        seen.append(bank.changes)
    bank.field('labels'), list(bank.blocks()), bank.state(), len(bank)
    assert bank.changes == seen[-1]


def test_removal_of_what_is_not_there():
    bank = filled()
    assert bank.remove(labels=[99], images=[2**62]) == 0
    assert bank.remove(labels=[]) == 0
    with pytest.raises(ValueError, match='labels or the images'):
        bank.remove()
    assert_same(bank, filled())
    assert bank.remove(labels=np.arange(3)) == 90
    assert bank.remove(labels=torch.tensor([3])) == 30
    assert len(bank) == 0 and bank.channels is None
    bank.append(some_pixels(channels=9))  # a new beginning
    assert bank.channels == 9


@pytest.mark.parametrize('index', [[1, 0], [3, 3], [0, 120], [7, 8, 8]])
def test_keep_takes_an_ascending_index(index):
    bank = filled()
    with pytest.raises(ValueError, match=r'ascend without doubles.*0..119'):
        bank.keep(torch.tensor(index))
    assert_same(bank, filled())


def test_keep_of_an_index():
    bank = filled('uint8')
    index = torch.tensor([0, 39, 40, 119])
    bank.keep(index)
    assert torch.equal(vectors_of(bank), vectors_of(filled('uint8'))[index])
    for name in FIELDS:
        assert torch.equal(bank.field(name), filled().field(name)[index])
    bank.keep([])
    assert len(bank) == 0


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'uint8'])
def test_blocks_are_copies(dtype):
    bank = filled(dtype)
    before = vectors_of(bank)
    for block in bank.blocks():
        block.zero_()
    assert torch.equal(vectors_of(bank), before) and before.any()


def test_a_bank_of_another_process_counts_no_change_of_this_one():
    """Its changes, pickled with what was derived from it, are no numbers."""
    code = (
        'from u1_plugin.memory import MemoryBank\n'
        'print(*(MemoryBank().changes for _ in range(5)))'
    )
    runs = [
        subprocess.run(
            [sys.executable, '-c', code], capture_output=True, check=True
        )
        for _ in range(2)
    ]
    first, second = (set(run.stdout.split()) for run in runs)
    assert len(first) == len(second) == 5 and not first & second


@pytest.mark.parametrize(
    'value', [3, 'x' * 2000, {str(i): 'y' * 1000 for i in range(1200)}]
)
def test_what_no_bank_could_read_is_not_saved(tmp_path, value):
    bank = filled()
    bank.save(tmp_path / 'bank.safetensors')
    bank.identity.update(
        value if isinstance(value, dict) else dict(epoch=value)
    )
    with pytest.raises(ValueError, match='^identity'):
        bank.save(tmp_path / 'bank.safetensors')
    with pytest.raises(ValueError, match='^identity'):
        bank.state()
    assert len(MemoryBank.load(tmp_path / 'bank.safetensors')) == len(bank)


@pytest.mark.parametrize(
    'dtype', [torch.float64, torch.float16, torch.bfloat16]
)
def test_the_default_dtype_changes_nothing(dtype):
    bank, numbers = filled(), torch.arange(2)
    pixels = some_pixels(9, 6)
    asked = Queries(pixels.vectors, pixels.positions, pixels.hues)
    plane, maps = FeaturePlane(6), queries(2 * 35).view(2, 6, 5, 7)

    def answers() -> list:
        return [
            bank.vectors(torch.arange(len(bank))),
            *Memory(bank).search(asked, 3),
            coreset(bank, 0.5),
            *bottleneck_pixels(maps, numbers, numbers, plane),
        ]

    plain, default = answers(), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        other = answers()
    finally:
        torch.set_default_dtype(default)
    for one, two in zip(plain, other):
        assert one.dtype == two.dtype and torch.equal(one, two)


def test_what_changes_a_filled_bank_is_named():
    bank = filled()
    bank.keep(torch.arange(100))  # of the filling
    bank.finish()
    bank.remove(labels=[99])
    bank.keep(torch.arange(100))
    assert bank.identity == IDENTITY  # as nothing went
    bank.remove(labels=[2])
    bank.append(some_pixels(first_image=50))
    assert bank.identity == dict(IDENTITY, changes='append, remove')
    with pytest.raises(ValueError, match="other changes .'append, remove'"):
        read_state(bank.state(), 'the bank', IDENTITY)
    again = MemoryBank.from_state(filled().state())
    again.keep([0, 1])
    assert again.identity['changes'] == 'keep'
    assert filled().changes != filled().changes
