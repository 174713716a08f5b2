"""Where the energy lies: share near the axis, symmetry, and the Sombrero."""

import math
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..options import Range, checked
from .estimate import Chance, Estimate, t_estimate
from .rings import Rings
from .without_noise import highest_share

Correlation = Annotated[float, Range(-1, 1, low_open=True, high_open=True)]

#: Below this deviation from its mean, relative to it, a map counts as flat.
_FLAT = 1e-9


def rotational_symmetry(maps: Tensor) -> Tensor:
    """How far turning maps about the optical axis leaves them as they are.

    The mean correlation of a map with itself turned by 90, 180 and 270
    degrees; of a map that is not square, by 180 degrees. Correlation and no
    plain cosine: each map's mean is subtracted first, for without that every
    map that is nearly flat scores 1, wherever its energy lies. With s, the
    share of a square map's variance that quarter turns leave alone, the score
    is ``(4s - 1) / 3``.

    Args:
        maps (Tensor): ``(..., H, W)``.

    Returns:
        Tensor: ``(...)``: 1 for a map that no turn changes, 0 on average for
        noise, -1/3 (not square: -1) at the least; NaN for a flat map.
    """
    mean = maps.mean((-2, -1), keepdim=True)
    centred = maps - mean
    turns = (1, 2, 3) if maps.size(-1) == maps.size(-2) else (2,)
    power = centred.square().mean((-2, -1))
    overlap = sum(
        (centred * centred.rot90(k, (-2, -1))).mean((-2, -1)) for k in turns
    )
    flat = power <= (_FLAT * mean.squeeze((-2, -1))).square()
    return torch.where(flat, math.nan, overlap / power / len(turns))


class EnergySummary(NamedTuple):
    """What :class:`~.accumulators.EnergyAccumulator` has seen.

    Every image is weighed equally: its energy is divided by its own mean over
    the pixels, so that 1 is the uniform distribution.

    Attributes:
        n (int): Images with energy.
        skipped (int): Images without energy, or with entries that are not
            finite; they count nowhere else.
        mean_energy (float): Mean raw energy a pixel.
        mean_map (np.ndarray): Mean relative energy, ``(H, W)``, mean 1.
        group_maps (np.ndarray): Mean relative energy of each group of images,
            ``(G, H, W)``; groups without an image are left out.
        group_sizes (np.ndarray): Images of each group, ``(G,)``.
        rings (Rings): Where the profile is read.
        profile (np.ndarray): Mean relative energy of each ring, ``(K,)``.
        covariance (np.ndarray): Of one image's profile, ``(K, K)``; NaN with
            fewer than two images.
        image_symmetry (float): Mean over the images of their own
            :func:`rotational_symmetry`; NaN if all are flat.
    """

    n: int
    skipped: int
    mean_energy: float
    mean_map: np.ndarray
    group_maps: np.ndarray
    group_sizes: np.ndarray
    rings: Rings
    profile: np.ndarray
    covariance: np.ndarray
    image_symmetry: float


class Concentration(NamedTuple):
    """Energy near the optical axis.

    Attributes:
        radius (float): Half diagonals.
        share (float): Mean share of an image's energy within ``radius``.
        uniform (float): Share of the map's pixels there.
        excess (Estimate): Of ``share - uniform``, paired over the images:
            Student's t with n - 1 degrees of freedom; null 0.
    """

    radius: float
    share: float
    uniform: float
    excess: Estimate


@checked()
def concentration(
    summary: EnergySummary, radius: Chance = 0.5
) -> Concentration:
    """Share of the energy within a radius, against the uniform share.

    Args:
        summary (EnergySummary): With n >= 1.
        radius (float): Half diagonals, in (0, 1); the largest edge of a ring
            that does not exceed it is used, and at least the first ring's.
    """
    rings = summary.rings
    # To nine digits, for edges and radii are rounded fractions.
    inside = np.round(rings.edge - max(radius, rings.edge[0]), 9) <= 0
    weights = np.where(inside, rings.pixels, 0) / rings.pixels.sum()
    share, uniform = float(weights @ summary.profile), float(weights.sum())
    variance = weights @ summary.covariance @ weights
    error = math.sqrt(max(variance, 0.0) / summary.n)
    excess = t_estimate(share - uniform, error, summary.n - 1)
    return Concentration(radius, share, uniform, excess)


@checked()
def symmetry(summary: EnergySummary, null: Correlation = 0.5) -> Estimate:
    """Rotational symmetry of the mean map, over the images.

    Jackknife over the groups of images, on Fisher's ``atanh`` scale, where a
    correlation's error does not depend on its value.

    Args:
        summary (EnergySummary): With n >= 1.
        null (float): The hypothesis is that the score is <= ``null``.

    Returns:
        Estimate: Of :func:`rotational_symmetry`; NaN if the map is flat.
    """
    maps, sizes = summary.group_maps, summary.group_sizes
    value = float(rotational_symmetry(torch.from_numpy(summary.mean_map)))
    if math.isnan(value) or len(sizes) < 2:
        return Estimate(value, math.nan, math.nan, math.nan)
    total = (maps * sizes[:, None, None]).sum(0)
    rest = total - maps * sizes[:, None, None]
    rest = rest / (sizes.sum() - sizes)[:, None, None]
    left_out = rotational_symmetry(torch.from_numpy(rest)).numpy()
    count = len(sizes)
    # The score of an exactly symmetric map is infinite on that scale.
    scores = np.arctanh(np.clip(left_out, -1 + 1e-12, 1 - 1e-12))
    error = math.sqrt((count - 1) * scores.var())
    centre = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    found = t_estimate(centre, error, count - 1, math.atanh(null))
    low, high = math.tanh(found.low), math.tanh(found.high)
    return Estimate(value, low, high, found.pvalue)


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
    rest = np.eye(len(profile)) - rows @ solve
    missing = rest.T @ (weights[:, None] * rest)
    varying = np.diag(weights) - np.outer(weights, weights)
    spread = weights @ (profile - weights @ profile) ** 2
    missed = weights @ (profile - rows @ coefficients) ** 2
    known = len(profile) > 3 and spread > _FLAT**2
    high = math.nan
    if known:
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
        float(1 - missed / spread) if known else math.nan,
        high,
        len(profile),
    )
