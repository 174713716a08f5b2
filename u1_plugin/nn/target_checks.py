"""What the targets of a batch must be, in words of whoever wrote them."""

import math
import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

#: How far the sum of an image's shares may be from 1.
_SUM_ERROR = 1e-3


def check_smoothing(smoothing: Any) -> None:
    """Raise ValueError unless it is a scale and an offset, each >= 0."""
    fits = isinstance(smoothing, tuple) and len(smoothing) == 2
    for number in smoothing if fits else ():
        real = isinstance(number, numbers.Real)
        fits = fits and real and 0 <= number < math.inf
    if not fits:
        raise ValueError(
            f'smoothing={smoothing!r} must be a tuple of two finite numbers >= '
            '0, scale and offset of every share; for a label smoothing of s '
            'with K classes (1 - s, s / K)'
        )


def check_labels(labels: Tensor, classes: int, ignore_index: int) -> None:
    """Raise ValueError unless labels are in ``0..K-1`` or left out."""
    values = array(labels)
    if span := beyond(values[values != ignore_index], classes):
        raise ValueError(
            f'the data set has labels {span}, but the number of classes '
            f"num_classes={classes} allows 0..{classes - 1}; set the head's "
            'num_classes to the number of classes'
        )


def beyond(values: np.ndarray, count: int) -> str:
    """``'low..high'`` of values that are not all in ``0..count-1``, or ''."""
    if not values.size or 0 <= values.min() <= values.max() < count:
        return ''
    return f'{values.min()}..{values.max()}'


def check_whole(labels: Tensor) -> None:
    """Raise ValueError unless labels are of a type of whole numbers."""
    kind = labels.dtype
    if kind == torch.bool or kind.is_floating_point or kind.is_complex:
        raise ValueError(
            f'the targets have the type {kind}, but class labels are whole '
            'numbers (and scores have two dimensions)'
        )


def check_scores(scores: Tensor, smoothed: bool) -> None:
    """Finite and >= 0; an image's shares, if smoothed, add up to 1 or are 0."""
    values = array(scores)
    low = values.min(initial=0)
    if low < 0 or not np.isfinite(values).all():
        kind = f'down to {low:.4g}, which are negative' if low < 0 else ''
        raise ValueError(
            f'the targets hold scores {kind or "that are not finite"}; give '
            'shares of classes'
        )
    if not smoothed:
        return
    sums = values.sum(1, dtype=np.float64)
    if not ((abs(sums - 1) < _SUM_ERROR) | (sums == 0)).all():
        raise ValueError(
            f'the targets are scores whose sums are {sums.min():.4g}..'
            f'{sums.max():.4g}, and label smoothing of shares asks for sums '
            'of 1; normalise them'
        )


def array(values: Tensor) -> np.ndarray:
    """Values on the CPU, without an operation of torch where they are there."""
    values = values.detach().cpu()
    if values.dtype == torch.bfloat16:  # which NumPy has not
        values = values.float()
    return values.numpy()
