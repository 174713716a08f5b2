"""Circular statistics from sums, and tests by permutation."""

from typing import NamedTuple

import numpy as np

from ..options import shown
from .estimate import NORMAL_QUANTILE


def rayleigh_pvalue(count: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Rayleigh test of uniformity from sums; scipy has none.

    By the approximation of Zar, *Biostatistical Analysis*, eq. 27.4, good to
    three decimals for n >= 10; in the tail it errs upwards, by some 10 % of
    the p-value at n = 10. Of one angle it says nothing: R is then always 1.

    Args:
        count (np.ndarray): Angles of each sample, n.
        length (np.ndarray): Their mean resultant length, R.

    Returns:
        np.ndarray: p-values, in ``[0, 1]``; 1 for samples without an angle.
    """
    n = np.asarray(count, float)
    square = (2 * n * np.where(n > 0, length, 0)) ** 2
    root = np.sqrt(((1 + 2 * n) ** 2 - square).clip(0))
    # root - (1 + 2n), of which digits cancel where n is large.
    pvalue: np.ndarray = np.exp(-square / (root + 1 + 2 * n))
    return pvalue


def holm(pvalues: np.ndarray) -> np.ndarray:
    """p-values corrected by Holm for their number.

    As :func:`statsmodels.stats.multitest.multipletests`, which collects the
    process's garbage every time: half a second in a training run.

    Args:
        pvalues (np.ndarray): ``(n,)``. NaN, a test that could not be made,
            stays NaN and is not counted.

    Returns:
        np.ndarray: ``(n,)``, in ``[0, 1]``.

    Raises:
        ValueError: If one is out of ``[0, 1]``.
    """
    pvalues = np.asarray(pvalues, float)
    if pvalues.ndim != 1 or (pvalues < 0).any() or (pvalues > 1).any():
        raise ValueError(
            f'pvalues={shown(pvalues)} must be a list of numbers in [0, 1]; '
            'NaN stands for a test that could not be made'
        )
    order = np.argsort(pvalues)  # puts NaN last
    count = int((~np.isnan(pvalues)).sum())
    factors = np.arange(count, 0, -1)
    ordered = pvalues[order[:count]] * factors
    corrected = np.full(pvalues.shape, np.nan)
    corrected[order[:count]] = np.maximum.accumulate(ordered).clip(max=1)
    return corrected


class ClassAngleSummary(NamedTuple):
    """Circular statistics of K classes in one plane.

    Attributes:
        n (int): Images with an angle.
        skipped (int): Images without one; they count nowhere else.
        count (np.ndarray): Images of each class, ``(K,)``.
        mean (np.ndarray): Circular mean of each class, ``(K,)``, radians in
            ``(-pi, pi]``; NaN for a class without images.
        half_width (np.ndarray): Of the 95 % interval of ``mean`` for many
            angles (of 5 to 10 it holds in some 65 to 90 %), ``(K,)``,
            radians; NaN where R is too small to bound it.
        length (np.ndarray): Mean resultant length R of each class, ``(K,)``;
            NaN for a class without images.
        pvalue (np.ndarray): Of the Rayleigh test of each class, ``(K,)``,
            NaN with fewer than 2 images.
        corrected (np.ndarray): The same after Holm, over the classes.
        resultant_length (float): Mean R of the classes, weighed by their
            images. High as well if all classes share one angle, which is no
            broken symmetry: read it beside ``shared_length``.
        shared_length (float): R of all images together.
        table (np.ndarray): Images by class and bin of the angle, ``(K, bins)``.
    """

    n: int
    skipped: int
    count: np.ndarray  # type: ignore[assignment]  # not tuple's
    mean: np.ndarray
    half_width: np.ndarray
    length: np.ndarray
    pvalue: np.ndarray
    corrected: np.ndarray
    resultant_length: float
    shared_length: float
    table: np.ndarray


def summarize_class_angles(
    moments: np.ndarray, table: np.ndarray, skipped: int = 0
) -> ClassAngleSummary:
    """Circular statistics from sums ``(K, 5)``.

    Of each class the number of angles and the sums of ``cos t``, ``sin t``,
    ``cos 2t`` and ``sin 2t``; the table, ``(K, bins)``, is handed on.
    """
    count = moments[:, 0]
    has_angles = count > 0
    safe = np.where(has_angles, count, 1)
    first = moments[:, 1] + 1j * moments[:, 2]
    twice = moments[:, 3] + 1j * moments[:, 4]
    length = np.where(has_angles, abs(first) / safe, np.nan).clip(max=1)
    mean = np.where(has_angles, np.angle(first), np.nan)
    pvalue = np.where(count > 1, rayleigh_pvalue(count, length), np.nan)
    # Fisher, Statistical Analysis of Circular Data, eq. 4.21 and 4.22.
    second = (twice * np.exp(-2j * np.where(has_angles, mean, 0))).real / safe
    with np.errstate(invalid='ignore', divide='ignore'):
        error = np.sqrt((1 - second).clip(0) / (2 * length**2) / safe)
        reach = NORMAL_QUANTILE * error
        half_width = np.arcsin(np.where(reach <= 1, reach, np.nan))
    n = max(count.sum(), 1)
    return ClassAngleSummary(
        int(count.sum()),
        skipped,
        count.astype(int),
        mean,
        np.where(count > 1, half_width, np.nan),
        length,
        pvalue,
        holm(pvalue),
        float(abs(first).sum() / n),
        float(abs(first.sum()) / n),
        table,
    )
