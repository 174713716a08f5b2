"""The very targets of a criterion of timm, for the U(1) branch."""

import inspect
from functools import partial
from typing import Any, NamedTuple, Optional

import numpy as np
from timm import loss as timm_loss
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..nn import ClassTarget
from ..nn.targets import IGNORED, UNSMOOTHED, shares_of


class TargetForm(NamedTuple):
    """What a criterion makes of its targets before it compares.

    Attributes:
        smoothing (float): Of hard labels: ``p -> (1 - s) p + s / K``.
        smooths_scores (bool): Whether scores ``(B, K)`` are smoothed likewise.
        to_half (float): How far scores are moved towards 1/2, before
            ``threshold``: ``p -> (1 - s) p + s / 2``.
        threshold (float, optional): Shares above it become 1, others 0.
        ignore_index (int): Label of images that are not counted.
    """

    smoothing: float = 0.0
    smooths_scores: bool = False
    to_half: float = 0.0
    threshold: Optional[float] = None
    ignore_index: int = IGNORED


def form_of(criterion: Any, multi_label: bool = False) -> TargetForm:
    """How a criterion of torch, of timm or of one's own treats targets.

    Raises:
        ValueError: If it smooths labels in a way that is not known here.
    """
    if isinstance(criterion, (timm_loss.TwoWayLoss, timm_loss.ZlprLoss)):
        return TargetForm(threshold=0.5)
    if isinstance(criterion, timm_loss.BinaryCrossEntropy):
        # Hard labels are smoothed always, scores if asked, then binarised.
        form = TargetForm(
            float(criterion.smoothing),
            to_half=float(criterion.smoothing) * bool(criterion.smooth_dense),
            threshold=criterion.target_threshold,
        )
        if multi_label or form.threshold is not None or not form.to_half:
            return form
    if multi_label:
        threshold = getattr(criterion, 'target_threshold', None)
        return TargetForm(threshold=threshold)
    if isinstance(criterion, nn.CrossEntropyLoss):
        return TargetForm(
            criterion.label_smoothing,
            smooths_scores=True,
            ignore_index=criterion.ignore_index,
        )
    if isinstance(criterion, timm_loss.JsdCrossEntropy):
        return form_of(criterion.cross_entropy_loss)
    if isinstance(criterion, timm_loss.AsymmetricLossSingleLabel):
        return TargetForm(float(criterion.eps))
    losses = (timm_loss.LabelSmoothingCrossEntropy, timm_loss.PolyCrossEntropy)
    if isinstance(criterion, losses):
        return TargetForm(float(criterion.smoothing))
    if isinstance(criterion, partial) and criterion.func is cross_entropy:
        return TargetForm(
            criterion.keywords.get('label_smoothing', 0.0),
            smooths_scores=True,
            ignore_index=criterion.keywords.get('ignore_index', IGNORED),
        )
    if isinstance(criterion, partial) and not criterion.keywords:
        return form_of(criterion.func)
    return _unknown_form(criterion)


def _unknown_form(criterion: Any) -> TargetForm:
    """The form of an unknown criterion, which is taken to smooth nothing.

    It, and modules inside it, tell by attributes of the usual names.
    """
    ignored = IGNORED
    parts = [criterion]
    if isinstance(criterion, nn.Module):
        parts = list(criterion.modules())
    for part in parts:
        for name in ('smoothing', 'label_smoothing'):
            value = _setting(part, name)
            if _counts(value):
                raise ValueError(
                    f'criterion={type(part).__name__} has {name}={value}, '
                    'and how it smooths the labels of one '
                    'class an image is not known here, so the U(1) targets '
                    "could not follow; use timm's LabelSmoothingCrossEntropy, "
                    'or smooth in Mixup (label_smoothing) and set it to 0 here'
                )
        index = _setting(part, 'ignore_index')
        if isinstance(index, Tensor) and index.numel() == 1:
            index = index.item()
        if type(index) is int and index != IGNORED:
            ignored = index
    return TargetForm(ignore_index=ignored)


def _setting(criterion: Any, name: str) -> Any:
    if isinstance(criterion, partial):
        return criterion.keywords.get(name)
    return getattr(criterion, name, None)


def _counts(smoothing: Any) -> bool:
    """Whether a setting of this name may smooth: all but 0 and methods."""
    if smoothing is None or inspect.isroutine(smoothing):
        return False
    if isinstance(smoothing, Tensor):
        return bool(smoothing.any())
    try:
        return bool(np.any(np.asarray(smoothing, float) != 0))
    except (TypeError, ValueError, RuntimeError):
        return True


def target_of(target: Tensor, form: TargetForm, classes: int) -> ClassTarget:
    """The U(1) target of labels ``(B,)`` or scores ``(B, K)`` of K classes.

    As the criterion sees them; with a threshold, the mean of the class points
    whose shares exceed it.
    """
    smoothing = UNSMOOTHED
    if form.smoothing and (target.ndim == 1 or form.smooths_scores):
        smoothing = (1 - form.smoothing, form.smoothing / classes)
    if form.threshold is None:
        return ClassTarget(target, smoothing=smoothing)
    if target.ndim == 2:
        return several_of(target, form)
    scale, offset = smoothing
    if offset <= form.threshold < scale + offset:
        return ClassTarget(target)  # the label alone exceeds it
    # Every class exceeds it, or none does.
    each = float(offset > form.threshold) / classes
    return ClassTarget(target, smoothing=(0.0, each))


def several_of(target: Tensor, form: TargetForm) -> ClassTarget:
    """The mean of the class points of an image's labels, ``(B, K)``.

    Scores count as they are, smoothed upstream or not. A criterion's own
    smoothing moves every yes-or-no label towards 1/2, which is no share of a
    class, and counts only where it binarises what comes of that.
    """
    if form.threshold is None:
        return ClassTarget(shares_of(target))
    if form.to_half:
        target = target * (1.0 - form.to_half) + 0.5 * form.to_half
    # What is not finite stays so, and is refused with the other targets.
    return ClassTarget(shares_of(target.gt(form.threshold) + 0 * target))
