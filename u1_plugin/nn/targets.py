"""What share of each class an image has, and where that pulls its angle."""

from typing import List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

#: ``p -> scale * p + offset``: label smoothing of any kind.
Smoothing = Tuple[float, float]
IGNORED = -100


class Pull(NamedTuple):
    """The targets of a batch in one plane.

    Attributes:
        vector (Tensor): ``sum_c p_c t_c``, ``(B, 2)``.
        share (Tensor): ``sum_c p_c``, ``(B,)``; 0 for an image that counts
            nothing.
    """

    vector: Tensor
    share: Tensor


class ClassTarget(NamedTuple):
    """Labels, scores, or several labels an image.

    Attributes:
        values (Tensor): Labels ``(B,)``; scores ``(B, K)``; or, with
            ``images``, all labels of the batch, ``(M,)``.
        images (Tensor, optional): ``(M,)``: whose image each label is. An
            image's share is divided equally between its labels.
        batch_size (int): B.
        smoothing (Tuple[float, float]): Scale and offset of every ``p_c``.
    """

    values: Tensor
    images: Optional[Tensor] = None
    batch_size: int = 0
    smoothing: Smoothing = (1.0, 0.0)

    @classmethod
    def several(
        cls, labels: List[Tensor], smoothing: Smoothing = (1.0, 0.0)
    ) -> 'ClassTarget':
        """Of images with any number of labels, ``(n,)`` each."""
        counts = torch.tensor([label.numel() for label in labels])
        values = torch.cat([label.flatten().long() for label in labels])
        images = torch.repeat_interleave(counts).to(values.device)
        return cls(values, images, len(labels), smoothing)

    def check(
        self, num_classes: int, batch_size: int, ignore_index: int = IGNORED
    ) -> None:
        """Whether the targets fit; waits for the device.

        Raises:
            ValueError: If a label is out of range, scores are of another
                number of classes, or there are not B of them.
        """
        values = self.values
        found = len(values) if self.images is None else self.batch_size
        if found != batch_size:
            raise ValueError(
                f'the targets are of {found} images, but the maps of '
                f'{batch_size}; give one target an image'
            )
        if values.ndim == 2:
            if values.size(1) != num_classes:
                raise ValueError(
                    f'the targets are scores of {values.size(1)} classes, but '
                    f'class_angles.num_classes={num_classes}; set it and the '
                    "head's to the number of classes of the data set"
                )
            if not values.isfinite().all():
                raise ValueError(
                    'the targets hold scores that are not finite; give '
                    'shares of classes'
                )
            return
        check_labels(values, num_classes, ignore_index)

    def pull(self, points: Tensor, ignore_index: int = IGNORED) -> Pull:
        """Where the targets pull.

        Args:
            points (Tensor): ``t_c``, ``(K, 2)``, float32 or wider.
            ignore_index (int): Label whose images count nothing.
        """
        if self.values.ndim == 2:
            scores = self.values.to(points)
            pull = Pull(scores @ points, scores.sum(1))
        elif self.images is not None:
            pull = self._mean_pull(points)
        else:
            valid = self.values != ignore_index
            share = valid.to(points)
            labels = torch.where(valid, self.values, 0)
            pull = Pull(points[labels] * share[:, None], share)
        return pull if self.smoothing == (1.0, 0.0) else self._smooth(
            pull, points
        )

    def _mean_pull(self, points: Tensor) -> Pull:
        sums = points.new_zeros(self.batch_size, 2)
        sums = sums.index_add(0, self.images, points[self.values])
        counts = torch.bincount(self.images, minlength=self.batch_size)
        counts = counts.to(points)
        return Pull(sums / counts.clamp(min=1)[:, None], counts.clamp(max=1))

    def _smooth(self, pull: Pull, points: Tensor) -> Pull:
        scale, offset = self.smoothing
        counted = (pull.share != 0).to(points)
        vector = scale * pull.vector + offset * counted[:, None] * points.sum(0)
        share = scale * pull.share + offset * len(points) * counted
        return Pull(vector, share)


def check_labels(
    labels: Tensor, num_classes: int, ignore_index: int = IGNORED
) -> None:
    """Raise ValueError unless all labels are in ``0..K-1`` or ignored.

    Args:
        labels (Tensor): Any shape, whole numbers.
        num_classes (int): K.
        ignore_index (int): A label that is no class.
    """
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f'the targets have the type {labels.dtype}, but class labels are '
            'whole numbers (and scores have two dimensions)'
        )
    valid = labels[labels != ignore_index]
    if valid.numel() and not 0 <= int(valid.min()) <= int(valid.max()) < (
        num_classes
    ):
        raise ValueError(
            f'the data set has labels {int(valid.min())}..{int(valid.max())}, '
            f'but the number of classes num_classes={num_classes} allows '
            f"0..{num_classes - 1}; set the head's num_classes to the number "
            'of classes'
        )


def as_target(target: Union[Tensor, ClassTarget]) -> ClassTarget:
    """Labels ``(B,)`` or scores ``(B, K)`` as :class:`ClassTarget`.

    Raises:
        ValueError: If the tensor has another number of dimensions.
    """
    if isinstance(target, ClassTarget):
        return target
    if not isinstance(target, Tensor) or target.ndim not in (1, 2):
        shape = getattr(target, 'shape', type(target).__name__)
        raise ValueError(
            f'target has shape {shape}, but must hold labels, (N,), or scores '
            'of the classes, (N, K)'
        )
    return ClassTarget(target)
