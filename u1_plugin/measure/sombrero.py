"""How high a profile's crown and brim are, read off the measured rings.

A fitted ``a r^4 - b r^2 + c`` has a trough and a brim even where the profile
falls all the way, as a narrow peak does: the curve must bend somewhere. The
fit says *where* to look; how high, the measured rings say.
"""

import math
from typing import NamedTuple

import numpy as np

from .estimate import Estimate, t_estimate
from .profile import EnergySummary, Sombrero


class Heights(NamedTuple):
    """Crown and brim of one layer above its trough.

    In units of the uniform energy density; Student's t over the images.

    Attributes:
        trough (int): Ring that is taken for the trough.
        crown (Estimate): Mean density within half the trough's radius, less
            that of the trough's ring; null 0.
        brim (Estimate): Mean density beyond the middle between the trough and
            the outermost ring, less that of the trough's ring; null 0.
    """

    trough: int
    crown: Estimate
    brim: Estimate


def trough_ring(radius: np.ndarray, coefficients: np.ndarray) -> int:
    """The ring nearest to the curve's minimum.

    Args:
        radius (np.ndarray): Of the rings, ascending, ``(K,)``, K >= 3, half
            diagonals.
        coefficients (np.ndarray): ``(a, b, c)`` of ``a r^4 - b r^2 + c``.

    Returns:
        int: Never the first or the last ring, so that there is a crown and a
        brim to measure, be they negative.
    """
    a, b, _ = coefficients
    first, last = radius[0], radius[-1]
    lowest = math.sqrt(b / (2 * a)) if a > 0 and b > 0 else math.inf
    if lowest > last:  # then the curve is lowest at one of its ends
        slope = a * (last**2 + first**2) - b
        lowest = first if slope > 0 else last
    nearest = int(abs(radius - lowest).argmin())
    return min(max(nearest, 1), len(radius) - 2)


def height_rows(
    radius: np.ndarray, pixels: np.ndarray, trough: int
) -> np.ndarray:
    """Weights of the rings in crown and brim.

    Args:
        radius (np.ndarray): Of the rings, ``(K,)``.
        pixels (np.ndarray): Of the rings, ``(K,)``.
        trough (int): Of :func:`trough_ring`.

    Returns:
        np.ndarray: ``(2, K)``; the product with a profile is its crown and
        its brim.
    """
    place = np.arange(len(radius))
    low, middle = radius[trough] / 2, (radius[trough] + radius[-1]) / 2
    inner = (radius <= low) & (place < trough) | (place == 0)
    outer = (radius >= middle) & (place > trough) | (place == len(radius) - 1)
    rows = np.stack([inner * pixels, outer * pixels]).astype(float)
    rows /= rows.sum(1, keepdims=True)
    rows[:, trough] -= 1
    return rows


def heights(summary: EnergySummary, fit: Sombrero) -> Heights:
    """Crown and brim of a measured profile.

    Args:
        summary (EnergySummary): With at least 3 rings.
        fit (Sombrero): Of that profile; says where the trough is.
    """
    rings = summary.rings
    trough = trough_ring(rings.radius, fit.coefficients)
    found = []
    for row in height_rows(rings.radius, rings.pixels, trough):
        variance = float(row @ summary.covariance @ row)
        error = math.sqrt(max(variance, 0.0) / summary.n)
        value = float(row @ summary.profile)
        found.append(t_estimate(value, error, summary.n - 1))
    return Heights(trough, *found)
