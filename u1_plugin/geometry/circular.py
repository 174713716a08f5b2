"""Circular statistics on tensors (Mardia & Jupp, *Directional Statistics*).

For notebooks and scripts; hooks and reports take :mod:`u1_plugin.measure`.
"""

import math
from typing import Optional, Union

import torch
from torch import Tensor

from .scales import as_wide, scale_of


def angle_difference(first: Tensor, second: Union[Tensor, float]) -> Tensor:
    """Signed shortest way from ``second`` to ``first``.

    Args:
        first (Tensor): Radians.
        second (Tensor | float): Radians, of a shape that broadcasts.

    Returns:
        Tensor: Radians in ``[-pi, pi)``.

    Raises:
        ValueError: If one is not of real numbers.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import angle_difference
        >>> degrees = torch.tensor([10.0, 170.0])
        >>> other = torch.tensor([350.0, 190.0])
        >>> difference = angle_difference(degrees.deg2rad(), other.deg2rad())
        >>> difference.rad2deg().round()
        tensor([ 20., -20.])
    """
    first = as_wide('first', first)
    if isinstance(second, Tensor):
        second = as_wide('second', second)
    turn = 2 * math.pi
    difference = torch.remainder(first - second + math.pi, turn) - math.pi
    # The remainder of what lies just below 0 rounds to the turn.
    return torch.where(difference >= math.pi, difference - turn, difference)


def _mean_vector(theta: Tensor, weight: Optional[Tensor], dim: int) -> Tensor:
    theta = as_wide('theta', theta, dim)
    points = torch.stack([theta.cos(), theta.sin()], -1)
    dim = dim % theta.ndim
    if weight is None:
        return points.mean(dim)
    weight = as_wide('weight', weight)
    if weight.shape != theta.shape:
        raise ValueError(
            f'weight has shape {tuple(weight.shape)}, but theta '
            f'{tuple(theta.shape)}; give one weight an angle'
        )
    if _has_values(weight) and not (((weight >= 0) & weight.isfinite()).all()):
        raise ValueError(
            'weight holds numbers that are negative or not finite; give '
            'weights >= 0'
        )
    weight = weight.to(points)
    weight = (weight / scale_of(weight, dim)).unsqueeze(-1)
    return (points * weight).sum(dim) / weight.sum(dim)


def _has_values(tensor: Tensor) -> bool:
    """Not so while a compiler or a transform of functions traces."""
    traced = torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    return not (tensor.is_meta or traced or torch.compiler.is_compiling())


def resultant_length(
    theta: Tensor, weight: Optional[Tensor] = None, dim: int = -1
) -> Tensor:
    """Mean resultant length ``R = |mean exp(i theta)|``.

    Args:
        theta (Tensor): Radians.
        weight (Tensor, optional): Non-negative, ``theta``'s shape.
        dim (int): The sample dimension.

    Returns:
        Tensor: In ``[0, 1]``, without ``dim``: 1 for one angle, near 0 for
        none.

    Raises:
        ValueError: If ``theta`` is not of real numbers or empty along ``dim``,
            or ``weight`` has another shape, or is negative or not finite.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import resultant_length
        >>> theta = torch.tensor([[1.0, 1.0], [0.0, torch.pi]])
        >>> resultant_length(theta).round()
        tensor([1., 0.])
    """
    mean = _mean_vector(theta, weight, dim)
    length: Tensor = torch.linalg.vector_norm(mean, dim=-1).clamp_max(1)
    return length
