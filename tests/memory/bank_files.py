"""The same bank in memory and in a file."""

from pathlib import Path

import banks
import torch
from banks import FIELDS

from u1_plugin.memory import MemoryBank, Pixels, bank_on_disk


def some_pixels(n=40, channels=6, seed=0) -> Pixels:
    """Of images that no other seed has."""
    return banks.some_pixels(n, channels, seed, first_image=100 * seed)


def fill(bank: MemoryBank, sizes=(40, 1, 23), channels=6) -> MemoryBank:
    for seed, size in enumerate(sizes):
        bank.append(some_pixels(size, channels, seed))
    return bank


def both(folder: Path, dtype='float32', sizes=(40, 1, 23), channels=6):
    """The same bank in memory and in a file."""
    file = folder / 'bank.safetensors'
    with bank_on_disk(file, dtype) as filled:
        fill(filled, sizes, channels)
    mapped = MemoryBank.load(file, mmap=True)
    return fill(MemoryBank(dtype), sizes, channels), mapped


def assert_same(one: MemoryBank, two: MemoryBank) -> None:
    assert (len(one), one.dtype) == (len(two), two.dtype)
    vectors = (torch.cat(list(bank.blocks())) for bank in (one, two))
    assert torch.equal(*vectors)
    for name in FIELDS:
        assert torch.equal(one.field(name), two.field(name))
