"""Controls with U(1)'s random targets but without its circle, and a rival.

All are losses beside the one-hot loss, as the U(1) loss is, of the vector
that the classifier takes. Does a *circle* matter? Then a sphere of another
dimension, or classes that were thrown together at random, must do less.
"""

from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..options import Count, NonNegative, Seed, checked
from .auxiliary_losses import AuxiliaryLoss
from .simplex_head import simplex_corners


class SphereTargetLoss(AuxiliaryLoss):
    """``1 - cos(W v, t_y)`` with a fixed direction of each class on S^(d-1).

    W projects on ``d`` fixed orthonormal directions that are orthogonal to the
    medial vector ``(1, ..., 1)``, as a feature plane is: ``d = 2`` is the U(1)
    loss with a random plane. Targets are uniform on the sphere; for ``d = K -
    1`` they are the corners of a simplex, which no other targets are further
    apart than.

    Args:
        dimension (int, optional): d, at least 2 and below C; None is K - 1.
            Defaults to 2.
        seed (int): Of the directions and the targets.
    """

    @checked('model.auxiliary')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        dimension: Optional[Count] = 2,
        loss_weight: NonNegative = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__(num_classes, in_channels, loss_weight)
        if dimension is None:
            dimension = num_classes - 1
        if not 2 <= dimension < in_channels:
            raise ValueError(
                f'model.auxiliary.dimension={dimension} must be at least 2 and '
                f'below in_channels={in_channels} (None is num_classes - 1)'
            )
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randn(dimension, in_channels, generator=generator)
        self.register_buffer('rows', _orthonormal(rows))
        if dimension == num_classes - 1:
            targets = simplex_corners(num_classes)
        else:
            targets = torch.randn(num_classes, dimension, generator=generator)
        self.register_buffer('targets', normalize(targets, dim=1))

    def per_class(self, vectors: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        return 1 - normalize(vectors @ self.rows.T, dim=1) @ self.targets.T


def _orthonormal(rows: Tensor) -> Tensor:
    """Orthonormal, and orthogonal to the medial vector."""
    rows = (rows - rows.mean(1, keepdim=True)).double()
    return torch.linalg.qr(rows.T).Q.T.float().contiguous()


class SuperclassLoss(AuxiliaryLoss):
    """Cross-entropy of a second, linear classifier of random superclasses.

    Many random angles on one circle lie close together in random groups; this
    control keeps the groups and drops the circle.

    Args:
        superclasses (int): Groups of classes, as even as K allows, at least 2
            and at most K. Defaults to 8.
        seed (int): Of the groups and of the first weights.
    """

    @checked('model.auxiliary')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        superclasses: Count = 8,
        loss_weight: NonNegative = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__(num_classes, in_channels, loss_weight)
        if not 2 <= superclasses <= num_classes:
            raise ValueError(
                f'model.auxiliary.superclasses={superclasses} must be at least '
                f'2 and at most num_classes={num_classes}'
            )
        generator = torch.Generator().manual_seed(seed)
        # No draw from the run's own generator: arms are paired by its seed.
        weight = torch.randn(superclasses, in_channels, generator=generator)
        self.weight = nn.Parameter(weight * 0.01)
        self.bias = nn.Parameter(torch.zeros(superclasses))
        order = torch.randperm(num_classes, generator=generator)
        self.register_buffer('group', order % superclasses)

    def per_class(self, vectors: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        logits = nn.functional.linear(vectors, self.weight, self.bias)
        return -logits.log_softmax(1)[:, self.group]


class OrthogonalProjectionLoss(AuxiliaryLoss):
    """``1 - s + gamma |d|`` of the cosines within a batch.

    Ranasinghe et al., "Orthogonal Projection Loss", ICCV 2021, eq. 3 to 5: s
    is the mean cosine of pairs of a class, d that of pairs of two classes. A
    batch without pairs of a kind has none of that part.

    Args:
        gamma (float): >= 0. Defaults to 0.5, as published for CIFAR-100.
    """

    @checked('model.auxiliary')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        loss_weight: NonNegative = 0.1,
        gamma: NonNegative = 0.5,
    ) -> None:
        super().__init__(num_classes, in_channels, loss_weight)
        self.gamma = gamma

    def of_batch(self, vectors: Tensor, target: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        labels = target if target.ndim == 1 else target.argmax(1)
        unit = normalize(vectors, dim=1)
        cosine = unit @ unit.T
        same = labels[:, None] == labels
        other = ~same
        same = same.fill_diagonal_(False)
        within = (cosine * same).sum() / same.sum().clamp(min=1)
        between = (cosine * other).sum() / other.sum().clamp(min=1)
        return same.any() * (1 - within) + self.gamma * between.abs()
