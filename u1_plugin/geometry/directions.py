"""Directions and weighted means with gradients of few operations.

Each is a formula of a line whose gradient PyTorch would compute in three times
as many small operations. They make up most of what a training step spends on
U(1), so the gradients are written out; ``gradcheck`` tests them. Gradients of
gradients are refused.
"""

from typing import Optional, Tuple, Union

import torch
from torch import Tensor


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
    def forward(ctx, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        raise RuntimeError(
            'gradients of gradients of directions and weighted means, and so '
            'of the U(1) loss, are not implemented; leave that loss out of '
            'what is differentiated twice'
        )


def _final(gradient: Tensor) -> Tensor:
    # Gradients are on inside a backward pass with `create_graph=True` alone.
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return gradient
    return _Final.apply(gradient.detach().requires_grad_())


class _Direction(torch.autograd.Function):
    """``v / length`` with ``length = sqrt(|v|^2 + eps^2)``."""

    @staticmethod
    def forward(ctx, vectors: Tensor, eps: Optional[Tensor]) -> Tensor:
        length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
        if eps is not None:
            length = torch.hypot(length, eps)
        else:  # the zero vector has no direction, and stays zero
            length = length.masked_fill(length == 0, 1.0)
        unit = vectors / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tuple[Tensor, None]:
        # d(v/l) = (dv - u <u, dv>) / l, since dl = <u, dv>.
        unit, length = ctx.saved_tensors
        # A backward pass inside autocast would round the products.
        with torch.autocast(gradient.device.type, enabled=False):
            along = _dot(gradient, unit)
            change = torch.addcmul(gradient, unit, along, value=-1) / length
        return _final(change), None


class _WeightedMean(torch.autograd.Function):
    """``sum_p w_p b_p / sum_p w_p``."""

    @staticmethod
    def forward(ctx, weights: Tensor, points: Tensor) -> Tensor:
        sums = weights @ points
        total = sums[..., 2:]
        # Without weight the numerator is 0 as well.
        total = total.masked_fill(total == 0, 1.0)
        mean = sums[..., :2] / total
        ctx.save_for_backward(mean, total, points)
        return mean

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tuple[Tensor, None]:
        # d(sum w b / sum w) = sum dw (b - mean) / sum w.
        mean, total, points = ctx.saved_tensors
        with torch.autocast(gradient.device.type, enabled=False):
            across = gradient @ points[:, :2].T
            change = (across - _dot(gradient, mean)) / total
        return _final(change), None


def direction(
    vectors: Tensor, eps: Union[None, float, Tensor] = None
) -> Tensor:
    """``u = v / sqrt(|v|^2 + eps^2)`` over the last dimension.

    Args:
        vectors (Tensor): ``(..., C)``, float32 or wider.
        eps (float | Tensor, optional): Length below which a direction fades
            to 0, > 0; bounds the gradient by ``1/eps``. Without it the zero
            vector stays zero and lets gradients through unscaled. A scalar
            tensor of the vectors' dtype spares its making.

    Returns:
        Tensor: ``(..., C)``, of length at most 1.
    """
    if isinstance(eps, (int, float)):
        eps = vectors.new_full((), eps)
    return _Direction.apply(vectors, eps)


def weighted_mean(weights: Tensor, points: Tensor) -> Tensor:
    """``sum_p w_p b_p / sum_p w_p``.

    Args:
        weights (Tensor): ``(B, P)``, >= 0, float32 or wider.
        points (Tensor): ``(P, 3)``, constants of the same dtype: ``b_p`` and
            1, so that one product gives both sums.

    Returns:
        Tensor: ``(B, 2)``; 0 where there is no weight.
    """
    return _WeightedMean.apply(weights, points)
