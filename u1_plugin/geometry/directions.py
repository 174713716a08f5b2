"""Directions and weighted means with gradients of few operations.

Each is a formula of a line whose gradient PyTorch would compute in three times
as many small operations. They make up most of what a training step spends on
U(1), so the gradients are written out; ``gradcheck`` tests them. Gradients of
gradients are refused.

What is `scaled` has been brought to an ordinary size before, and is spared the
operations that do so.
"""

import numbers
import reprlib
from typing import Any, Optional, Tuple, Union

import torch
from torch import Tensor

from .scales import (
    as_wide,
    check_real,
    power_of_two,
    scale_of,
    without_autocast,
)

#: Lengths and sums of what was scaled before are no smaller, or they are 0.
_LEAST = 2.0**-60


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """``sum(first * second)`` over the last dimension, which is kept."""
    size = first.size(-1)
    products = torch.bmm(
        first.reshape(-1, 1, size), second.reshape(-1, size, 1)
    )
    return products.view(*first.shape[:-1], 1)


class _Final(torch.autograd.Function):
    """A gradient that refuses to be differentiated.

    ``once_differentiable`` lets it pass where the gradient that comes in is a
    constant, as that of a loss linear in the direction is: the second
    derivative would then silently lack a term.
    """

    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise RuntimeError(
            'gradients of gradients of directions and weighted means, and so '
            'of the U(1) loss, are not implemented; leave that loss out of '
            'what is differentiated twice'
        )


def _final(gradient: Tensor) -> Tensor:
    # Gradients are on inside a backward pass with `create_graph=True` alone.
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return gradient
    final: Tensor = _Final.apply(gradient.detach().requires_grad_())
    return final


def _nonzero(lengths: Tensor, scaled: bool) -> Tensor:
    """To divide by: anything else for 0, if in one operation, very small."""
    if scaled:
        return lengths.clamp_min(_LEAST)
    return lengths.masked_fill(lengths == 0, 1.0)


class _Direction(torch.autograd.Function):
    """``v / length`` with ``length = sqrt(|v|^2 + eps^2)``."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, eps: Optional[Tensor], scaled: bool
    ) -> Tensor:
        length: Tensor = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        # Without eps the zero vector has no direction, and stays zero.
        if eps is not None:
            length = torch.hypot(length, eps)
        else:
            length = _nonzero(length, scaled)
        unit = vectors / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None, None]:
        # d(v/l) = (dv - u <u, dv>) / l, since dl = <u, dv>.
        unit, length = ctx.saved_tensors
        # A backward pass inside autocast would round the products.
        with without_autocast(gradient.device):
            along = _dot(gradient, unit)
            change = torch.addcmul(gradient, unit, along, value=-1) / length
        return _final(change), None, None


class _WeightedMean(torch.autograd.Function):
    """``sum_p w_p b_p / sum_p w_p``."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, points: Tensor, scaled: bool
    ) -> Tensor:
        with without_autocast(weights.device):
            sums = weights @ points
        # Without weight the numerator is 0 as well.
        total = _nonzero(sums[..., 2:], scaled)
        mean = sums[..., :2] / total
        ctx.save_for_backward(mean, total, points)
        return mean

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Tensor, None, None]:
        # d(sum w b / sum w) = sum dw (b - mean) / sum w.
        mean, total, points = ctx.saved_tensors
        with without_autocast(gradient.device):
            along = _dot(gradient, mean)
            across = torch.addmm(along, gradient, points[:, :2].T, beta=-1)
            change = across / total
        return _final(change), None, None


def _as_scalar(
    eps: Union[None, float, Tensor], like: Tensor
) -> Optional[Tensor]:
    if isinstance(eps, Tensor) and (eps.ndim or eps.dtype != like.dtype):
        raise ValueError(
            f'eps of shape {tuple(eps.shape)} and type {eps.dtype} must be a '
            f'number, or a scalar of {like.dtype}'
        )
    if eps is None or isinstance(eps, Tensor):
        return eps
    # A compiler knows plain floats, but not the kinds of others.
    number = type(eps) is float or isinstance(eps, numbers.Real)
    limits = torch.finfo(like.dtype)
    if not number or eps is True or not limits.tiny <= eps <= limits.max:
        raise ValueError(
            f'eps={reprlib.repr(eps)} must be a finite number > 0, from '
            f'{limits.tiny:.2g} to {limits.max:.2g} as {like.dtype} holds it'
        )
    return like.new_full((), float(eps))


def direction(
    vectors: Tensor,
    eps: Union[None, float, Tensor] = None,
    scaled: bool = False,
) -> Tensor:
    """``u = v / sqrt(|v|^2 + eps^2)`` over the last dimension.

    Args:
        vectors (Tensor): ``(..., C)``, float32 or wider.
        eps (float | Tensor, optional): Length below which a direction fades
            to 0, > 0; bounds the gradient by ``1/eps``. Without it the zero
            vector stays zero and lets gradients through unscaled, and vectors
            so short that ``1/|v|`` overflows have no finite gradient. A scalar
            tensor of the vectors' dtype spares its making.
        scaled (bool): Whether the vectors are of an ordinary size: lengths
            between 1e-18 and 1e18, or 0, which then has a steep gradient.

    Returns:
        Tensor: ``(..., C)``, of length at most 1.

    Raises:
        ValueError: If ``vectors`` has no last dimension or is not of real
            numbers, or ``eps`` is something else.
    """
    vectors = as_wide('vectors', vectors, -1)
    eps = _as_scalar(eps, vectors)
    if not scaled:
        scale = scale_of(vectors, -1)
        if eps is not None:
            scale = torch.maximum(scale, power_of_two(eps.detach()))
            eps = eps / scale
        vectors = vectors / scale
    unit: Tensor = _Direction.apply(vectors, eps, scaled)
    return unit


def check_points(field: str, points: Any, weights: Tensor) -> None:
    """Raise ValueError unless these are points of these weights."""
    check_real(field, points)
    expected = (weights.shape[-1], 3)
    if points.shape != expected or points.dtype != weights.dtype:
        raise ValueError(
            f'{field} of shape {tuple(points.shape)} and {points.dtype} must '
            f'be {expected} and {weights.dtype}, a point each of the weights'
        )


def weighted_mean(
    weights: Tensor, points: Tensor, scaled: bool = False
) -> Tensor:
    """``sum_p w_p b_p / sum_p w_p``.

    Args:
        weights (Tensor): ``(..., P)``, >= 0, float32 or wider.
        points (Tensor): ``(P, 3)``, constants of the same dtype: ``b_p`` and
            1, so that one product gives both sums.
        scaled (bool): Whether the weights are of an ordinary size: no sum
            overflows or is below 1e-18, unless it is 0.

    Returns:
        Tensor: ``(..., 2)``; 0 where there is no weight.

    Raises:
        ValueError: If ``weights`` has no last dimension or is not of real
            numbers, or ``points`` does not fit it.
    """
    weights = as_wide('weights', weights, -1)
    check_points('points', points, weights)
    if not scaled:
        weights = weights / scale_of(weights, -1)
    rows = weights if weights.ndim == 2 else weights.reshape(-1, len(points))
    mean: Tensor = _WeightedMean.apply(rows, points, scaled)
    return mean if weights.ndim == 2 else mean.reshape(*weights.shape[:-1], 2)
