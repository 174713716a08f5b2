"""Positive orthant, energy ``E`` and off-axis angle ``phi``."""

from typing import Any, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .moments import angle
from .scales import as_floating, as_wide, scale_of, working_dtype

#: ``rho`` of the method: how an activation enters the positive orthant.
ORTHANT_MAPS = ('relu', 'abs', 'softplus', 'identity')


def safe_norm(x: Tensor, dim: int) -> Tensor:
    """Euclidean norm whose gradient at the zero vector is 0, not NaN.

    Of any size that the dtype's normal numbers hold, norm and entries alike.

    Args:
        x (Tensor): Any real shape.
        dim (int): The dimension that holds the vector.

    Returns:
        Tensor: ``x``'s shape without ``dim``; >= 0. Float32 or wider.

    Raises:
        ValueError: If ``x`` is complex or has no such dimension.
    """
    x = as_wide('x', x, dim)
    scale = scale_of(x, dim)
    square = (x / scale).square().sum(dim)
    is_zero = square == 0
    # sqrt must never see 0: its slope there is infinite and inf * 0 is NaN.
    root = torch.where(is_zero, 1.0, square).sqrt()
    return torch.where(is_zero, 0.0, root) * scale.squeeze(dim)


def to_positive_orthant(activation: Tensor, rho: str = 'relu') -> Tensor:
    """``I = rho(A)``.

    Args:
        activation (Tensor): ``A``, any shape.
        rho (str): One of :data:`ORTHANT_MAPS`.

    Returns:
        Tensor: Same shape; >= 0 unless ``rho='identity'``.

    Raises:
        ValueError: If ``rho`` is not one of :data:`ORTHANT_MAPS`, or
            ``activation`` is not of real numbers.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import to_positive_orthant
        >>> to_positive_orthant(torch.tensor([-2.0, 3.0]))
        tensor([0., 3.])
        >>> to_positive_orthant(torch.tensor([-2.0, 3.0]), 'abs')
        tensor([2., 3.])
    """
    activation = as_floating('activation', activation)
    if rho == 'relu':
        return activation.relu()
    if rho == 'abs':
        return activation.abs()
    if rho == 'softplus':
        return F.softplus(activation)
    if rho == 'identity':
        return activation
    raise ValueError(
        f'rho={rho!r} is not an orthant map; use one of {ORTHANT_MAPS}'
    )


class _Energy(torch.autograd.Function):
    """Sum of squares, with a gradient of two operations instead of four."""

    @staticmethod
    def forward(ctx: Any, intensity: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(intensity)
        ctx.dim = dim
        return intensity.square().sum(dim)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None]:
        (intensity,) = ctx.saved_tensors
        return (2 * gradient).unsqueeze(ctx.dim) * intensity, None


def energy(intensity: Tensor, dim: int = 1) -> Tensor:
    """``E(x, y) = |I(x, y)|^2``, in float32 or wider.

    A square beyond the dtype's range is infinite, or 0; angles and shares of
    energy do not depend on the map's scale, so such a map is divided by
    :func:`~u1_plugin.geometry.scale_of` it first.

    Args:
        intensity (Tensor): ``I``, ``(B, C, H, W)`` or any shape with the
            channels in ``dim``.
        dim (int): Channel dimension.

    Returns:
        Tensor: ``(B, H, W)``; >= 0.

    Raises:
        ValueError: If ``intensity`` is complex or has no such dimension.
    """
    intensity = as_wide('intensity', intensity, dim)
    total: Tensor = _Energy.apply(intensity, dim)
    return total


def off_axis_angle(intensity: Tensor, dim: int = 1) -> Tensor:
    """``phi = acos(<I, m> / |I|)`` with the medial vector ``m = 1/sqrt(C)``.

    The saturation of colour science for N channels. Computed as
    ``atan2(|I - <I,m>m|, <I,m>)``: the same angle, but accurate near the axis
    and with finite gradients on it, where ``acos`` has none.

    Args:
        intensity (Tensor): ``I``, channels in ``dim``.
        dim (int): Channel dimension.

    Returns:
        Tensor: Radians without ``dim``: ``[0, pi/2]`` in the positive
        orthant (up to pi with ``rho='identity'``); 0 for the zero vector.

    Raises:
        ValueError: If ``intensity`` is complex or has no such dimension.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import off_axis_angle
        >>> grey_and_red = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
        >>> off_axis_angle(grey_and_red).rad2deg().round()
        tensor([ 0., 55.])
    """
    intensity = as_wide('intensity', intensity, dim)
    intensity = intensity / scale_of(intensity, dim)
    mean = intensity.mean(dim, keepdim=True)
    along = mean.squeeze(dim) * intensity.size(dim) ** 0.5
    across = safe_norm(intensity - mean, dim)
    return angle(torch.stack([along, across], -1))


def pooled_vector(intensity: Tensor) -> Tensor:
    """Mean of ``I`` over all pixels, accumulated in float32 or wider.

    Args:
        intensity (Tensor): ``(B, C, H, W)``.

    Returns:
        Tensor: ``(B, C)``.

    Raises:
        ValueError: If ``intensity`` is not of real numbers, or no maps.
    """
    dims = (-2, -1)
    intensity = as_floating('intensity', intensity, *dims)
    dtype = working_dtype(intensity.dtype)
    if intensity.dtype == torch.float16:  # no sum of it overflows in float32
        return intensity.mean(dims, dtype=dtype)
    scale = scale_of(intensity, dims)
    return (intensity / scale).mean(dims, dtype=dtype) * scale.squeeze(dims)
