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
from .mapped import Field
from .pixels import Pixels

DTYPES = dict(float32=torch.float32, float16=torch.float16, uint8=torch.uint8)
StorageDtype = Literal['float32', 'float16', 'uint8']
_LEVELS = 255  # of uint8
#: Beyond rounding: the corner of a map has the radius 1, a moment at most 1.
_FARTHEST = 1 + 1e-4
_HALF_TURN = float(torch.tensor(math.pi))  # in float32, a bit above pi


def stored_fields(
    dtype: str,
) -> Dict[str, Tuple[torch.dtype, Optional[Tuple[int, ...]]]]:
    """A block's fields: dtype and the shape after N, where it is fixed."""
    fields: Dict[str, Tuple[torch.dtype, Optional[Tuple[int, ...]]]] = dict(
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
    """A block of copies, as the bank keeps it.

    Args:
        pixels (Pixels): At least one, checked.
        dtype (str): One of :data:`DTYPES`.

    Raises:
        ValueError: If a number is not finite or out of its range, or
            ``dtype`` cannot hold a vector.
    """
    block = dict(
        labels=pixels.labels.long(),
        images=pixels.images.long(),
        positions=pixels.positions.float(),
        hues=pixels.hues.float(),
        **_encoded(pixels.vectors.detach(), dtype),
    )
    block = {
        name: value.detach().to('cpu', copy=True).contiguous()
        for name, value in block.items()
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
    """Raise ValueError unless shapes and kinds are right.

    Args:
        pixels (Pixels): Any number of them.
        channels (int, optional): C that they must have.
    """
    for name, value in pixels._asdict().items():
        if not isinstance(value, Tensor):
            raise ValueError(f'{name} must be a tensor, not {shown(value)}')
    if pixels.vectors.ndim != 2 or not pixels.vectors.size(1):
        raise ValueError(
            f'vectors {tuple(pixels.vectors.shape)} must be (N, C), C >= 1'
        )
    count, found = pixels.vectors.shape
    if channels not in (None, found):
        raise ValueError(
            f'the vectors have {found} channels, the bank has {channels}; '
            'fill a new bank for another layer'
        )
    for name, rest in dict(
        labels=(), images=(), positions=(2,), hues=()
    ).items():
        shape = tuple(getattr(pixels, name).shape)
        if shape != (count, *rest):
            raise ValueError(
                f'{name} {shape} must be {(count, *rest)}, as the vectors '
                f'{tuple(pixels.vectors.shape)}'
            )
    for name, value in pixels._asdict().items():
        whole = name in ('labels', 'images')
        kind = value.dtype
        integer = not (kind.is_floating_point or kind.is_complex)
        if kind == torch.bool or kind.is_complex or integer != whole:
            wanted = 'integers' if whole else 'floating point'
            raise ValueError(f'{name} of dtype {kind} must be {wanted}')


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
    """Refuse vectors that would overflow, or lose their direction.

    Args:
        largest (Tensor): Absolute value of each vector's largest entry.
        dtype (str): Of storage.
    """
    held = torch.finfo(torch.float16 if dtype == 'float16' else torch.float32)
    # Below its least normal number a type has not its precision. float32
    # itself takes what it gets, unless that becomes zero.
    least = dict(
        float32=held.tiny * held.eps,
        float16=held.tiny,
        uint8=held.tiny * _LEVELS,
    )[dtype]
    remedy = '' if dtype == 'float32' else "choose dtype='float32' or "
    if largest.max() > held.max:
        raise ValueError(
            f'a vector holds {largest.max():g}, but dtype={dtype!r} ends at '
            f'{held.max:g}; {remedy}scale the maps'
        )
    small = largest[(largest > 0) & (largest < least)]
    if len(small):
        raise ValueError(
            f'the largest entry of a vector is {small.min():g}, and dtype='
            f'{dtype!r} is not precise below {least:g}; {remedy}scale the maps'
        )


def check_values(
    block: Dict[str, Tensor], name: str, num_classes: Optional[int] = None
) -> None:
    """Check the numbers of a block, whose shapes and dtypes are right.

    Args:
        block (dict): Of :func:`stored_fields`.
        name (str): Of the block, for messages.
        num_classes (int, optional): K, of which labels must be.

    Raises:
        ValueError: If a number is not finite or out of its range; the message
            names the field.
    """
    for field, low, high in (
        ('labels', 0, math.inf if num_classes is None else num_classes - 1),
        ('images', 0, math.inf),
        ('positions', -_FARTHEST, _FARTHEST),
        ('hues', -_HALF_TURN, _HALF_TURN),
        ('scales', torch.finfo(torch.float32).tiny, math.inf),
    ):
        values = block.get(field)
        if values is None:
            continue
        good = (values >= low) & (values <= high) & values.isfinite()
        if not good.all():
            raise ValueError(
                f'{name}: {field} {values[~good].flatten()[0].item():g} is not '
                f'in [{low:g}, {high:g}]'
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
    listed = isinstance(values, Iterable) and not isinstance(
        values, (str, bytes)
    )
    found: List[Any] = [*values] if listed else [values]
    for value in found:
        number = isinstance(value, (int, np.integer)) and listed
        if isinstance(value, bool) or not number or not 0 <= value < 2**63:
            raise ValueError(
                f'{name} must be a list of integers >= 0, not {shown(value)}'
            )
    return torch.tensor([int(value) for value in found], dtype=torch.int64)


def kept_mask(index: Union[Tensor, Iterable[int]], count: int) -> Tensor:
    """Which pixels an index names, ``(count,)``, bool.

    Raises:
        ValueError: Unless it ascends strictly within ``0..count-1``.
    """
    index = whole_numbers('index', index)
    ascending = bool((index.diff() > 0).all())
    if not ascending or (len(index) and index[-1] >= count):
        raise ValueError(
            f'index must ascend without doubles within 0..{count - 1}, the '
            "bank's pixels"
        )
    mask = torch.zeros(count, dtype=torch.bool)
    mask[index] = True
    return mask


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
