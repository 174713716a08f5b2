"""Small banks, and what tells that two are the same."""

import torch

from u1_plugin.memory import MemoryBank, Pixels

IDENTITY = dict(weights='resnet', layer='layer4')
FIELDS = ('labels', 'images', 'positions', 'hues')
DTYPES = ['float32', 'float16', 'uint8']


def some_pixels(n=40, channels=6, seed=0, first_image=0) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    return Pixels(
        torch.rand(n, channels, generator=generator),
        torch.arange(n) % 4,
        torch.arange(n) // 5 + first_image,
        torch.rand(n, 2, generator=generator) * 2 - 1,
        torch.rand(n, generator=generator),
    )


def filled(dtype='float32', blocks=3) -> MemoryBank:
    bank = MemoryBank(dtype, IDENTITY)
    for i in range(blocks):
        bank.append(some_pixels(seed=i, first_image=8 * i))
    return bank


def vectors_of(bank) -> torch.Tensor:
    return torch.cat(list(bank.blocks()))


def assert_same(one: MemoryBank, two: MemoryBank) -> None:
    assert one.dtype == two.dtype and one.identity == two.identity
    assert torch.equal(vectors_of(one), vectors_of(two))
    for name in FIELDS:
        assert torch.equal(one.field(name), two.field(name))


def changed(value: torch.Tensor, to, at: int = 5) -> torch.Tensor:
    value = value.clone()
    value[at] = to
    return value
