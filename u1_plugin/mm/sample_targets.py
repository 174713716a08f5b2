"""The very targets of a classifier's one-hot loss, for the U(1) branch."""

from typing import List, Optional, Sequence

import torch
from mmpretrain.structures import DataSample, MultiTaskDataSample
from torch import Tensor, nn

from ..nn.targets import UNSMOOTHED, ClassTarget, Smoothing, shares_of

#: How far a smoothing may be from `scale * p + offset`.
_AFFINE = 1e-6


def targets_of(
    data_samples: Sequence[DataSample],
    smoothing: Smoothing = UNSMOOTHED,
    several: bool = False,
    loss_module: Optional[nn.Module] = None,
) -> ClassTarget:
    """Labels or scores of a batch, smoothed as the one-hot loss smooths them.

    Args:
        data_samples (Sequence[DataSample]): With ``gt_label``, or with
            ``gt_score`` after batch augmentation.
        smoothing (Tuple[float, float]): From :func:`smoothing_of`.
        several (bool): Whether the head takes any number of labels an image.
            The target is then the mean of their class points, unsmoothed:
            smoothing moves each of K yes-or-no labels towards 1/2, which is
            no share of a class.
        loss_module (nn.Module, optional): Of the one-hot loss, where its
            smoothing of scores is not that of labels
            (:func:`smooths_scores_otherwise`).

    Raises:
        ValueError: If an image has no target, or several where the head takes
            one.
    """
    if any(isinstance(sample, MultiTaskDataSample) for sample in data_samples):
        raise ValueError(
            'the data samples hold several tasks, and U(1) classes are those '
            'of one; train one task, or leave the U(1) branch out'
        )
    if all('gt_score' in sample for sample in data_samples):
        scores = _stacked([sample.gt_score for sample in data_samples])
        if several:
            return ClassTarget(shares_of(scores))
        if loss_module is not None:
            return ClassTarget(_smoothed(loss_module, scores.float()))
        return ClassTarget(scores, smoothing=smoothing)
    if not all('gt_label' in sample for sample in data_samples):
        raise ValueError(
            'a data sample has neither gt_label nor gt_score; give every '
            'training image a target'
        )
    labels = [sample.gt_label for sample in data_samples]
    if several:
        return ClassTarget.several(labels)
    if any(label.numel() != 1 for label in labels):
        raise ValueError(
            'an image has several labels or none, but model.head takes one an '
            'image; use a multi-label head'
        )
    return ClassTarget(torch.cat(labels), smoothing=smoothing)


def _stacked(scores: List[Tensor]) -> Tensor:
    shapes = {tuple(score.shape) for score in scores}
    if len(shapes) > 1 or len(next(iter(shapes), ())) != 1:
        raise ValueError(
            f'gt_score of the data samples has the shapes {sorted(shapes)}; '
            'give every training image one score a class, (K,)'
        )
    return torch.stack(scores)


def smoothing_of(loss_module: Optional[nn.Module], classes: int) -> Smoothing:
    """Scale and offset of a loss's label smoothing.

    ``smooth_label`` is tried on one label, since its forms differ; each maps
    every class's share p to ``scale * p + offset``.

    Raises:
        ValueError: If it does something else.
    """
    if not hasattr(loss_module, 'smooth_label') or classes < 2:
        return UNSMOOTHED
    smoothed = _smoothed(loss_module, torch.eye(1, classes))[0].double()
    offset = float(smoothed[1])
    if (smoothed[1:] - offset).abs().max() > _AFFINE:
        raise ValueError(
            f'the one-hot loss {type(loss_module).__name__} smooths labels in '
            'a way that U(1) targets cannot follow; use LabelSmoothLoss'
        )
    return float(smoothed[0]) - offset, offset


def smooths_scores_otherwise(
    loss_module: Optional[nn.Module], smoothing: Smoothing
) -> bool:
    """Whether mixed scores are not smoothed by scale and offset.

    ``LabelSmoothLoss`` in the mode ``'multi_label'`` gives every class that
    an image has any share of the same score.
    """
    if smoothing == UNSMOOTHED:
        return False
    smoothed = _smoothed(loss_module, torch.tensor([[0.7, 0.3]]))[0]
    return bool(
        (smoothed[0] - smoothed[1] - 0.4 * smoothing[0]).abs() > _AFFINE
    )


def _smoothed(loss_module: nn.Module, scores: Tensor) -> Tensor:
    """Scores ``(B, K)`` as ``LabelSmoothLoss`` smooths them."""
    saved, loss_module.num_classes = loss_module.num_classes, scores.size(1)
    try:
        return loss_module.smooth_label(scores)
    finally:
        loss_module.num_classes = saved
