"""What share of each class an image has, and where that pulls its angle."""

from typing import List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

#: ``p -> scale * p + offset``: label smoothing of any kind.
Smoothing = Tuple[float, float]
UNSMOOTHED: Smoothing = (1.0, 0.0)
IGNORED = -100


class PointTable(NamedTuple):
    """Class points as targets of one smoothing look them up.

    Attributes:
        rows (Tensor): ``(K, 2 N + 1)``, see :func:`as_table`.
        smoothing (Tuple[float, float]): That is in them.
    """

    rows: Tensor
    smoothing: Smoothing


class Pull(NamedTuple):
    """The targets of a batch on the circle.

    Attributes:
        vector (Tensor): ``sum_c p_c t_c``, ``(B, 2)``, or ``(B, N, 2)`` for N
            windings.
        share (Tensor): ``sum_c p_c`` before smoothing, ``(B,)``; 0 for an
            image that counts nothing.
        total (Tensor): Sum of the shares.
        per_image (Tensor): 1 over the number of images that count.
        level (float): What smoothing makes of a share of 1.
    """

    vector: Tensor
    share: Tensor
    total: Tensor
    per_image: Tensor
    level: float = 1.0


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
    smoothing: Smoothing = UNSMOOTHED

    @classmethod
    def several(cls, labels: List[Tensor]) -> 'ClassTarget':
        """Of images with any number of labels, ``(n,)`` each."""
        counts = torch.tensor([label.numel() for label in labels])
        values = torch.cat([label.flatten().long() for label in labels])
        # Without waiting for the device.
        images = torch.repeat_interleave(counts).to(
            values.device, non_blocking=True
        )
        return cls(values, images, len(labels))

    def check_shape(self, num_classes: int, batch_size: int) -> None:
        """Whether the targets are of so many images and classes.

        Raises:
            ValueError: If not, or if labels are no whole numbers.
        """
        values = self.values
        found = len(values) if self.images is None else self.batch_size
        if found != batch_size:
            raise ValueError(
                f'the targets are of {found} images, but the maps of '
                f'{batch_size}; give one target an image'
            )
        if values.ndim == 2 and values.size(1) != num_classes:
            raise ValueError(
                f'the targets are scores of {values.size(1)} classes, but '
                f'class_angles.num_classes={num_classes}; set it and the '
                "head's to the number of classes of the data set"
            )
        if values.ndim == 1:
            _check_whole(values)

    def check(
        self, num_classes: int, batch_size: int, ignore_index: int = IGNORED
    ) -> None:
        """Whether the targets fit; waits for the device.

        Raises:
            ValueError: As :meth:`check_shape`, or if a label is out of range
                or a score is not finite.
        """
        self.check_shape(num_classes, batch_size)
        if self.values.ndim == 1:
            check_labels(self.values, num_classes, ignore_index)
        elif not self.values.isfinite().all():
            raise ValueError(
                'the targets hold scores that are not finite; give shares of '
                'classes'
            )
        elif self.smoothing != UNSMOOTHED:
            sums = self.values.double().sum(1)
            if not ((sums - 1).abs().lt(1e-3) | sums.eq(0)).all():
                raise ValueError(
                    'the targets are scores whose sums are '
                    f'{sums.min():.4g}..{sums.max():.4g}, and label smoothing '
                    'of shares asks for sums of 1; normalise them'
                )

    def pull(self, table: PointTable, ignore_index: int = IGNORED) -> Pull:
        """Where the targets pull.

        Args:
            table (PointTable): Of the class points and this smoothing.
            ignore_index (int): Label whose images count nothing.

        Raises:
            ValueError: If a label is out of range (on a GPU, CUDA's own
                error), or the table is of another smoothing.
        """
        if table.smoothing != self.smoothing:
            raise ValueError(
                f'the table is for smoothing={table.smoothing}, but the '
                f'targets have {self.smoothing}; make one for them'
            )
        points = table.rows
        if self.values.ndim == 2:
            rows = self.values.to(points) @ points
            share = rows[:, -1]
            total = share.sum()
            count = (share != 0).sum(dtype=points.dtype)
        else:
            rows = self._rows(points, ignore_index)
            share = rows[:, -1]  # 1, or 0 where an image has no class
            total = count = share.sum()
        vector = rows[:, :-1]
        if points.size(1) > 3:
            vector = vector.unflatten(1, (-1, 2))
        scale, offset = self.smoothing
        level = scale + offset * len(points)
        per_image = count.clamp_min(1).reciprocal()
        return Pull(vector, share, total, per_image, level)

    def _rows(self, table: Tensor, ignore_index: int) -> Tensor:
        """Means of the table's rows over the labels of each image."""
        labels = self.values.long()
        ignored = labels == ignore_index
        try:
            # Not by indexing, for which -1 is the last class.
            rows = table.index_select(0, labels.masked_fill(ignored, 0))
        except (IndexError, RuntimeError):
            check_labels(labels, len(table), ignore_index)
            raise
        rows = rows.masked_fill(ignored[:, None], 0)
        if self.images is None:
            return rows
        sums = table.new_zeros(self.batch_size, table.size(1))
        sums = sums.index_add(0, self.images, rows)
        return sums / sums[:, -1:].clamp_min(1)


def as_table(points: Tensor, smoothing: Smoothing = UNSMOOTHED) -> PointTable:
    """Class points as rows ``(cos, sin, 1)``.

    A label then picks its point and its share at once, and so do scores by a
    product. Smoothing turns a share of class c into
    ``scale * t_c + offset * sum_k t_k``, so it is in the rows.

    Args:
        points (Tensor): ``t_c``, ``(K, 2)`` or, of N windings, ``(K, N, 2)``.
        smoothing (Tuple[float, float]): Scale and offset of every ``p_c``.

    Returns:
        PointTable: Its rows are ``(K, 2 N + 1)``.
    """
    scale, offset = smoothing
    flat = points.flatten(1)
    flat = scale * flat + offset * flat.sum(0)
    rows = torch.cat([flat, torch.ones_like(flat[:, :1])], 1)
    return PointTable(rows, smoothing)


def check_labels(
    labels: Tensor, num_classes: int, ignore_index: int = IGNORED
) -> None:
    """Raise ValueError unless all labels are in ``0..K-1`` or ignored.

    Args:
        labels (Tensor): Any shape, whole numbers.
        num_classes (int): K.
        ignore_index (int): A label that is no class.
    """
    _check_whole(labels)
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


def _check_whole(labels: Tensor) -> None:
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f'the targets have the type {labels.dtype}, but class labels are '
            'whole numbers (and scores have two dimensions)'
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


def shares_of(scores: Tensor) -> Tensor:
    """Scores of any number of labels an image, divided by their sum.

    Args:
        scores (Tensor): ``(B, K)``, >= 0.

    Returns:
        Tensor: ``(B, K)``, float32; all 0 for an image without a label.
    """
    scores = scores.float()
    return scores / scores.sum(1, keepdim=True).clamp(min=1e-12)
