"""Losses beside the one-hot loss that U(1) is compared with.

Each takes the vector that the classifier takes. They are the nearest published
relatives of the U(1) loss, and the control that has its two dimensions and
random targets, but no circle.
"""

import torch
from mmengine import dist
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..geometry.scales import without_autocast
from ..nn.targets import IGNORED, as_target
from ..options import Count, NonNegative, Seed, Share, checked


class AuxiliaryLoss(nn.Module):
    """Base: a loss of each vector for each class.

    Every loss has these options beside its own.

    Args:
        num_classes (int): K.
        in_channels (int): C.
        loss_weight (float): >= 0.

    Raises:
        ValueError: If an option of a loss is out of its range.
    """

    def __init__(
        self, num_classes: int, in_channels: int, loss_weight: float
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.loss_weight = loss_weight

    def per_class(self, vectors: Tensor) -> Tensor:
        """Loss if class c were right, ``(B, C) -> (B, K)``."""
        raise NotImplementedError

    def of_batch(self, vectors: Tensor, target: Tensor) -> Tensor:
        """Mean loss of a batch; overridden where images depend on others."""
        losses = self.per_class(vectors)
        if target.ndim == 1:
            return losses.gather(1, target[:, None]).mean()
        return (target.float() * losses).sum(1).mean()

    def observe(self, vectors: Tensor, target: Tensor) -> None:
        """What a training step teaches a loss that has a state."""

    def forward(self, vectors: Tensor, target: Tensor) -> Tensor:
        """Mean loss of a batch, times ``loss_weight``.

        Args:
            vectors (Tensor): ``(B, C)``.
            target (Tensor): Labels ``(B,)`` in ``[0, K)`` or scores
                ``(B, K)``, at least 0.

        Raises:
            ValueError: If C or K are others, a label is none or out of range,
                or scores are negative or not finite.
        """
        if not torch.compiler.is_compiling():
            self._check(vectors, target)
        if target.ndim == 1:
            target = target.long()
        with without_autocast(vectors.device):
            vectors = vectors.float()
            loss = self.of_batch(vectors, target)
            if self.training:
                self.observe(vectors.detach(), target)
        return self.loss_weight * loss

    def _check(self, vectors: Tensor, target: Tensor) -> None:
        if vectors.ndim != 2 or vectors.size(1) != self.in_channels:
            raise ValueError(
                f'model.auxiliary got vectors {tuple(vectors.shape)}, expected '
                f'(B, {self.in_channels}); set model.auxiliary.in_channels'
            )
        # Indexing names no label, and on a GPU ends the process.
        as_target(target).check(self.num_classes, len(vectors))
        if target.ndim == 1 and (target == IGNORED).any():
            raise ValueError(
                f'model.auxiliary got the label {IGNORED} of images that are '
                'left out, which it cannot; leave them out of the data set'
            )


class CenterLoss(AuxiliaryLoss):
    """``|v - c_y|^2 / 2``: vectors gather about their class's centre.

    Wen et al., "A Discriminative Feature Learning Approach for Deep Face
    Recognition", ECCV 2016. The centres move by its eq. 4: the mean deviation
    of the batch's vectors of a class, with one count more in the denominator,
    times ``rate``. They are buffers, so that no optimizer touches them.

    Args:
        rate (float): In (0, 1].
    """

    @checked('model.auxiliary')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        loss_weight: NonNegative = 0.01,
        rate: Share = 0.5,
    ) -> None:
        super().__init__(num_classes, in_channels, loss_weight)
        self.rate = rate
        self.register_buffer('centers', torch.zeros(num_classes, in_channels))

    def of_batch(self, vectors: Tensor, target: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        if target.ndim > 1:
            return super().of_batch(vectors, target)
        return (vectors - self.centers[target]).square().sum(1).mean() / 2

    def per_class(self, vectors: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        # Products lose what is small beside a common offset. New tensors,
        # because `observe` moves the centres before the backward pass.
        offset = vectors.detach().mean(0)
        vectors, centers = vectors - offset, self.centers - offset
        squared = vectors.square().sum(1, keepdim=True)
        products = vectors @ centers.T
        return (squared - 2 * products + centers.square().sum(1)) / 2

    @torch.no_grad()
    def observe(self, vectors: Tensor, target: Tensor) -> None:
        """Move the centres, alike on every rank."""
        if target.ndim == 1:
            shares = nn.functional.one_hot(target, self.num_classes)
            shares = shares.to(vectors)
            sums = shares.T @ (vectors - self.centers[target])
        else:
            shares = target.to(vectors)
            offset = vectors.mean(0)
            sums = shares.T @ (vectors - offset)
            sums -= shares.sum(0)[:, None] * (self.centers - offset)
        counts = shares.sum(0)
        if dist.is_distributed():
            dist.all_reduce(sums)
            dist.all_reduce(counts)
        self.centers += self.rate * sums / (1 + counts[:, None])


class HypersphericalPrototypeLoss(AuxiliaryLoss):
    """``(1 - cos(v, p_y))^2`` with a fixed direction ``p_c`` for each class.

    Mettes et al., "Hyperspherical Prototype Networks", NeurIPS 2019, there in
    place of the one-hot loss and on a linear embedding. The directions are
    orthonormal where K <= C, otherwise the normalised rows of a matrix with
    orthonormal columns; theirs are optimised. The classifier's input usually
    comes after a ReLU and cannot reach a direction with negative parts, so
    that the loss keeps a floor which theirs does not have.

    Args:
        seed (int): Of the directions.
    """

    @checked('model.auxiliary')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        loss_weight: NonNegative = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__(num_classes, in_channels, loss_weight)
        generator = torch.Generator().manual_seed(int(seed))
        prototypes = torch.empty(num_classes, in_channels)
        nn.init.orthogonal_(prototypes, generator=generator)
        self.register_buffer('prototypes', normalize(prototypes, dim=1))

    def per_class(self, vectors: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        cosine = normalize(vectors, dim=1) @ self.prototypes.T
        return (1 - cosine).square()


class RandomPlaneLoss(AuxiliaryLoss):
    """``|W v / |v| - t_y|^2``: a control with U(1)'s size and no circle.

    A fixed random linear map W to two dimensions, not orthogonal to the medial
    vector, regresses to a fixed random point of each class in the unit disc:
    the same labels and as many dimensions as U(1) has, but no angle.

    Args:
        seed (int): Of the map and the points.
    """

    @checked('model.auxiliary')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        loss_weight: NonNegative = 0.1,
        seed: Seed = 0,
    ) -> None:
        super().__init__(num_classes, in_channels, loss_weight)
        generator = torch.Generator().manual_seed(int(seed))
        rows = torch.randn(2, in_channels, generator=generator)
        self.register_buffer('rows', normalize(rows, dim=1))
        points = torch.randn(num_classes, 2, generator=generator)
        # Uniform in the disc: the radius is the root of a uniform number.
        radius = torch.rand(num_classes, 1, generator=generator).sqrt()
        self.register_buffer('points', normalize(points, dim=1) * radius)

    def per_class(self, vectors: Tensor) -> Tensor:
        """See :class:`AuxiliaryLoss`."""
        projected = normalize(vectors, dim=1) @ self.rows.T
        return (projected[:, None] - self.points).square().sum(2)
