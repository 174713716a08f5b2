"""The bootstrap of a comparison: the same images drawn for both networks.

Each image has weights of its own, by its number in the data set, so that two
networks that see the same images, in whatever batches, are resampled alike
and their differences are paired. Weights are Poisson's (Chamandy et al.,
*Estimating uncertainty for massive data streams*, 2012): no image's weight
depends on the number of images, and what is resampled can be a stream.
"""

from typing import Optional

import numpy as np
import torch
from torch import Tensor


def image_weights(index: np.ndarray, resamples: int) -> np.ndarray:
    """How often each image counts in each resample.

    Args:
        index (np.ndarray): Numbers of the images in the data set, ``(B,)``.
        resamples (int): R.

    Returns:
        np.ndarray: Counts ``(R, B)``, int64, of mean 1 and variance 1.
    """
    drawn = [
        np.random.default_rng((0, int(number))).poisson(1.0, resamples)
        for number in index
    ]
    return np.stack(drawn, 1) if drawn else np.zeros((resamples, 0), int)


class ResampledMaps:
    """Mean relative energy maps of R resamples, as a stream.

    Args:
        resamples (int): R.
    """

    def __init__(self, resamples: int) -> None:
        self.resamples = resamples
        self._sums: Optional[Tensor] = None
        self._count = np.zeros(resamples)

    def update(self, energy: Tensor, index: Tensor) -> None:
        """Add a batch ``E``, ``(B, H, W)``, of the images of that index.

        As in :class:`~u1_plugin.measure.EnergyAccumulator`, each image is
        divided by its own mean, and one without energy does not count.
        """
        mean = energy.mean((1, 2))
        valid = mean.isfinite() & (mean > 0)
        relative = energy[valid] / mean[valid][:, None, None]
        weights = image_weights(index[valid.cpu()].numpy(), self.resamples)
        self._count += weights.sum(1)
        weight = torch.from_numpy(weights).to(relative)
        total = torch.einsum('rb,bhw->rhw', weight, relative)
        self._sums = total if self._sums is None else self._sums + total

    def mean_maps(self) -> np.ndarray:
        """``(R, H, W)``; NaN in a resample without an image."""
        count = np.where(self._count > 0, self._count, np.nan)
        return self._sums.cpu().numpy() / count[:, None, None]
