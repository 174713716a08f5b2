"""What a memory reads of a backbone's outputs, and where their hue is."""

from typing import Sequence, Union

import torch
from torch import Tensor, nn

from ..dist import all_gather
from ..geometry.scales import check_real
from ..nn import FeaturePlane
from ..nn.base import build


def last_map(feats: Union[Tensor, Sequence[Tensor]]) -> Tensor:
    """The deepest of a backbone's outputs, which may be the only one.

    Raises:
        ValueError: If that is no tensor of real numbers.
    """
    is_sequence = isinstance(feats, (tuple, list)) and len(feats) > 0
    last = feats[-1] if is_sequence else feats
    check_real('feats', last)
    return last


def check_finite(feats: Tensor, together: bool) -> None:
    """Raise ValueError on NaN; of ranks that search together, on all."""
    finite = feats.isfinite().all()
    if together:
        finite = torch.stack(all_gather(finite.int())).all()
    if not finite:
        raise ValueError(
            'model.backbone gave NaN or infinite values, which have no '
            'neighbours; check its weights and the images'
        )


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError unless ``(B,)`` labels are integers in ``0..K-1``."""
    odd = labels.is_floating_point() or labels.is_complex()
    if labels.ndim != 1 or odd or labels.dtype == torch.bool:
        raise ValueError(
            f'labels {tuple(labels.shape)} of {labels.dtype} must be (B,), '
            'integers'
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'labels {int(labels.min())}..{int(labels.max())} do not fit '
            f'model.head.num_classes={num_classes}; set it to the number of '
            'classes of the data set'
        )


class GreyPlane(nn.Module):
    """Stands for a feature plane where one or two channels have none."""

    def forward(self, vectors: Tensor) -> Tensor:
        """No hue: ``(N, C) -> (N, 2)``, all zero."""
        return vectors.new_zeros(*vectors.shape[:-1], 2)


def check_hue(plane: nn.Module) -> None:
    """Raise ValueError if a head's plane gives no hue to vote by."""
    if isinstance(plane, GreyPlane):
        raise ValueError(
            'a vote by the feature plane needs 3 or more channels, but the '
            'map has fewer, and no hue; take another layer, or the image plane'
        )


def plane_of(config: dict, channels: int, plane: str) -> nn.Module:
    """The feature plane of a :class:`MemoryBankHead`, by its config.

    Below 3 channels there is no plane and no hue.

    Raises:
        ValueError: If an option of the plane is wrong, its centre is one that
            trainings fit, it has several windings, or a vote by hue
            (``plane``) has too few channels.
    """
    if channels < 3 and plane not in ('feature', 'both'):
        return GreyPlane()
    if config.get('center') == 'running':
        raise ValueError(
            "model.head.feature_plane.center='running' is fitted in training, "
            "and a memory does not train; set 'none', or 'file' and the file "
            'of a fitted centre'
        )
    built = build(
        'model.head.feature_plane', config, FeaturePlane, in_channels=channels
    )
    windings = getattr(built, 'windings', (1,))
    if len(windings) != 1:
        raise ValueError(
            f'model.head.feature_plane.windings={windings} must be one number: '
            'a pixel of the memory has one hue'
        )
    return built
