"""Powers of two that bring tensors to an ordinary size.

Squares of float32 overflow beyond 1.8e19 and vanish below 1e-23, and with them
norms, energies and the angles read from them. None of these depends on the
scale, so it is taken out first; by a power of two, which changes no digit.
"""

from typing import Sequence, Union

import torch
from torch import Tensor

#: The bits of the exponent, by dtype.
_EXPONENT = {
    torch.float16: (torch.int16, 0x7C00),
    torch.bfloat16: (torch.int16, 0x7F80),
    torch.float32: (torch.int32, 0x7F800000),
    torch.float64: (torch.int64, 0x7FF0000000000000),
}


def power_of_two(values: Tensor) -> Tensor:
    """The powers of two next below some moduli.

    Args:
        values (Tensor): >= 0, of a floating-point type.

    Returns:
        Tensor: Of the same shape. For what is below the type's smallest normal
        number, 0 included, that number: a subnormal one would be 0 where a
        processor is told to flush them. Infinity for what is not finite.
    """
    integer, bits = _EXPONENT[values.dtype]
    normal = values.clamp_min(torch.finfo(values.dtype).tiny)
    return (normal.view(integer) & bits).view(values.dtype)


def scale_of(values: Tensor, dim: Union[int, Sequence[int]]) -> Tensor:
    """:func:`power_of_two` of the largest modulus, and 1 where all are 0.

    Divided by it, values reach from 1 to 2; subnormal ones up to 1.

    Args:
        values (Tensor): Of a floating-point type.
        dim (int | Sequence[int]): Over which the largest is taken.

    Returns:
        Tensor: With ``dim`` kept, of size 1; without a gradient.

    Raises:
        ValueError: If the values are of another type.
    """
    if values.dtype not in _EXPONENT:
        raise ValueError(
            f'the values have the type {values.dtype}, but a scale is that of '
            'floating-point numbers; convert them'
        )
    # The infinity norm is one operation, and takes three times as long.
    peak = values.detach().abs().amax(dim, keepdim=True)
    return power_of_two(peak).masked_fill(peak == 0, 1.0)


class _ScaledRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, activation: Tensor) -> Tensor:
        scale = power_of_two(activation.amax((1, 2, 3), keepdim=True))
        intensity = (activation / scale).relu_()
        ctx.save_for_backward(intensity, scale)
        return intensity

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        intensity, scale = ctx.saved_tensors
        # No gradient passes a zero, however steep it is there.
        passed = torch.ops.aten.threshold_backward(gradient, intensity, 0)
        return passed.div_(scale)


def scaled_relu(activation: Tensor) -> Tensor:
    """``relu(A)`` divided by its scale in place, image by image.

    Args:
        activation (Tensor): ``A``, ``(B, C, H, W)``.

    Returns:
        Tensor: Of the same shape and type, in ``[0, 2)``.
    """
    return _ScaledRelu.apply(activation)
