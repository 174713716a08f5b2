"""The very targets of a criterion of timm, for the U(1) branch."""

from typing import Any, NamedTuple, Optional

from timm import loss as timm_loss
from torch import Tensor, nn

from ..nn import ClassTarget
from ..nn.targets import Smoothing

_NONE: Smoothing = (1.0, 0.0)


class TargetForm(NamedTuple):
    """What a criterion makes of its targets before it compares.

    Attributes:
        smoothing (float): Of hard labels: ``p -> (1 - s) p + s / K``.
        smooths_scores (bool): Whether scores ``(B, K)`` are smoothed likewise.
        threshold (float, optional): Shares above it become 1, others 0.
        ignore_index (int, optional): Label whose images count nothing.
    """

    smoothing: float = 0.0
    smooths_scores: bool = False
    threshold: Optional[float] = None
    ignore_index: Optional[int] = None


def form_of(criterion: Any, multi_label: bool = False) -> TargetForm:
    """How a criterion of torch, of timm or of one's own treats targets.

    Args:
        criterion: Of the task.
        multi_label (bool): Whether each class is a label of its own. Their
            smoothing needs no form: see :func:`several_of`.

    Raises:
        ValueError: If it smooths labels in a way that is not known here.
    """
    binary = (timm_loss.TwoWayLoss, timm_loss.ZlprLoss)
    if isinstance(criterion, binary):
        return TargetForm(threshold=0.5)
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
        return TargetForm(criterion.eps)
    if isinstance(criterion, timm_loss.BinaryCrossEntropy):
        if not criterion.smooth_dense:
            return TargetForm(
                criterion.smoothing, threshold=criterion.target_threshold
            )
    known = (timm_loss.LabelSmoothingCrossEntropy, timm_loss.PolyCrossEntropy)
    if isinstance(criterion, known):
        return TargetForm(criterion.smoothing)
    for name in ('smoothing', 'label_smoothing'):
        value = getattr(criterion, name, None)
        if value:
            raise ValueError(
                f'criterion={type(criterion).__name__} has {name}={value}, '
                'and how it smooths the labels of one class an image is not '
                "known here, so the U(1) targets could not follow; use timm's "
                'LabelSmoothingCrossEntropy, or smooth in Mixup '
                '(label_smoothing) and set it to 0 here'
            )
    return TargetForm()


def target_of(target: Tensor, form: TargetForm, classes: int) -> ClassTarget:
    """A batch's U(1) target, as the criterion sees the classes.

    Args:
        target (Tensor): Labels ``(B,)`` or scores ``(B, K)``.
        form (TargetForm): From :func:`form_of`.
        classes (int): K.

    Returns:
        ClassTarget: With a threshold, the mean of the class points whose
        shares exceed it.
    """
    smoothing = _NONE
    if form.smoothing and (target.ndim == 1 or form.smooths_scores):
        smoothing = (1 - form.smoothing, form.smoothing / classes)
    if form.threshold is None:
        return ClassTarget(target, smoothing=smoothing)
    scale, offset = smoothing
    if target.ndim == 1:
        target = nn.functional.one_hot(target.long(), classes).float()
    shares = (scale * target.float() + offset).gt(form.threshold)
    return ClassTarget(_normalised(shares.float()))


def several_of(target: Tensor, form: TargetForm) -> ClassTarget:
    """The mean of the class points of an image's labels, ``(B, K)``.

    Smoothing moves every label towards 1/2. What all classes of an image have
    in common by that is no label and is taken off.
    """
    target = target.float()
    if form.threshold is not None:
        return ClassTarget(_normalised(target.gt(form.threshold).float()))
    common = target.min(1, keepdim=True).values.clamp(max=0.5)
    return ClassTarget(_normalised(target - common))


def _normalised(shares: Tensor) -> Tensor:
    return shares / shares.sum(1, keepdim=True).clamp(min=1e-6)
