"""From neighbours to class scores: METHOD's vote and its controls."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

#: What may weight a neighbour beside its distance. The last three are
#: controls: what an angle adds beyond them is the U(1) effect.
PRIORS = ('image', 'feature', 'both', 'position', 'radius', 'shuffled')


class Sites(NamedTuple):
    """Where pixels lie in the two planes.

    Attributes:
        positions (Tensor): ``(..., 2)``, see :class:`~.bank.Pixels`.
        hues (Tensor): ``(...)``, radians.
    """

    positions: Tensor
    hues: Tensor


def _vartheta(positions: Tensor) -> Tensor:
    return torch.atan2(positions[..., 1], positions[..., 0])


def prior(
    query: Sites, memory: Sites, plane: str, kappa: float, sigma: float = 0.5
) -> Tensor:
    """Weight of each neighbour by its place.

    ``exp(kappa (cos(delta theta) - 1))`` in the image plane, the feature plane
    or both; the controls are ``exp(-|delta (x, y)|^2 / 2 sigma^2)``
    (``position``) and the same of the radius. ``shuffled`` is the image plane,
    for a bank whose positions have been shuffled once.

    Args:
        query (Sites): ``(Q, 1, 2)`` and ``(Q, 1)``.
        memory (Sites): Of the neighbours, ``(Q, k, 2)`` and ``(Q, k)``.
        plane (str): One of :data:`PRIORS`.
        kappa (float): >= 0; 0 makes every weight 1.
        sigma (float): > 0, in half diagonals of the map, for the controls.

    Returns:
        Tensor: ``(Q, k)``, in (0, 1].

    Raises:
        ValueError: If an option is out of its range.
    """
    return log_prior(query, memory, plane, kappa, sigma).exp()


def log_prior(
    query: Sites, memory: Sites, plane: str, kappa: float, sigma: float = 0.5
) -> Tensor:
    """Log of :func:`prior`, <= 0; the sites' shapes may broadcast.

    Raises:
        ValueError: If an option is out of its range.
    """
    if plane not in PRIORS:
        raise ValueError(f'plane={plane!r} must be one of {PRIORS}')
    if kappa < 0 or sigma <= 0:
        raise ValueError(f'kappa={kappa} must be >= 0 and sigma={sigma} > 0')
    if plane == 'position':
        delta = (query.positions - memory.positions).square().sum(-1)
        return -delta / (2 * sigma**2)
    if plane == 'radius':
        delta = query.positions.norm(dim=-1) - memory.positions.norm(dim=-1)
        return -delta.square() / (2 * sigma**2)
    exponent = torch.zeros_like(query.hues * memory.hues)
    if plane in ('image', 'both', 'shuffled'):
        delta = _vartheta(query.positions) - _vartheta(memory.positions)
        exponent = exponent + torch.cos(delta) - 1
    if plane in ('feature', 'both'):
        exponent = exponent + torch.cos(query.hues - memory.hues) - 1
    return kappa * exponent


def vote(
    distances: Tensor,
    labels: Tensor,
    images: Tensor,
    num_classes: int,
    num_images: int,
    weights: Optional[Tensor] = None,
    width: Optional[float] = None,
) -> Tensor:
    """Scores: the sum over an image's pixels and their neighbours.

    Args:
        distances (Tensor): ``(Q, k)``; infinite where there is no neighbour.
        labels (Tensor): Classes of the neighbours, ``(Q, k)``.
        images (Tensor): Which image each query pixel belongs to, ``(Q,)``, in
            ``0..num_images-1``.
        num_classes (int): K.
        num_images (int): B.
        weights (Tensor, optional): ``(Q, k)``, from :func:`prior`.
        width (float, optional): h of ``w(d) = exp(-d^2 / 2 h^2)``, > 0. None
            counts every neighbour as 1.

    Returns:
        Tensor: ``(B, K)``, >= 0, not normalised.

    Raises:
        ValueError: If ``width`` is not positive.
    """
    if width is not None and width <= 0:
        raise ValueError(f'width={width} must be > 0, or None for equal votes')
    found = distances.isfinite()
    votes = found.to(distances.dtype)
    if width is not None:
        votes = torch.exp(-distances.square() / (2 * width**2))
    if weights is not None:
        votes = votes * weights
    votes = torch.where(found, votes, torch.zeros_like(votes))
    cell = images[:, None] * num_classes + labels.clamp_min(0)
    scores = votes.new_zeros(num_images * num_classes)
    scores.index_add_(0, cell.flatten(), votes.flatten())
    return scores.view(num_images, num_classes)
