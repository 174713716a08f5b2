"""The one way from neighbours to classes, of the head and of the tools.

The formula stands in ``docs/memory_bank.md``.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from ..options import Count, Index, checked, shown
from .kernels import Kernel
from .pixels import Pixels
from .priors import PlaneCoordinates, PriorPlane, log_prior
from .sharding import LabelledNeighbours


class VotingRule(NamedTuple):
    """How neighbours vote: ``[label = c] w(d) exp(kappa (cos - 1))``.

    Attributes:
        plane (str): Whose angle, or which control: one of :data:`PRIORS`.
        kappa (float): >= 0; 0 is the plain vote.
        sigma (float): > 0, of the controls ``'position'`` and ``'radius'``.
        kernel (Kernel): ``w(d)``.
    """

    plane: PriorPlane = 'image'
    kappa: float = 0.0
    sigma: float = 0.5
    kernel: Kernel = Kernel()

    def __str__(self) -> str:
        place = f'kappa {self.kappa:g}'
        if self.plane in ('position', 'radius'):
            place = f'sigma {self.sigma:g}'
        return f'{self.kernel}, plane {self.plane}, {place}'


@checked()
def class_shares(
    matches: LabelledNeighbours,
    query: Pixels,
    num_classes: Count,
    num_images: Index,
    rule: VotingRule = VotingRule(),
    k: Optional[Count] = None,
) -> Tensor:
    """Shares of the classes in the votes for each image.

    A class's votes are summed over the image's pixels and their neighbours, in
    float64 on the CPU in the order of queries and neighbours, so that an
    image's shares do not depend on what else is in the batch. They are
    relative to the image's greatest vote, so that shares are right however
    small the votes are. Votes whose log is beyond float64 count alike.

    Args:
        matches (LabelledNeighbours): Of :meth:`~.sharding.Memory.search`, ``(Q,
            n)``; distances are infinite where there is no neighbour.
        query (Pixels): Whose they are, ``(Q,)``: their images, in
            ``0..num_images-1``, and where they lie.
        num_classes (int): K.
        num_images (int): B.
        rule (VotingRule): Of the vote.
        k (int, optional): Only the first k neighbours vote; None is all.

    Returns:
        Tensor: ``(B, K)``, float64, on the distances' device; rows sum to 1.
        Where there are no neighbours, all classes are equal.

    Raises:
        ValueError: If an option is out of its range, shapes do not fit, a
            number is NaN, or a label or an image out of its range.
    """
    if not isinstance(rule.kernel, Kernel):
        raise ValueError(
            f'rule.kernel={shown(rule.kernel)} must be a Kernel; make one by '
            'kernel_of(name)'
        )
    shapes = [tuple(field.shape) for field in matches]
    if min(map(len, shapes)) < 2:
        raise ValueError(f'matches of shapes {shapes} must be (Q, n)')
    near = LabelledNeighbours(*(field[:, :k] for field in matches))
    distances, labels, images = near.distances, near.labels, query.images
    place = log_prior(
        PlaneCoordinates(query.positions[:, None], query.hues[:, None]),
        near.coordinates,
        rule.plane,
        rule.kappa,
        rule.sigma,
    )
    _check_votes(distances, labels, images, num_images, place)
    logs = rule.kernel.log(distances) + place
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
    place: Tensor,
) -> None:
    for name, values in dict(labels=labels, places=place).items():
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
    if not distances.is_floating_point() or not (distances >= 0).all():
        raise ValueError('distances must be numbers >= 0, and not NaN')
    if place.isnan().any():
        raise ValueError('positions and hues must be finite numbers')
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
