"""A rival: classes that a fixed matrix holds as far apart as can be."""

from typing import Any, Tuple

import torch
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..extras import needs
from ..options import Count, Positive, checked


def simplex_corners(classes: int) -> Tensor:
    """Unit vectors whose cosines are all ``-1 / (K - 1)``.

    Args:
        classes (int): K, at least 2.

    Returns:
        Tensor: ``(K, K - 1)``, float32. The columns of Helmert's matrix, whose
        rows are orthonormal and orthogonal to ``(1, ..., 1)``.
    """
    with needs('lab'):
        from scipy.linalg import helmert

    corners = torch.from_numpy(helmert(classes)).T
    return normalize(corners, dim=1).float()


class SimplexClsHead(LinearClsHead):
    """``LinearClsHead`` with a fixed simplex after a linear layer to K - 1.

    Kasarla et al., "Maximum Class Separation as Inductive Bias in One Matrix",
    NeurIPS 2022.

    Args:
        num_classes (int): K, at least 2.
        in_channels (int): C.
        radius (float): > 0, of the simplex; theirs is 0.1 for CIFAR-100 and 1
            elsewhere. Defaults to 1.
        **kwargs: Of ``LinearClsHead``.

    Raises:
        ValueError: If an option is out of its range.
    """

    @checked('model.head')
    def __init__(
        self,
        num_classes: Count,
        in_channels: Count,
        radius: Positive = 1.0,
        **kwargs: Any,
    ) -> None:
        if num_classes < 2:
            raise ValueError(
                f'model.head.num_classes={num_classes} must be at least 2'
            )
        super().__init__(num_classes, in_channels, **kwargs)
        # Not `fc`, which arms of a comparison start alike: it is another layer.
        del self.fc
        self.projection = nn.Linear(in_channels, num_classes - 1)
        # Made from K alone: no checkpoint needs to carry it.
        corners = radius * simplex_corners(num_classes)
        self.register_buffer('corners', corners, persistent=False)

    def forward(self, feats: Tuple[Tensor]) -> Tensor:
        """Logits.

        Args:
            feats (Tuple[Tensor]): ``(B, C)`` each.

        Returns:
            Tensor: ``(B, K)``.
        """
        return self.projection(self.pre_logits(feats)) @ self.corners.T
