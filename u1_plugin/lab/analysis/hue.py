"""CAM beside the colour pictures of a map, which a tool draws together."""

from typing import Any, Dict, Optional

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ...measure import hue
from ...measure.hue import (
    PALETTES,
    HueMap,
    Palette,
    draw_wheel,
    hue_map,
    to_rgb,
)
from .figures import short

__all__ = [
    'PALETTES',
    'HueMap',
    'Palette',
    'class_activation_map',
    'draw_wheel',
    'hue_figure',
    'hue_map',
    'to_rgb',
]


def class_activation_map(
    activation: Tensor, fc: nn.Linear, logits: Tensor
) -> Optional[np.ndarray]:
    """CAM of the predicted class: the map weighted by that class' fc row.

    Args:
        activation (Tensor): ``A``, ``(C, H, W)``.
        fc (nn.Linear): The classifier.
        logits (Tensor): What the network gave for this image, ``(K,)``.

    Returns:
        np.ndarray: ``(H, W)``; its mean and the bias are the class' logit.
        None if the logits are not those of ``fc`` on the map's mean, for
        which CAM is not defined.
    """
    activation = activation.float()
    if fc.in_features != len(activation) or fc.out_features != len(logits):
        return None
    expected = fc(activation.mean((1, 2)))
    scale = logits.abs().max().clamp_min(1e-6)
    if (expected - logits).abs().max() > 1e-3 * scale:
        return None
    weights = fc.weight[logits.argmax()].float()
    return torch.einsum('c,chw->hw', weights, activation).cpu().numpy()


def hue_figure(
    photo: np.ndarray, maps: Dict[str, HueMap], *args: Any, **kwargs: Any
) -> Figure:
    """:func:`u1_plugin.measure.hue.hue_figure`, with the layers' short names.

    Args:
        photo (np.ndarray): RGB in [0, 1], ``(h, w, 3)``.
        maps (Dict[str, HueMap]): By layer.
        *args, **kwargs: Further arguments of that function.
    """
    named = {short(name): own for name, own in maps.items()}
    return hue.hue_figure(photo, named, *args, **kwargs)
