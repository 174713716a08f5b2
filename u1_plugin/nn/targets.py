"""What share of each class an image has, and where that pulls its angle."""

from typing import List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor

from ..geometry import scale_of
from ..geometry.scales import check_real, without_autocast
from .base import first_of_equal
from .target_checks import (
    array,
    beyond,
    check_labels,
    check_scores,
    check_smoothing,
    check_whole,
)

#: ``p -> scale * p + offset``: label smoothing of any kind.
Smoothing = Tuple[float, float]
UNSMOOTHED: Smoothing = (1.0, 0.0)
IGNORED = -100


class ClassPointTable(NamedTuple):
    """Class points ``(K, 2 N)`` with a smoothing in them: :func:`as_table`."""

    rows: Tensor
    smoothing: Smoothing


class Pull(NamedTuple):
    """The targets of a batch on the circle.

    Attributes:
        vector (Tensor): ``sum_c p_c t_c``, ``(B, 2)``, or ``(B, N, 2)`` for N
            windings.
        share (Tensor): ``sum_c p_c`` before smoothing, ``(B,)``; 0 for an
            image that is not counted.
        total (Tensor): Sum of the shares.
        count (Tensor): Number of images that count, at least 1.
        level (float): What smoothing makes of a share of 1.
    """

    vector: Tensor
    share: Tensor
    total: Tensor
    count: Tensor  # type: ignore[assignment]  # not tuple's
    level: float = 1.0


class ClassTarget(NamedTuple):
    """Labels, scores, or several labels an image.

    Attributes:
        values (Tensor): Labels ``(B,)``; scores ``(B, K)``; or, with
            ``images``, all labels of the batch, ``(M,)``.
        images (Tensor, optional): ``(M,)``: whose image each label is. An
            image's share is divided equally between its labels.
        batch_size (int): B.
        smoothing (Tuple[float, float]): Scale and offset of every ``p_c``, both
            >= 0: ``(1 - s, s / K)`` for the usual label smoothing of s.

    Examples:
        >>> import torch
        >>> from u1_plugin.nn import ClassTarget
        >>> labels = [torch.tensor([0, 2]), torch.tensor([1])]
        >>> ClassTarget.several(labels).values
        tensor([0, 2, 1])
    """

    values: Tensor
    images: Optional[Tensor] = None
    batch_size: int = 0
    smoothing: Smoothing = UNSMOOTHED

    @classmethod
    def several(cls, labels: List[Tensor]) -> 'ClassTarget':
        """Targets of labels ``(n,)``; equal labels of an image count once."""
        for i, label in enumerate(labels):
            check_real(f'labels[{i}]', label)
            if label.numel():  # an empty list has no type of its own
                check_whole(label)
        flat = [label.flatten().long() for label in labels]
        counts = torch.tensor(list(map(len, flat)), dtype=torch.long)
        values = torch.cat(flat) if flat else counts
        images = torch.repeat_interleave(counts)
        # Without waiting for the device.
        images = images.to(values.device, non_blocking=True)
        return cls(values, images, len(labels))

    def _check_shape(self, num_classes: int, batch_size: int) -> None:
        values = self.values
        as_target(values)
        check_smoothing(self.smoothing)
        num_images = len(values) if self.images is None else self.batch_size
        if num_images != batch_size:
            raise ValueError(
                f'the targets are of {num_images} images, but the maps of '
                f'{batch_size}; give one target an image'
            )
        if values.ndim == 2 and values.size(1) != num_classes:
            raise ValueError(
                f'the targets are scores of {values.size(1)} classes, but '
                f'class_angles.num_classes={num_classes}; set it and the '
                "head's to the number of classes of the data set"
            )
        if self.images is not None:
            check_real('images', self.images)
            check_whole(self.images)
            if self.images.shape != values.shape:
                raise ValueError(
                    'the targets have labels of the shape '
                    f'{tuple(values.shape)}, but say of '
                    f'{tuple(self.images.shape)} whose they are; use '
                    'ClassTarget.several'
                )
        if values.ndim == 1:
            check_whole(values)

    def check(
        self,
        num_classes: int,
        batch_size: int,
        ignore_index: int = IGNORED,
        wait: bool = True,
    ) -> None:
        """Whether the targets fit K classes and B images.

        Without ``wait``, a GPU that holds them stops at scores that are NaN or
        negative by an assertion of its own, and at labels when their points
        are looked up.

        Raises:
            ValueError: If they are not of so many images and classes, labels
                are no whole numbers or out of range, or scores are negative
                or not finite.
        """
        self._check_shape(num_classes, batch_size)
        if wait or self.values.device.type == 'cpu':
            images = None if self.images is None else array(self.images)
            if images is not None and beyond(images, batch_size):
                raise ValueError(
                    f'images {beyond(images, batch_size)} do not fit a batch '
                    f'of {batch_size}; use ClassTarget.several'
                )
            if self.values.ndim == 1:
                check_labels(self.values, num_classes, ignore_index)
            else:
                check_scores(self.values, self.smoothing != UNSMOOTHED)
        elif self.values.ndim == 2 and self.values.is_cuda:
            torch._assert_async(
                (self.values.detach() >= 0).all(),
                'the targets hold scores that are NaN or negative',
            )

    def pull(self, table: ClassPointTable, ignore_index: int = IGNORED) -> Pull:
        """Where the targets pull, by a table of the class points.

        Images of the label ``ignore_index`` are not counted.

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
            scores = self.values.to(points)
            with without_autocast(points.device):
                vector, share = scores @ points, scores.sum(1)
            total = share.sum()
            count = (share != 0).sum(dtype=points.dtype)
        else:
            vector, share = self._look_up(points, ignore_index)
            # 1 for an image, or 0 where it has no class.
            total = count = share.sum(dtype=points.dtype)
        if points.size(1) > 2:
            vector = vector.unflatten(1, (-1, 2))
        scale, offset = self.smoothing
        level = scale + offset * len(points)
        return Pull(vector, share, total, count.clamp_min(1), level)

    def _look_up(
        self, points: Tensor, ignore_index: int
    ) -> Tuple[Tensor, Tensor]:
        """Means of the points of each image's labels, and if it has any."""
        labels = self.values.long()
        valid = labels != ignore_index
        try:
            # Not by indexing, for which -1 is the last class.
            label_points = points.index_select(0, labels * valid)
        except (IndexError, RuntimeError):
            check_labels(labels, len(points), ignore_index)
            raise
        if self.images is None:
            return label_points * valid[:, None], valid
        named = labels.where(valid, len(points))
        valid = valid & first_of_equal(self.images * (len(points) + 1) + named)
        sums = points.new_zeros(self.batch_size, points.size(1))
        sums = sums.index_add(0, self.images, label_points * valid[:, None])
        counts = points.new_zeros(self.batch_size)
        counts = counts.index_add(0, self.images, valid.to(points))
        return sums / counts.clamp_min(1)[:, None], counts > 0


def as_table(
    points: Tensor, smoothing: Smoothing = UNSMOOTHED
) -> ClassPointTable:
    """Class points ``t_c``, ``(K, 2)`` or ``(K, N, 2)``, as rows ``(K, 2 N)``.

    Labels pick them, and scores mix them by a product. Smoothing turns a share
    of class c into ``scale * t_c + offset * sum_k t_k``, so it is in the rows.
    """
    scale, offset = smoothing
    flat = points.flatten(1)
    return ClassPointTable(scale * flat + offset * flat.sum(0), smoothing)


def as_target(target: Union[Tensor, ClassTarget]) -> ClassTarget:
    """Labels ``(B,)`` or scores ``(B, K)`` as :class:`ClassTarget`.

    Raises:
        ValueError: If the tensor has another number of dimensions.
    """
    if isinstance(target, ClassTarget):
        return target
    dims = target.ndim if isinstance(target, Tensor) else 0
    if dims not in (1, 2) or target.is_complex():
        shape = getattr(target, 'shape', type(target).__name__)
        raise ValueError(
            f'target has shape {shape}, but must hold labels, (B,), or scores '
            'of the classes, (B, K)'
        )
    return ClassTarget(target)


def shares_of(scores: Tensor) -> Tensor:
    """Scores ``(B, K)`` >= 0 of any number of labels an image, made shares.

    Float32; all 0 for an image without a label, and rows with a negative score
    as they are, to be refused. Another shape is a ValueError.
    """
    if scores.ndim != 2:
        raise ValueError(
            f'target has shape {tuple(scores.shape)}, but scores of any number '
            'of labels an image are (B, K)'
        )
    scores = scores.float()
    scaled = scores / scale_of(scores, 1)  # a sum is then 0, or 1 at least
    shares = scaled / scaled.sum(1, keepdim=True).clamp(min=1e-12)
    return shares.where(scores.amin(1, keepdim=True) >= 0, scores)
