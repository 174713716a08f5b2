"""The vote of neighbours at given distances, with given weights."""

from typing import Optional

import torch
from torch import Tensor

from u1_plugin.memory import (
    Kernel,
    LabelledNeighbours,
    Pixels,
    VotingRule,
    class_shares,
)


def shares_of(
    distances: Tensor,
    labels: Tensor,
    images: Tensor,
    num_classes: int,
    num_images: int,
    kernel: Kernel = Kernel(),
    log_weights: Optional[Tensor] = None,
) -> Tensor:
    """Their shares; the position kernel of width 1 gives the weights."""
    if log_weights is None:
        log_weights = torch.zeros(distances.shape)
    x = (-2 * log_weights.double()).sqrt()
    places = torch.stack([x, torch.zeros_like(x)], -1)
    matches = LabelledNeighbours(distances, labels, labels, labels, places, x)
    axis, hues = torch.zeros(len(images), 2), torch.zeros(len(images))
    query = Pixels(axis, images, images, axis, hues)
    rule = VotingRule('position', sigma=1.0, kernel=kernel)
    return class_shares(matches, query, num_classes, num_images, rule)
