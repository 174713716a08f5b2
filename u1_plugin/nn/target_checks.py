"""Whether the values of targets are labels or shares of classes."""

import numpy as np
import torch
from torch import Tensor

#: How far the sum of an image's shares may be from 1.
_SUM_ERROR = 1e-3


def check_labels(labels: Tensor, num_classes: int, ignore_index: int) -> None:
    """Raise ValueError unless all labels are in ``0..K-1`` or ignored.

    Args:
        labels (Tensor): Any shape, whole numbers.
        num_classes (int): K.
        ignore_index (int): A label that is no class.
    """
    check_whole(labels)
    found = _array(labels)
    found = found[found != ignore_index]
    if found.size and not 0 <= found.min() <= found.max() < num_classes:
        raise ValueError(
            f'the data set has labels {found.min()}..{found.max()}, '
            f'but the number of classes num_classes={num_classes} allows '
            f"0..{num_classes - 1}; set the head's num_classes to the number "
            'of classes'
        )


def check_images(images: Tensor, batch_size: int) -> None:
    """Raise ValueError unless these are numbers of the batch's images."""
    found = _array(images)
    if found.size and not 0 <= found.min() <= found.max() < batch_size:
        raise ValueError(
            f'images {found.min()}..{found.max()} do not fit a batch of '
            f'{batch_size}; use ClassTarget.several'
        )


def check_whole(labels: Tensor) -> None:
    """Raise ValueError unless the type is one of whole numbers."""
    if (
        labels.dtype == torch.bool
        or labels.dtype.is_floating_point
        or labels.dtype.is_complex
    ):
        raise ValueError(
            f'the targets have the type {labels.dtype}, but class labels are '
            'whole numbers (and scores have two dimensions)'
        )


def check_scores(scores: Tensor, smoothed: bool) -> None:
    """Raise ValueError unless all scores are finite and >= 0.

    Args:
        scores (Tensor): ``(B, K)``.
        smoothed (bool): Whether they are smoothed, which makes sense of shares
            alone: each image's then must add up to 1, or be 0.
    """
    found = _array(scores)
    if not np.isfinite(found).all():
        raise ValueError(
            'the targets hold scores that are not finite; give shares of '
            'classes'
        )
    if found.size and found.min() < 0:
        raise ValueError(
            f'the targets hold scores down to {found.min():.4g}, which are '
            'negative; give shares of classes'
        )
    if not smoothed:
        return
    sums = found.sum(1, dtype=np.float64)
    if not ((abs(sums - 1) < _SUM_ERROR) | (sums == 0)).all():
        raise ValueError(
            'the targets are scores whose sums are '
            f'{sums.min():.4g}..{sums.max():.4g}, and label smoothing '
            'of shares asks for sums of 1; normalise them'
        )


def _array(values: Tensor) -> np.ndarray:
    """Values on the CPU, without an operation of torch where they are there."""
    values = values.detach().cpu()
    if values.dtype == torch.bfloat16:  # which NumPy has not
        values = values.float()
    return values.numpy()
