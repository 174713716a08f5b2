"""Correlations of paired angles, and their tests by permutation."""

from typing import Tuple

import numpy as np

from ..options import Count, Seed, checked
from .estimate import CONFIDENCE, UNKNOWN, Estimate, Several

#: Angles that are drawn at a time.
_BLOCK = 2**20

#: Squared radians: angles that spread by less are one angle.
_FLAT = 1e-14


def known_pairs(
    first: np.ndarray, second: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Paired angles ``(n,)``, without the pairs of which one is NaN.

    Raises:
        ValueError: If they are no pairs, or one is infinite.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f'first and second have shapes {first.shape} and {second.shape}; '
            'give as many angles in both, (n,)'
        )
    for name, angles in (('first', first), ('second', second)):
        if np.isinf(angles).any():
            raise ValueError(
                f'{name} holds infinite angles; NaN stands for an unknown one'
            )
    both = ~(np.isnan(first) | np.isnan(second))
    return first[both], second[both]


def toroidal(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Fisher and Lee's T of paired angles along the last axis, in [-1, 1].

    ``sum_{i<j} sin(a_i - a_j) sin(b_i - b_j)`` is ``n^2`` times the
    determinant of the mean of ``x y^T``, with the unit vectors x of a and y
    of b: sums over the angles in place of sums over their pairs.
    """
    x = np.stack([np.cos(first), np.sin(first)], -1)
    y = np.stack([np.cos(second), np.sin(second)], -1)

    def det(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        mean: np.ndarray = np.swapaxes(a, -1, -2) @ b / a.shape[-2]
        determinant: np.ndarray = np.linalg.det(mean)
        return determinant

    first_spread, second_spread = det(x, x), det(y, y)
    # Angles that are all alike have no spread to share, but for rounding.
    has_spread = np.minimum(first_spread, second_spread) > _FLAT
    scale = np.sqrt(np.where(has_spread, first_spread * second_spread, 1))
    value = np.where(has_spread, det(x, y) / scale, 0)
    return value.clip(-1, 1)


@checked()
def fisher_lee_correlation(
    first: np.ndarray,
    second: np.ndarray,
    permutations: Count = 999,
    resamples: Several = 200,
    seed: Seed = 0,
) -> Estimate:
    """Fisher and Lee's correlation of paired angles, and its test.

    ``T = sum_{i<j} sin(a_i - a_j) sin(b_i - b_j) / sqrt(sum_{i<j} sin^2(a_i -
    a_j) sum_{i<j} sin^2(b_i - b_j))`` (Biometrika 70, 1983, eq. 2): 1 if one
    turns with the other, -1 if against it. It needs no mean direction, which
    angles all around the circle do not have, and turning either sample
    changes nothing.

    Args:
        first (np.ndarray): ``(n,)``, radians.
        second (np.ndarray): ``(n,)``, radians. Pairs with a NaN are left out.
        permutations (int): Random pairings of the test.
        resamples (int): Of the bootstrap over pairs.
        seed (int): Of both.

    Returns:
        Estimate: In ``[-1, 1]``, with a 95 % bootstrap interval by percentiles
        and a two-sided permutation p-value; NaN with fewer than 4 pairs, 0
        where one sample does not vary.

    Raises:
        ValueError: If an option is out of its range, they are no pairs, or
            an angle is infinite.
    """
    first, second = known_pairs(first, second)
    count = len(first)
    if count < 4:
        return UNKNOWN
    rng = np.random.default_rng(seed)
    value = float(toroidal(first, second))
    block = max(1, _BLOCK // count)
    drawn, extreme = [], 0
    for start in range(0, resamples, block):
        size = (min(block, resamples - start), count)
        index = rng.integers(0, count, size)
        drawn.append(toroidal(first[index], second[index]))
    for start in range(0, permutations, block):
        rows = min(block, permutations - start)
        shuffled = rng.permuted(np.tile(second, (rows, 1)), axis=1)
        paired = np.broadcast_to(first, shuffled.shape)
        null_values = abs(toroidal(paired, shuffled))
        extreme += int((null_values >= abs(value) - 1e-12).sum())
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.concatenate(drawn), (tail, 1 - tail))
    pvalue = (1 + extreme) / (1 + permutations)
    return Estimate(value, float(low), float(high), pvalue)
