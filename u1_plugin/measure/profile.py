"""Where the energy lies: its rings, its share near the axis, its symmetry."""

import math
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..geometry import scale_of
from ..options import Count, Range, checked
from .estimate import UNKNOWN, Chance, Estimate, t_estimate

Correlation = Annotated[float, Range(-1, 1, low_open=True, high_open=True)]

#: Below this deviation from its mean, relative to it, a map counts as flat.
_FLAT = 1e-9


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

    def within(self, radius: float) -> np.ndarray:
        """Share of the map's pixels in each ring within a radius, ``(K,)``.

        The largest edge that does not exceed it counts, at least the first.
        """
        # To nine digits, for edges and radii are rounded fractions.
        inside = np.round(self.edge - max(radius, self.edge[0]), 9) <= 0
        pixels = np.where(inside, self.pixels, 0)
        shares: np.ndarray = pixels / self.pixels.sum()
        return shares

    def means(self) -> np.ndarray:
        """``(H W, K)``: maps ``(B, H W)`` times this are their profiles."""
        one_hot: np.ndarray = np.eye(len(self.pixels))[self.index.ravel()]
        one_hot /= self.pixels
        return one_hot


@checked()
def make_rings(height: Count, width: Count, bins: Count) -> Rings:
    """Cut a map into rings of equal width.

    Args:
        height (int): ``H``.
        width (int): ``W``.
        bins (int): Rings between the axis and the corner; small maps fill
            fewer.

    Returns:
        Rings: Those that hold a pixel, from the axis outwards.
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


def rotational_symmetry(maps: Tensor) -> Tensor:
    """How far turning maps about the optical axis leaves them as they are.

    The mean correlation of a map with itself turned by 90, 180 and 270
    degrees; of a map that is not square, by 180 degrees. Correlation and no
    plain cosine: each map's mean is subtracted first, for without that every
    map that is nearly flat scores 1, wherever its energy lies. With s, the
    share of a square map's variance that quarter turns leave alone, the score
    is ``(4s - 1) / 3``.

    Args:
        maps (Tensor): ``(..., H, W)``, finite real numbers.

    Returns:
        Tensor: ``(...)``, float64: 1 for a map that no turn changes, 0 on
        average for noise, -1/3 (not square: -1) at the least; NaN for a flat
        map.
    """
    # A map that is flat in float32 is one in float64, where its mean is exact
    # enough to tell; squares of any scale fit.
    maps = maps.double()
    maps = maps / scale_of(maps, (-2, -1))
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

    @property
    def profile_error(self) -> np.ndarray:
        """Standard errors of ``profile``, ``(K,)``."""
        error: np.ndarray = np.sqrt(np.diag(self.covariance).clip(0) / self.n)
        return error

    def estimate(self, row: np.ndarray, less: float = 0.0) -> Estimate:
        """Student's t, over the images, of ``row @ profile - less``; null 0."""
        variance = float(row @ self.covariance @ row)
        error = math.sqrt(max(variance, 0.0) / self.n)
        value = float(row @ self.profile) - less
        return t_estimate(value, error, self.n - 1)


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

    Returns:
        Concentration: The share, the uniform one, and what exceeds it with
        its interval over the images.
    """
    weights = summary.rings.within(radius)
    share, uniform = float(weights @ summary.profile), float(weights.sum())
    excess = summary.estimate(weights, uniform)
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
        return UNKNOWN._replace(value=value)
    total = (maps * sizes[:, None, None]).sum(0)
    jackknife = total - maps * sizes[:, None, None]
    jackknife = jackknife / (sizes.sum() - sizes)[:, None, None]
    left_out = rotational_symmetry(torch.from_numpy(jackknife)).numpy()
    count = len(sizes)
    # The score of an exactly symmetric map is infinite on that scale.
    scores = np.arctanh(np.clip(left_out, -1 + 1e-12, 1 - 1e-12))
    error = math.sqrt((count - 1) * scores.var())
    centre = math.atanh(min(max(value, -1 + 1e-12), 1 - 1e-12))
    atanh_estimate = t_estimate(centre, error, count - 1, math.atanh(null))
    low, high = math.tanh(atanh_estimate.low), math.tanh(atanh_estimate.high)
    return Estimate(value, low, high, atanh_estimate.pvalue)
