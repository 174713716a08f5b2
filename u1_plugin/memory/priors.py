"""What the places of two pixels weigh in a vote: angles and controls.

The formula stands in ``docs/memory_bank.md``.
"""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..options import NonNegative, Positive, checked
from .float64 import square_root

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
def log_prior(
    query: PlaneCoordinates,
    memory: PlaneCoordinates,
    plane: PriorPlane,
    kappa: NonNegative,
    sigma: Positive = 0.5,
) -> Tensor:
    """Log of the weight of each neighbour by its place.

    The weight is ``exp(kappa (cos(delta theta) - 1))`` in the image plane, the
    feature plane or both; the controls are ``exp(-|delta (x, y)|^2 / 2
    sigma^2)`` (``position``) and the same of the radius. ``shuffled`` is the
    image plane, for a bank whose positions have been shuffled once.

    Args:
        query (PlaneCoordinates): ``(Q, 1, 2)`` and ``(Q, 1)``.
        memory (PlaneCoordinates): Of the neighbours, ``(Q, k, 2)`` and
            ``(Q, k)``, or other shapes that broadcast.
        plane (str): One of :data:`PRIORS`.
        kappa (float): >= 0; 0 makes every weight 1.
        sigma (float): > 0, in half diagonals of the map, for the controls.

    Returns:
        Tensor: ``(Q, k)``, <= 0, float64.

    Raises:
        ValueError: If an option is out of its range, or shapes do not fit.
    """
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
