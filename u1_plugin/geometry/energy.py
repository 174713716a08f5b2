"""Positive orthant, energy ``E`` and off-axis angle ``phi``."""

from typing import Any, Callable, Dict, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .moments import angle
from .scales import as_floating, as_wide, scale_of, working_dtype

_ORTHANT_MAPS: Dict[str, Callable[[Tensor], Tensor]] = dict(
    relu=torch.relu, abs=torch.abs, softplus=F.softplus, identity=lambda a: a
)
#: ``rho`` of the method: how an activation enters the positive orthant.
ORTHANT_MAPS = tuple(_ORTHANT_MAPS)


def safe_norm(x: Tensor, dim: int) -> Tensor:
    """Euclidean norm over ``dim``, whose gradient at the zero vector is 0.

    Float32 or wider, of any size that the dtype's normal numbers hold, norm
    and entries alike.

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
    """``I = rho(A)``, of any shape; >= 0 unless ``rho='identity'``.

    Of a type narrower than float32 it is of that type, but float32 for
    ``'softplus'``, which narrower ones cannot tell from a constant near 0.

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
    if rho not in ORTHANT_MAPS:
        raise ValueError(
            f'rho={rho!r} is not an orthant map; use one of {ORTHANT_MAPS}'
        )
    if rho == 'softplus':
        activation = activation.to(working_dtype(activation.dtype))
    return _ORTHANT_MAPS[rho](activation)


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
    """``E(x, y) = |I(x, y)|^2``: ``(B, C, H, W)`` to ``(B, H, W)``, >= 0.

    In float32 or wider; of any shape, with the channels in ``dim``. A square
    beyond the dtype's range is infinite, or 0; angles and shares of energy do
    not depend on the map's scale, so such a map is divided by
    :func:`~u1_plugin.geometry.scale_of` it first.

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

    Returns:
        Tensor: Radians without ``dim``, which holds the channels: ``[0, pi/2]``
        in the positive orthant (up to pi with ``rho='identity'``); 0 for the
        zero vector.

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
    """Mean of ``I``, ``(B, C, H, W)``, over all pixels: ``(B, C)``.

    Accumulated in float32 or wider.

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
