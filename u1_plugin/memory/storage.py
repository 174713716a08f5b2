"""How a bank stores its pixels, and what it does not take."""

import math
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    Literal,
    Mapping,
    Optional,
    Tuple,
    Union,
)

import numpy as np
import torch
from torch import Tensor

from ..options import shown
from .memmap import Field
from .pixels import Pixels

DTYPES = dict(float32=torch.float32, float16=torch.float16, uint8=torch.uint8)
StorageDtype = Literal['float32', 'float16', 'uint8']
_Fields = Dict[str, Tuple[torch.dtype, Optional[Tuple[int, ...]]]]
#: Floating-point numbers that can be compared and copied everywhere.
_READ = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
_LEVELS = 255  # of uint8
#: Beyond rounding: the corner of a map has the radius 1, a moment at most 1.
_FARTHEST = 1 + 1e-4
_HALF_TURN = float(np.float32(math.pi))  # in float32, a bit above pi


def stored_fields(dtype: str) -> _Fields:
    """A block's fields: dtype, and the shape after N; None is that of C."""
    fields: _Fields = dict(
        vectors=(DTYPES[dtype], None),
        labels=(torch.int64, ()),
        images=(torch.int64, ()),
        positions=(torch.float32, (2,)),
        hues=(torch.float32, ()),
    )
    if dtype == 'uint8':
        fields['scales'] = (torch.float32, ())
    return fields


def encoded(pixels: Pixels, dtype: str) -> Dict[str, Tensor]:
    """A block of copies of checked pixels, as the bank keeps it.

    Raises:
        ValueError: If a number is not finite or out of its range, or
            ``dtype`` cannot hold a vector.
    """
    kinds = stored_fields(dtype)
    values = {**pixels._asdict(), **_encoded(pixels.vectors.detach(), dtype)}
    block = {
        name: value.detach().to('cpu', kinds[name][0], copy=True).contiguous()
        for name, value in values.items()
    }
    check_values(block, 'the pixels')
    return block


def decoded(
    block: Mapping[str, Field],
    index: Union[slice, Tensor] = slice(None),
    copy: bool = False,
) -> Tensor:
    """Vectors of a block, float32, ``(n, C)``; perhaps its own storage."""
    vectors = block['vectors'][index].to(torch.float32, copy=copy)
    if 'scales' in block:
        vectors.mul_(block['scales'][index][:, None])  # of a copy
    return vectors


def check_pixels(pixels: Pixels, channels: Optional[int]) -> None:
    """Raise ValueError unless shapes and kinds are right, and C, if given."""
    for name, value in pixels._asdict().items():
        if not isinstance(value, Tensor):
            raise ValueError(f'{name} must be a tensor, not {shown(value)}')
    vectors_shape = tuple(pixels.vectors.shape)
    if len(vectors_shape) != 2 or not vectors_shape[1]:
        raise ValueError(f'vectors {vectors_shape} must be (N, C), C >= 1')
    if channels not in (None, vectors_shape[1]):
        raise ValueError(
            f'the vectors have {vectors_shape[1]} channels, the bank has '
            f'{channels}; fill a new bank for another layer'
        )
    for name, (stored, row_shape) in stored_fields('float32').items():
        value = getattr(pixels, name)
        shape = (
            vectors_shape
            if row_shape is None
            else (vectors_shape[0], *row_shape)
        )
        if tuple(value.shape) != shape:
            raise ValueError(
                f'{name} {tuple(value.shape)} must be {shape}, as the vectors '
                f'{vectors_shape}'
            )
        if value.layout != torch.strided or (
            value.is_floating_point() and value.dtype not in _READ
        ):
            raise ValueError(
                f'{name} of {value.dtype}, {value.layout}, must be a dense '
                f'tensor of {", ".join(map(str, _READ))} or integers'
            )
        kind, real = value.dtype, stored.is_floating_point
        odd = kind == torch.bool or kind.is_complex
        if odd or kind.is_floating_point != real:
            expected = 'floating point' if real else 'integers'
            raise ValueError(f'{name} of dtype {kind} must be {expected}')


def _encoded(vectors: Tensor, dtype: str) -> Dict[str, Tensor]:
    # Sums of rows: no temporary of the vectors' size.
    if not vectors.sum(1, dtype=torch.float64).isfinite().all():
        raise ValueError('the vectors hold NaN or inf; check the backbone')
    largest = torch.maximum(vectors.amax(1), -vectors.amin(1))
    _check_range(largest.double(), dtype)
    if dtype != 'uint8':
        return dict(vectors=vectors.to(DTYPES[dtype]))
    if vectors.min() < 0:
        raise ValueError(
            f"dtype='uint8' stores values >= 0, not {vectors.min():g}; map "
            "them into the positive orthant or choose 'float16'"
        )
    scales = torch.where(largest > 0, largest.float() / _LEVELS, 1.0)
    levels = (vectors / scales[:, None]).round()
    return dict(vectors=levels.to(torch.uint8), scales=scales)


def _check_range(largest: Tensor, dtype: str) -> None:
    """Refuse vectors that would overflow, or lose their direction."""
    limits = torch.finfo(torch.float16 if dtype == 'float16' else torch.float32)
    # Below its least normal number a type has not its precision. float32
    # itself takes what it gets, unless that becomes zero.
    least = dict(
        float32=limits.tiny * limits.eps,
        float16=limits.tiny,
        uint8=limits.tiny * _LEVELS,
    )[dtype]
    remedy = '' if dtype == 'float32' else "choose dtype='float32' or "
    if largest.max() > limits.max:
        raise ValueError(
            f'a vector holds {largest.max():g}, but dtype={dtype!r} ends at '
            f'{limits.max:g}; {remedy}scale the maps'
        )
    small = largest[(largest > 0) & (largest < least)]
    if len(small):
        raise ValueError(
            f'the largest entry of a vector is {small.min():g}, and dtype='
            f'{dtype!r} is not precise below {least:g}; {remedy}scale the maps'
        )


def check_values(block: Dict[str, Tensor], name: str) -> None:
    """Check the numbers of a block, whose shapes and dtypes are right.

    Raises:
        ValueError: If a number is not finite or out of its range; the message
            names the block and the field.
    """
    for field, low, high in (
        ('labels', 0, math.inf),
        ('images', 0, math.inf),
        ('positions', -_FARTHEST, _FARTHEST),
        ('hues', -_HALF_TURN, _HALF_TURN),
        ('scales', torch.finfo(torch.float32).tiny, math.inf),
    ):
        values = block.get(field)
        if values is None:
            continue
        valid = (values >= low) & (values <= high) & values.isfinite()
        if not valid.all():
            raise ValueError(
                f'{name}: {field} {values[~valid].flatten()[0].item():g} is '
                f'not in [{low:g}, {high:g}]'
            )
    vectors = block['vectors']
    if vectors.is_floating_point() and not (
        vectors.sum(1, dtype=torch.float64).isfinite().all()
    ):
        raise ValueError(f'{name}: vectors hold NaN or inf')


def whole_numbers(name: str, values: Union[Tensor, Iterable[int]]) -> Tensor:
    """Integers >= 0 as a tensor ``(n,)``, int64.

    Raises:
        ValueError: If one is anything else.
    """
    if isinstance(values, (Tensor, np.ndarray)):
        values = values.tolist()
    is_sequence = isinstance(values, Iterable) and not isinstance(
        values, (str, bytes)
    )
    numbers: List[Any] = [*values] if is_sequence else [values]
    for value in numbers:
        is_integer = isinstance(value, (int, np.integer)) and is_sequence
        if isinstance(value, bool) or not is_integer or not 0 <= value < 2**63:
            raise ValueError(
                f'{name} must be a list of integers >= 0, not {shown(value)}'
            )
    return torch.tensor([int(value) for value in numbers], dtype=torch.int64)


def check_index(index: Tensor, count: int) -> None:
    """Raise ValueError unless it is ``(n,)``, int64, within ``0..count-1``."""
    if index.ndim != 1 or (len(index) and index.dtype != torch.int64):
        raise ValueError(
            f'index of shape {tuple(index.shape)} and type {index.dtype} must '
            'be (n,), int64'
        )
    if len(index) and not 0 <= index.min() <= index.max() < count:
        raise ValueError(
            f'index holds {int(index.min())}..{int(index.max())}, but must be '
            f'within 0..{count - 1}'
        )
