"""Vectors keep their directions in each number format, or are refused."""

import pytest
import torch
from banks import filled, some_pixels, vectors_of

from u1_plugin.memory import MemoryBank, Pixels


@pytest.mark.parametrize(
    'dtype, tolerance', [('float32', 0), ('float16', 1e-3), ('uint8', 0.003)]
)
def test_storage(dtype, tolerance):
    bank, exact = filled(dtype), filled()
    assert len(bank) == 120 and bank.channels == 6
    error = (vectors_of(bank) - vectors_of(exact)).abs().max()
    assert error <= tolerance
    size = dict(float32=24, float16=12, uint8=6 + 4)[dtype]
    assert bank.nbytes == 120 * (size + 8 + 8 + 8 + 4)


def one_vector(*values) -> Pixels:
    vectors = torch.tensor([values, [1.0] * len(values)])
    return some_pixels(2, len(values))._replace(vectors=vectors)


def test_float16_neither_overflows_nor_loses_a_direction():
    bank = MemoryBank('float16')
    bank.append(one_vector(65504.0, 6.2e-5, 0.0))
    bank.append(one_vector(6.2e-5, 1e-9, 0.0))
    bank.append(one_vector(0.0, 0.0, 0.0))
    bank.append(one_vector(-65504.0, 1.0, 0.0))
    for value in (65505.0, -65520.0, 1e30):
        with pytest.raises(ValueError, match='65504.*float32') as caught:
            bank.append(one_vector(1.0, value, 0.0))
        assert f'{abs(value):g}' in str(caught.value)
    for value in (6e-5, 1e-8, -1e-20, 1e-44):
        with pytest.raises(ValueError, match="precise below.*'float32'"):
            bank.append(one_vector(value, value / 2, 0.0))
    assert len(bank) == 8


def test_uint8_takes_what_it_can_hold():
    bank = MemoryBank('uint8')
    vectors = torch.tensor([[1e30, 5e29], [0, 0], [1e-30, 5e-31], [255, 1]])
    bank.append(some_pixels(4, 2)._replace(vectors=vectors))
    error = (vectors_of(bank) - vectors).abs()
    assert (error <= vectors.amax(1, keepdim=True) / 500).all()
    assert torch.equal(vectors_of(bank)[[1, 3]], vectors[[1, 3]])
    with pytest.raises(ValueError, match='uint8.*-1.*float16'):
        bank.append(one_vector(-1.0, 2.0))
    with pytest.raises(ValueError, match="precise below.*'float32'"):
        bank.append(one_vector(1e-37, 0.0))


def test_float32_takes_all_of_float32():
    bank = MemoryBank()
    pixels = one_vector(3e38, -3e38, 1e-45)
    bank.append(pixels)
    assert torch.equal(vectors_of(bank), pixels.vectors)
    for value in (1e39, 1e-60):
        vectors = torch.tensor([[value, value]], dtype=torch.float64)
        with pytest.raises(ValueError, match="dtype='float32'"):
            MemoryBank().append(some_pixels(1, 2)._replace(vectors=vectors))


@pytest.mark.parametrize(
    'dtype, least',
    [('float32', 2.0**-149), ('float16', 2.0**-14), ('uint8', 255 * 2.0**-126)],
)
def test_the_least_numbers_that_are_stored(dtype, least):
    """Denormals of float16 and of scales have not all of their digits."""
    pixels = some_pixels(1, 2)
    bank = MemoryBank(dtype)
    vectors = torch.tensor([[least, 0.0]], dtype=torch.float64)
    bank.append(pixels._replace(vectors=vectors))
    assert vectors_of(bank)[0, 0] == least
    with pytest.raises(ValueError, match=f"'{dtype}' is not precise below"):
        bank.append(pixels._replace(vectors=vectors * (1 - 1e-7)))
