"""Scores of half the width, and banks that store narrow numbers."""

import pytest
import torch
from banks import some_pixels
from hypothesis import example, given
from hypothesis import strategies as st
from nearest import METRICS, assert_nearest, bank_of, bias, queries
from torch.utils._python_dispatch import TorchDispatchMode

from u1_plugin.memory import ExactSearch, MemoryBank
from u1_plugin.memory.scores import product_error, products

NARROW = ['float16', 'bfloat16']


@st.composite
def problems(draw):
    """Vectors and queries of many scales, with offsets, ties and zeros."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    count, channels = draw(st.integers(1, 90)), draw(st.integers(1, 40))
    vectors = torch.randn(count, channels, generator=generator)
    if draw(st.booleans()):
        vectors = vectors.relu().round()
    if draw(st.booleans()):
        vectors = vectors[torch.randint(count, (count,), generator=generator)]
    vectors = vectors * 10.0 ** draw(st.sampled_from([0, 0, -18, -3, 5, 14]))
    vectors = vectors + draw(st.sampled_from([0.0, 0.0, 50.0, 1e4]))
    asked = vectors[torch.randint(count, (5,), generator=generator)]
    noise = torch.randn(5, channels, generator=generator)
    asked = asked + noise * draw(st.sampled_from([0.0, 1e-6, 0.1, 1e3]))
    return vectors, asked, draw(st.integers(1, count))


@pytest.mark.parametrize('dtype', NARROW)
@pytest.mark.parametrize('metric', METRICS)
@given(problem=problems(), block=st.sampled_from([7, 64, 16384]))
def test_the_answer_is_that_of_float32(dtype, metric, problem, block):
    vectors, asked, k = problem
    bank = bank_of(vectors)
    found = ExactSearch(bank, metric, 3, block, dtype).search(asked, k)
    wanted = ExactSearch(bank, metric).search(asked, k)
    for one, two in zip(found, wanted):
        assert torch.equal(one, two)


@pytest.mark.parametrize('dtype', NARROW)
@pytest.mark.parametrize('metric', METRICS)
def test_near_ties_are_told_apart(dtype, metric):
    """Of vectors that half the width cannot tell from each other at all."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(1, 24, generator=generator)
    vectors = centre + 1e-5 * torch.rand(700, 24, generator=generator)
    assert len(vectors.to(getattr(torch, dtype)).unique(dim=0)) < 100
    asked = centre + 1e-5 * torch.rand(9, 24, generator=generator)
    search = ExactSearch(bank_of(vectors), metric, dtype=dtype)
    assert_nearest(search.search(asked, 6), asked, vectors, metric, 6)


@pytest.mark.parametrize('dtype', NARROW)
@pytest.mark.parametrize('plane', ['image', 'position'])
def test_the_greatest_votes_are_those_of_float32(dtype, plane):
    bank, given_ = bank_of(some_pixels(120).vectors), bias(plane)
    found = ExactSearch(bank, dtype=dtype).search(queries(), 7, given_)
    wanted = ExactSearch(bank).search(queries(), 7, given_)
    for one, two in zip(found, wanted):
        assert torch.equal(one, two)


@pytest.mark.parametrize('dtype', ['float32', *NARROW])
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 3, 64, 700]),
    scales=st.tuples(*[st.sampled_from([-10, -2, 0, 6])] * 2),
)
@example(seed=215405095, channels=1, scales=(-10, -10))
def test_products_keep_their_bound(dtype, seed, channels, scales):
    generator = torch.Generator().manual_seed(seed)
    first, second = (
        torch.randn(20, channels, generator=generator).relu() ** 3 * 10.0**scale
        for scale in scales
    )
    exact = first.double() @ second.double().T
    found = products(first, second, dtype)
    assert found.dtype == torch.float32
    lengths = first.double().norm(dim=1)[:, None] * second.double().norm(dim=1)
    error = (found.double() - exact).abs()
    # Below the normal numbers of float32 no error is relative; `Scores` adds
    # the same to its slack.
    least = channels * 2.0**-125
    assert (error <= product_error(channels, dtype) * lengths + least).all()


def test_a_narrow_product_is_a_coarser_one():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 30, 50, generator=generator)
    exact = first.double() @ second.double().T
    errors = [
        float((products(first, second, dtype) - exact).abs().max())
        for dtype in ('float32', 'float16', 'bfloat16')
    ]
    assert 10 * errors[0] < errors[1] < errors[2]
    # A sum of so many ones is beyond float16.
    ones = torch.ones(1, 2**17)
    assert products(ones, ones, 'float16').item() == 2**17


class Largest(TorchDispatchMode):
    """Bytes of the largest float32 or float64 that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for value in found if isinstance(found, (tuple, list)) else [found]:
            if getattr(value, 'dtype', None) in (torch.float32, torch.float64):
                self.most = max(self.most, value.untyped_storage().nbytes())
        return found


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0.0, 90.0])
@pytest.mark.parametrize('stored', ['uint8', 'float16'])
def test_a_narrow_bank_is_searched_block_by_block(stored, metric, offset):
    """No copy in float32 of more than a block, nor of 16,384 pixels."""
    count, channels, block = 20000, 32, 500
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(count, channels, generator=generator) + offset
    bank = MemoryBank(stored)
    bank.append(some_pixels(count, channels)._replace(vectors=vectors))
    asked = vectors[:4].clone()
    with Largest() as building:
        search = ExactSearch(bank, metric, block=block)
    with Largest() as searching:
        found = search.search(asked, 5)
    # Norms are float64, one a pixel; temporaries of float64 lie in a cache.
    assert building.most <= max(16384 * channels * 4, count * 8)
    assert searching.most <= max(block * channels * 8, count * 8)
    held = MemoryBank()
    held.append(
        some_pixels(count, channels)._replace(
            vectors=bank.vectors(torch.arange(count))
        )
    )
    wanted = ExactSearch(held, metric).search(asked, 5)
    assert torch.equal(found.indices, wanted.indices)
    with Largest() as whole:
        bank.vectors(torch.arange(count))
    assert whole.most >= count * channels * 4  # the mode sees such a copy


def test_a_dtype_of_scores_is_one():
    bank = bank_of(torch.rand(5, 3))
    for dtype in ('float64', 'uint8', None, torch.float16):
        with pytest.raises(ValueError, match='dtype='):
            ExactSearch(bank, dtype=dtype)
