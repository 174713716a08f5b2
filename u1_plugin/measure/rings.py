"""The rings of a map, in which its radial profile is read."""

from typing import NamedTuple

import numpy as np

from ..options import Count, checked


class Rings(NamedTuple):
    """Pixels gathered by their distance from the optical axis.

    Distance is measured from the axis ``((H-1)/2, (W-1)/2)`` to the pixel's
    centre, in half diagonals of the map, ``sqrt(H^2 + W^2) / 2``: the map's
    corners lie at 1. Rings without a pixel do not appear.

    Attributes:
        index (np.ndarray): Ring of each pixel, ``(H, W)``, in ``[0, K)``.
        pixels (np.ndarray): Pixels of each ring, ``(K,)``.
        radius (np.ndarray): Their mean distance, ``(K,)``, ascending.
        edge (np.ndarray): Outer edge of each ring, ``(K,)``: ``j / bins``.
        square (np.ndarray): Mean of the squared distance, ``(K,)``.
        fourth (np.ndarray): Mean of its fourth power, ``(K,)``.
    """

    index: np.ndarray  # type: ignore[assignment]  # not tuple's
    pixels: np.ndarray
    radius: np.ndarray
    edge: np.ndarray
    square: np.ndarray
    fourth: np.ndarray


@checked()
def make_rings(height: Count, width: Count, bins: Count) -> Rings:
    """Cut a map into rings of equal width.

    Args:
        height (int): ``H``.
        width (int): ``W``.
        bins (int): Rings between the axis and the corner; small maps fill
            fewer.
    """
    y = np.arange(height)[:, None] - (height - 1) / 2
    x = np.arange(width) - (width - 1) / 2
    square = (x**2 + y**2) * 4 / (height**2 + width**2)
    radius = np.sqrt(square)
    # A pixel on an edge belongs to the inner ring, whatever rounding says.
    outer = np.ceil(radius * bins - 1e-9).clip(1).astype(int)
    edges, index, pixels = np.unique(
        outer, return_inverse=True, return_counts=True
    )
    index = index.reshape(height, width)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(index.ravel(), values.ravel()) / pixels

    return Rings(
        index, pixels, mean(radius), edges / bins, mean(square), mean(square**2)
    )
