"""What a measurement reads from the samples of a batch."""

from typing import Any, Sequence

import torch
from torch import Tensor


def class_labels(samples: Sequence[Any]) -> Tensor:
    """The labels of data samples that have one class each.

    Args:
        samples (Sequence[DataSample | dict]): With ``gt_label``.

    Returns:
        Tensor: ``(B,)``, int64, on the CPU.

    Raises:
        ValueError: If a sample has no label or several.
    """
    if not len(samples):
        return torch.zeros(0, dtype=torch.int64)
    labels = [sample.get('gt_label') for sample in samples]
    if any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            'the images need one gt_label each to be measured class by class; '
            'use a data set of single-label classification'
        )
    return torch.cat([label.reshape(1) for label in labels]).cpu().long()
