"""Powers of two that bring tensors to an ordinary size.

Squares of float32 overflow beyond 1.8e19 and vanish below 1e-23, and with them
norms, energies and the angles read from them. None of these depends on the
scale, so it is taken out first; by a power of two, which changes no digit.
"""

import numbers
import reprlib
from contextlib import nullcontext
from typing import Any, Callable, ContextManager, Sequence, Union

import torch
from torch import Tensor

_is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]

#: The bits of the exponent, by dtype.
_EXPONENT = {
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """At least float32, so that angles survive AMP; float64 stays float64."""
    if dtype in (torch.float32, torch.float64):
        return dtype  # without asking torch, which counts as an operation
    return torch.promote_types(dtype, torch.float32)


def check_real(field: str, values: Any, *dims: int) -> None:
    """Check what a formula takes, without an operation of torch.

    Raises:
        ValueError: If ``values`` is no tensor of a real type, or one of
            ``dims`` is not there or empty.
    """
    if not isinstance(values, Tensor) or values.dtype.is_complex:
        tensor = isinstance(values, Tensor)
        kind = values.dtype if tensor else reprlib.repr(values)
        raise ValueError(
            f'{field} must be a tensor of real numbers, not {kind}'
        )
    for dim in dims:
        is_integer = isinstance(dim, numbers.Integral) and not isinstance(
            dim, bool
        )
        exists = is_integer and -values.ndim <= dim < values.ndim
        if not exists or not values.shape[dim]:
            raise ValueError(
                f'{field}: there is nothing along dim={reprlib.repr(dim)} of '
                f'the shape {tuple(values.shape)}; give values, or another dim'
            )


def whole_number(name: str, value: Any, low: int = 1) -> int:
    """An integer of NumPy or Python as Python's.

    Symbols of compilers stay what they are.

    Raises:
        ValueError: If it is none of 64 bits, or below ``low``.
    """
    if torch.compiler.is_compiling() or _is_tracing():
        symbol: int = value
        return symbol
    is_integer = isinstance(value, numbers.Integral) and not isinstance(
        value, bool
    )
    if not is_integer or not low <= value < 2**63:
        raise ValueError(
            f'{name}={reprlib.repr(value)} must be an integer >= {low}'
        )
    return int(value)


def as_floating(field: str, values: Tensor, *dims: int) -> Tensor:
    """Values as they are, whole numbers as float32; see :func:`check_real`."""
    check_real(field, values, *dims)
    return values if values.dtype.is_floating_point else values.float()


def as_wide(field: str, values: Tensor, *dims: int) -> Tensor:
    """Values in float32 or wider; see :func:`check_real`."""
    check_real(field, values, *dims)
    return values.to(working_dtype(values.dtype))


def power_of_two(values: Tensor) -> Tensor:
    """The powers of two next below some floating-point numbers >= 0.

    For what is below the type's smallest normal number, 0 included, that
    number: a subnormal one would be 0 where a processor is told to flush them.
    Infinity for what is not finite.
    """
    integer, bits = _EXPONENT[values.dtype]
    normal = values.clamp_min(torch.finfo(values.dtype).tiny)
    return (normal.view(integer) & bits).view(values.dtype)


def without_autocast(device: torch.device) -> ContextManager[Any]:
    """A block whose products keep their digits, whatever is around it."""
    if device.type == 'meta':  # which knows no autocast
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def scale_of(values: Tensor, dim: Union[int, Sequence[int]]) -> Tensor:
    """:func:`power_of_two` of the largest modulus, and 1 where all are 0.

    Divided by it, values reach from 1 to 2; subnormal ones up to 1.

    Args:
        values (Tensor): Of a floating-point type.
        dim (int | Sequence[int]): Over which the largest is taken.

    Returns:
        Tensor: With ``dim`` kept, of size 1; without a gradient.

    Raises:
        ValueError: If the values are of another type, or have no such
            dimension.
    """
    dims: Any = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    _check_scaled('values', values, *dims)
    # The infinity norm is one operation, and takes three times as long.
    peak = values.detach().abs().amax(dims, keepdim=True)
    return power_of_two(peak).masked_fill(peak == 0, 1.0)


def _check_scaled(field: str, values: Any, *dims: int) -> None:
    check_real(field, values, *dims)
    if values.dtype not in _EXPONENT:
        raise ValueError(
            f'{field} must be floating-point numbers, as only those have a '
            f'scale, and not of the type {values.dtype}; convert them'
        )


class _ScaledRelu(torch.autograd.Function):
    """Computes :func:`scaled_relu`; no gradient passes through the scale."""

    @staticmethod
    def forward(ctx: Any, activation: Tensor) -> Tensor:
        scale = power_of_two(activation.amax((1, 2, 3), keepdim=True))
        intensity = (activation / scale).relu_()
        ctx.save_for_backward(intensity, scale)
        return intensity

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        intensity, scale = ctx.saved_tensors
        # No gradient passes a zero, however steep it is there.
        passed: Tensor = torch.ops.aten.threshold_backward(
            gradient, intensity, 0
        )
        return passed.div_(scale)


def scaled_relu(activation: Tensor) -> Tensor:
    """``relu(A)`` of maps ``(B, C, H, W)`` by the scale of each image.

    Of the same type, in ``[0, 2)``.

    Raises:
        ValueError: If ``activation`` is not a batch of floating-point maps.
    """
    _check_scaled('activation', activation, 1, 2, 3)
    intensity: Tensor = _ScaledRelu.apply(activation)
    return intensity
