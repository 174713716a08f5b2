"""The Sombrero: its fit to a radial profile, and its crown and brim.

A fitted ``a r^4 - b r^2 + c`` has a trough and a brim even where the profile
falls all the way, as a narrow peak does: the curve must bend somewhere. The
fit says *where* to look; how high, the measured rings say.
"""

import math
from typing import NamedTuple, Optional

import numpy as np

from .estimate import Estimate, t_estimate
from .noise_correction import highest_share
from .profile import EnergySummary

#: Below this deviation from its mean, 1, a profile counts as flat.
_FLAT = 1e-9


class Sombrero(NamedTuple):
    """The fit ``V(r) = a r^4 - b r^2 + c`` to a radial profile.

    r is in half diagonals, V in units of the uniform energy density. With
    a > 0 and b > 0 it has its peak on the axis and its trough on the ring of
    radius ``sqrt(b / 2a)``.

    Attributes:
        n (int): Images.
        coefficients (np.ndarray): ``(a, b, c)``.
        covariance (np.ndarray): Of the coefficients, ``(3, 3)``.
        a (Estimate): Null 0, as for the next three.
        b (Estimate): Curvature of the peak.
        c (Estimate): Height of the peak.
        rim (Estimate): ``2 a R^2 - b``, R the outermost ring's radius: > 0 if
            the profile rises again at the rim, so that the trough lies within
            the map.
        ring_radius (float): ``sqrt(b / 2a)``; NaN unless a > 0 and b > 0.
        r2 (float): Share of the profile's variance that the curve explains,
            rings weighed by their pixels; NaN with fewer than 4 rings, which
            three coefficients fit whatever they are. Of the sampled profile:
            the noise of few images lowers it.
        r2_high (float): Upper end of the interval of that share without the
            noise; <= 1, NaN where ``r2`` is or the spread is not known.
        rings (int): Rings of the profile.
    """

    n: int
    coefficients: np.ndarray
    covariance: np.ndarray
    a: Estimate
    b: Estimate
    c: Estimate
    rim: Estimate
    ring_radius: float
    r2: float
    r2_high: float
    rings: int

    def curve(self, radius: np.ndarray) -> np.ndarray:
        """``V`` at some radii, half diagonals."""
        a, b, c = self.coefficients
        potential: np.ndarray = a * radius**4 - b * radius**2 + c
        return potential

    def curve_error(self, radius: np.ndarray) -> np.ndarray:
        """Standard error of ``V`` at some radii."""
        rows = np.stack([radius**4, -(radius**2), np.ones_like(radius)], -1)
        variance = np.einsum('ki,ij,kj->k', rows, self.covariance, rows)
        error: np.ndarray = np.sqrt(variance.clip(0))
        return error


def fit_sombrero(summary: EnergySummary) -> Sombrero:
    """Least squares, rings weighed by their pixels.

    Linear in a, b and c, so that the covariance of the images' profiles
    propagates exactly: the spread is the images', not that of the rings about
    the curve. Each ring enters with the mean of ``r^2`` and ``r^4`` over its
    pixels, which makes the width of the rings no source of error.

    Args:
        summary (EnergySummary): With n >= 1 and at least 3 rings.

    Raises:
        ValueError: If there are fewer than 3 rings.
    """
    rings, profile, n = summary.rings, summary.profile, summary.n
    if len(profile) < 3:
        height, width = summary.mean_map.shape
        raise ValueError(
            f'a map of {height}x{width} has {len(profile)} ring(s), and a '
            'Sombrero needs 3; choose an earlier layer or larger inputs'
        )
    rows = np.stack([rings.fourth, -rings.square, np.ones(len(profile))], 1)
    weights = rings.pixels / rings.pixels.sum()
    solve = np.linalg.solve(
        rows.T @ (weights[:, None] * rows), rows.T * weights
    )
    coefficients = solve @ profile
    covariance = solve @ summary.covariance @ solve.T / n
    # Variance of the profile, and what of it the curve misses, as products
    # ``p^T A p`` with the profile p.
    residual_maker = np.eye(len(profile)) - rows @ solve
    missing = residual_maker.T @ (weights[:, None] * residual_maker)
    varying = np.diag(weights) - np.outer(weights, weights)
    spread = weights @ (profile - weights @ profile) ** 2
    missed = weights @ (profile - rows @ coefficients) ** 2
    is_defined = len(profile) > 3 and spread > _FLAT**2
    high = math.nan
    if is_defined:
        high = highest_share(
            missing, varying, profile, summary.covariance / n, n - 1
        )

    def estimate(*contrast: float) -> Estimate:
        direction = np.array(contrast)
        variance = direction @ covariance @ direction
        return t_estimate(
            float(direction @ coefficients),
            math.sqrt(max(variance, 0.0)),
            n - 1,
        )

    a, b, _ = coefficients
    return Sombrero(
        n,
        coefficients,
        covariance,
        estimate(1, 0, 0),
        estimate(0, 1, 0),
        estimate(0, 0, 1),
        estimate(2 * rings.radius[-1] ** 2, -1, 0),
        math.sqrt(b / (2 * a)) if a > 0 and b > 0 else math.nan,
        float(1 - missed / spread) if is_defined else math.nan,
        high,
        len(profile),
    )


def fit_if_rings(summary: EnergySummary) -> Optional[Sombrero]:
    """:func:`fit_sombrero`; None of fewer rings than it needs."""
    return fit_sombrero(summary) if len(summary.profile) > 2 else None


class ProfileHeights(NamedTuple):
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
    """Weights of the rings, ``(K,)``, in crown and brim.

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


def heights(summary: EnergySummary, fit: Sombrero) -> ProfileHeights:
    """Crown and brim of a measured profile.

    The trough is that of the same profile, so that each p-value alone is too
    small: of flat maps 6 to 10 % are below 5 %. Both together are not.

    Args:
        summary (EnergySummary): With at least 3 rings.
        fit (Sombrero): Of that profile; says where the trough is.
    """
    rings = summary.rings
    trough = trough_ring(rings.radius, fit.coefficients)
    rows = height_rows(rings.radius, rings.pixels, trough)
    return ProfileHeights(trough, *(summary.estimate(row) for row in rows))
