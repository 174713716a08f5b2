"""From neighbours to class scores: the vote and its controls.

The formula stands in ``docs/memory_bank.md``.
"""

from typing import Literal, NamedTuple, Optional, Union, get_args

import torch
from torch import Tensor

from ..options import Count, Index, NonNegative, Positive, checked
from .kernels import Kernel, KernelName, kernel_of
from .precise import square_root

#: What may weight a neighbour beside its distance. The last three are
#: controls: what an angle adds beyond them is the U(1) effect.
PriorPlane = Literal[
    'image', 'feature', 'both', 'position', 'radius', 'shuffled'
]
PRIORS = get_args(PriorPlane)


class PlaneCoordinates(NamedTuple):
    """Where pixels lie in the two planes.

    Attributes:
        positions (Tensor): ``(..., 2)``, see :class:`~.pixels.Pixels`.
        hues (Tensor): ``(...)``, radians.
    """

    positions: Tensor
    hues: Tensor


def _radius(positions: Tensor) -> Tensor:
    x, y = positions.double().unbind(-1)
    return square_root(x * x + y * y)


def _direction(positions: Tensor) -> Tensor:
    """``(cos, sin)`` of ``vartheta``; on the axis the angle is 0.

    By coordinates: the last bit of a library's arc tangent may depend on the
    batch.
    """
    radius = _radius(positions)[..., None]
    axis = positions.new_tensor([1, 0], dtype=torch.float64)
    return torch.where(radius > 0, positions / radius, axis)


@checked()
def prior(
    query: PlaneCoordinates,
    memory: PlaneCoordinates,
    plane: PriorPlane,
    kappa: NonNegative,
    sigma: Positive = 0.5,
) -> Tensor:
    """Weight of each neighbour by its place.

    ``exp(kappa (cos(delta theta) - 1))`` in the image plane, the feature plane
    or both; the controls are ``exp(-|delta (x, y)|^2 / 2 sigma^2)``
    (``position``) and the same of the radius. ``shuffled`` is the image plane,
    for a bank whose positions have been shuffled once.

    Args:
        query (PlaneCoordinates): ``(Q, 1, 2)`` and ``(Q, 1)``.
        memory (PlaneCoordinates): Of the neighbours, ``(Q, k, 2)`` and
            ``(Q, k)``.
        plane (str): One of :data:`PRIORS`.
        kappa (float): >= 0; 0 makes every weight 1.
        sigma (float): > 0, in half diagonals of the map, for the controls.

    Returns:
        Tensor: ``(Q, k)``, in [0, 1], float64; 0 only where the number is too
        small for it.

    Raises:
        ValueError: If an option is out of its range, or shapes do not fit.
    """
    return log_prior(query, memory, plane, kappa, sigma).exp()


@checked()
def log_prior(
    query: PlaneCoordinates,
    memory: PlaneCoordinates,
    plane: PriorPlane,
    kappa: NonNegative,
    sigma: Positive = 0.5,
) -> Tensor:
    """Log of :func:`prior`, <= 0; the coordinates' shapes may broadcast."""
    _check_coordinates(query, memory)
    first, second = query.positions, memory.positions
    if plane in ('position', 'radius'):
        if plane == 'position':
            difference = _radius(first.double() - second.double())
        else:
            difference = _radius(first) - _radius(second)
        return -(difference / sigma).square() / 2
    # cos - 1, as squares, so that it is 0 for equal angles
    exponent = torch.zeros((), dtype=torch.float64)
    if plane in ('image', 'both', 'shuffled'):
        x, y = (_direction(first) - _direction(second)).unbind(-1)
        exponent = exponent - (x * x + y * y) / 2
    if plane in ('feature', 'both'):
        difference = query.hues.double() - memory.hues.double()
        exponent = exponent - 2 * torch.sin(difference / 2).square()
    return kappa * exponent


def _check_coordinates(
    query: PlaneCoordinates, memory: PlaneCoordinates
) -> None:
    shapes = [tuple(field.shape) for field in (*query, *memory)]
    fits = shapes[0] == (*shapes[1], 2) and shapes[2] == (*shapes[3], 2)
    pairs = zip(reversed(shapes[1]), reversed(shapes[3]))
    if not fits or any(a != b and 1 not in (a, b) for a, b in pairs):
        raise ValueError(
            f'positions and hues of query {shapes[:2]} and memory '
            f'{shapes[2:]} must be (..., 2) and (...), and fit each other'
        )


@checked()
def vote(
    distances: Tensor,
    labels: Tensor,
    images: Tensor,
    num_classes: Count,
    num_images: Index,
    weights: Optional[Tensor] = None,
    width: Optional[Positive] = None,
    temperature: Optional[Positive] = None,
    kernel: Union[None, KernelName, Kernel] = None,
) -> Tensor:
    """Scores: the sum over an image's pixels and their neighbours.

    Summed in float64 on the CPU in the order of queries and neighbours, so
    that an image's scores do not depend on what else is in the batch. Votes
    may be too small for a number; :func:`vote_shares` compares those, too.
    Without a kernel, one is taken that reads what is given.

    Args:
        distances (Tensor): ``(Q, k)``; infinite where there is no neighbour.
        labels (Tensor): Classes of the neighbours, ``(Q, k)``.
        images (Tensor): Which image each query pixel belongs to, ``(Q,)``, in
            ``0..num_images-1``.
        num_classes (int): K.
        num_images (int): B.
        weights (Tensor, optional): ``(Q, k)``, from :func:`prior`.
        width (float, optional): h of ``w(d) = exp(-d^2 / 2 h^2)``, > 0, the
            gaussian kernel.
        temperature (float, optional): T of ``w(d) = exp(s / T)``, > 0, with
            the cosine ``s = 1 - d``: the softmax kernel.
        kernel (str, optional): ``'uniform'``, ``'gaussian'`` or
            ``'softmax'``; None is uniform without a width or a temperature.

    Returns:
        Tensor: ``(B, K)``, >= 0, not normalised, of the distances' dtype.

    Raises:
        ValueError: If an option is out of its range or not read by the
            kernel, shapes do not fit, a number is NaN, a label or an image
            out of its range, or a sum too great for the distances' dtype.
    """
    chosen = kernel_of(kernel, width, temperature)
    _check_votes(distances, labels, images, num_images, weights, 'weights')
    votes = (chosen.log(distances) + chosen.log_greatest).exp()
    if weights is not None:
        if weights.isinf().any():
            raise ValueError(
                'weights hold an infinite number; take those of prior()'
            )
        votes = votes * weights
    scores = _summed(votes, distances, labels, images, num_classes, num_images)
    scores = scores.to(distances.device, distances.dtype)
    if not scores.isfinite().all():
        raise ValueError(
            f'sums of votes with {chosen.options} are too great for '
            f'{distances.dtype}; take a greater temperature, smaller weights '
            'or vote_shares'
        )
    return scores


@checked()
def vote_shares(
    distances: Tensor,
    labels: Tensor,
    images: Tensor,
    num_classes: Count,
    num_images: Index,
    log_weights: Optional[Tensor] = None,
    width: Optional[Positive] = None,
    temperature: Optional[Positive] = None,
    kernel: Union[None, KernelName, Kernel] = None,
) -> Tensor:
    """Shares of the classes in an image's :func:`vote`.

    Each image's votes are relative to its greatest one, so that shares are
    right however small the votes are. Votes whose log is beyond float64 count
    alike.

    Args:
        log_weights (Tensor, optional): ``(Q, k)``, from :func:`log_prior`; all
            else is that of :func:`vote`.

    Returns:
        Tensor: ``(B, K)``, float64, on the distances' device; rows sum to 1.
        Where there are no neighbours, all classes are equal.

    Raises:
        ValueError: As :func:`vote` does.
    """
    weights = None if log_weights is None else -log_weights
    name = 'minus log_weights'
    _check_votes(distances, labels, images, num_images, weights, name)
    logs = kernel_of(kernel, width, temperature).log(distances)
    if log_weights is not None:
        logs = logs + log_weights
    least = torch.finfo(logs.dtype).min
    logs = logs.clamp_min(least)
    rows = images.long().to(logs.device)[:, None].expand_as(logs)
    greatest = logs.new_full((num_images,), least)
    greatest.scatter_reduce_(0, rows.flatten(), logs.flatten(), 'amax')
    votes = (logs - greatest[rows]).exp()
    scores = _summed(votes, distances, labels, images, num_classes, num_images)
    total = scores.sum(1, keepdim=True)
    alike = torch.full_like(scores, 1 / num_classes)
    shares = torch.where(total > 0, scores / total, alike)
    return shares.to(distances.device)


def _summed(
    votes: Tensor,
    distances: Tensor,
    labels: Tensor,
    images: Tensor,
    num_classes: int,
    num_images: int,
) -> Tensor:
    """Sums of votes ``(Q, k)`` by image and class, on the CPU, float64."""
    near = distances.isfinite()
    _check_below(labels[near], num_classes, 'labels', 'num_classes')
    cells = images.long().to(labels.device)[:, None] * num_classes + labels
    cells, votes = cells[near].cpu(), votes[near].cpu()
    scores = torch.bincount(cells, votes, num_images * num_classes)
    # Of no votes torch counts integers.
    return scores.double().view(num_images, num_classes)


def _check_votes(
    distances: Tensor,
    labels: Tensor,
    images: Tensor,
    num_images: int,
    weights: Optional[Tensor],
    weights_name: str,
) -> None:
    numbers = {'distances': distances}
    if weights is not None:
        numbers[weights_name] = weights
    for name, values in dict(numbers, labels=labels).items():
        if values.shape != distances.shape:
            raise ValueError(
                f'{name} {tuple(values.shape)} must be '
                f'{tuple(distances.shape)}, as the distances'
            )
    if distances.ndim != 2 or images.shape != distances.shape[:1]:
        raise ValueError(
            f'distances {tuple(distances.shape)} must be (Q, k) and images '
            f'{tuple(images.shape)} (Q,)'
        )
    for name, values in numbers.items():
        if not values.is_floating_point() or not (values >= 0).all():
            raise ValueError(f'{name} must be numbers >= 0, and not NaN')
    for name, values in dict(labels=labels, images=images).items():
        if values.dtype not in (torch.int64, torch.int32):
            raise ValueError(f'{name} of dtype {values.dtype} must be integers')
    _check_below(images, num_images, 'images', 'num_images')


def _check_below(values: Tensor, end: int, name: str, option: str) -> None:
    wrong = values[(values < 0) | (values >= end)]
    if len(wrong):
        raise ValueError(
            f'{name} hold {int(wrong[0])}, but {option}={end} allows 0 to '
            f'{end - 1}; set {option} to more, or correct the {name}'
        )
