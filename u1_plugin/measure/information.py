"""Does the angle depend on the class? Mutual information and class means.

Both are computed from the table of images by class and angle bin, which is
all that a permutation of the labels or a resampling of the images needs. A
shared angle is no dependence: only differences between classes count.
"""

import math
from functools import partial
from typing import Callable, NamedTuple, Tuple, Union

import numpy as np

from ..extras import needs
from ..options import Count, Seed, checked, shown
from .between_share import table_between_share
from .estimate import NORMAL_QUANTILE, UNKNOWN, Estimate, Several

#: Entries of the tables that are drawn at a time: 64 MiB of them.
_BLOCK = 2**23

#: Counts are 32-bit integers where tables are drawn.
_MOST_IMAGES = 2**31 - 1


def mutual_information(tables: np.ndarray) -> np.ndarray:
    """Mutual information of class and angle, in nats.

    As :func:`sklearn.metrics.mutual_info_score`, for many tables at once.

    Args:
        tables (np.ndarray): Counts, ``(..., K, bins)``.

    Returns:
        np.ndarray: ``(...)``, >= 0; NaN where all counts are 0. The plug-in
        estimate: its bias, about ``(K - 1)(bins - 1) / 2n``, is what the
        permutations measure.
    """
    tables = np.asarray(tables, float)  # logarithms of bytes are half floats
    n = tables.sum((-2, -1))

    def information(
        counts: np.ndarray, axes: Union[int, Tuple[int, ...]]
    ) -> np.ndarray:
        # x log x, which is 0 at 0
        logs = np.log(np.where(counts > 0, counts, 1))
        nats: np.ndarray = (counts * logs).sum(axes)
        return nats

    inside = (
        information(tables, (-2, -1))
        - information(tables.sum(-1), -1)
        - information(tables.sum(-2), -1)
    )
    with np.errstate(invalid='ignore', divide='ignore'):
        nats: np.ndarray = (inside / n + np.log(n)).clip(0)
    return nats


def occupied_bins(table: np.ndarray) -> float:
    """How many bins the angles of all classes fill: ``exp`` of their entropy.

    Args:
        table (np.ndarray): Counts, ``(K, bins)``.

    Returns:
        float: From 1, all angles in one bin, to the number of bins, all as
        full; NaN without counts.
    """
    pooled = np.asarray(table, float).sum(0)
    n = pooled.sum()
    return math.exp(entropy_of(pooled / n)) if n else math.nan


def _statistics(tables: np.ndarray) -> np.ndarray:
    return np.stack(
        [mutual_information(tables), table_between_share(tables)], -1
    )


def _drawn(
    count: int, table: np.ndarray, draw: Callable[[int], np.ndarray]
) -> np.ndarray:
    """Both statistics of so many tables of random counts, a block at a time."""
    block = max(1, _BLOCK // table.size)
    return np.concatenate(
        [
            _statistics(draw(min(block, count - start)))
            for start in range(0, count, block)
        ]
    )


def permutation_null(
    table: np.ndarray, permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Both statistics when the labels are dealt to the images at random.

    Args:
        table (np.ndarray): Counts, ``(K, bins)``.
        permutations (int): Draws; tables with the margins of ``table``.
        rng (np.random.Generator): Of the draws.

    Returns:
        np.ndarray: ``(permutations, 2)``: mutual information, between share.

    Raises:
        ValueError: If the table counts nothing.
    """
    if not table.sum():
        raise ValueError(
            f'table of shape {table.shape} counts no image; give one with '
            'angles of images'
        )
    with needs('lab'):  # here, for it takes a second to import
        from scipy import stats
    margins = table.sum(1).astype(int), table.sum(0).astype(int)
    draw = partial(stats.random_table.rvs, *margins, random_state=rng)
    return _drawn(permutations, table, lambda size: draw(size=size))


def bootstrap(
    table: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """As :func:`permutation_null`, of images drawn again with replacement."""
    n = int(table.sum())
    shares = table.ravel() / n

    def draw(size: int) -> np.ndarray:
        return rng.multinomial(n, shares, size).reshape(size, *table.shape)

    return _drawn(draws, table, draw)


class Dependence(NamedTuple):
    """How the angle depends on the class, beyond what chance gives.

    Both are 0 where the angle says nothing of the class, and 1 where it says
    all. The information is adjusted for chance, as
    :func:`sklearn.metrics.adjusted_mutual_info_score` is, and errs towards 0
    with few images a bin; the between share is of images that are left out
    (:func:`table_between_share`), and is the smaller, the fewer images a class
    has.

    Attributes:
        n (int): Images.
        entropy (float): Of the labels, nats: the most that the angle can say.
        information (float): Plug-in mutual information, nats.
        chance (float): Its mean over the permutations.
        information_share (Estimate): ``(information - chance) / (entropy -
            chance)``.
        between_share (Estimate): Share of the variance of ``exp(i t)`` that
            the angles of a class's other images predict.
    """

    n: int
    entropy: float
    information: float
    chance: float
    information_share: Estimate
    between_share: Estimate


def _adjusted(
    value: float, maximum: float, null: np.ndarray, resampled: np.ndarray
) -> Estimate:
    """What exceeds chance, as a share of the most that can."""
    chance = null.mean()
    room = maximum - chance if maximum - chance > 1e-9 else math.nan
    share = float((value - chance) / room)
    error = float(resampled.std(ddof=1) / room)
    return _normal(share, error, _permutation_pvalue(value, null))


def _predicted(
    value: float, null: np.ndarray, resampled: np.ndarray
) -> Estimate:
    """A share that is 0 without class angles; its p allows for their spread.

    Labels that are dealt anew make the classes spread alike, so that their p
    alone would take a difference of spread for one of angles.
    """
    error = float(resampled.std(ddof=1))
    upper = 0.5 * math.erfc(value / error / math.sqrt(2)) if error else 0.0
    return _normal(value, error, max(_permutation_pvalue(value, null), upper))


def _permutation_pvalue(value: float, null: np.ndarray) -> float:
    # Equal tables give equal sums only up to rounding.
    extreme = (null >= value - 1e-12).sum()
    return float((1 + extreme) / (1 + len(null)))


def _normal(value: float, error: float, pvalue: float) -> Estimate:
    half_width = NORMAL_QUANTILE * error
    return Estimate(value, value - half_width, value + half_width, pvalue)


def entropy_of(shares: np.ndarray) -> float:
    """The entropy of shares that sum to 1, ``(K,)``, in nats."""
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())


@checked()
def class_dependence(
    table: np.ndarray,
    permutations: Count = 999,
    resamples: Several = 200,
    seed: Seed = 0,
) -> Dependence:
    """Test whether the angle depends on the class.

    Intervals are normal, with the bootstrap's standard error, about the
    estimates. p-values are one-sided: of the information exact ones of
    permuted labels; of the between share the larger of that and of the
    normal one, since classes that spread differently about one angle are no
    permutation of each other either.

    The p-values hold wherever the bins lie. The estimates know no finer
    differences than a bin: of angles that lie within a few of them
    (:func:`occupied_bins`) they err towards 0 by as much as the bins' edges
    happen to, and a centred feature plane is the remedy.

    Args:
        table (np.ndarray): Counts, ``(K, bins)``, at most 2^31 - 1 in all.
        permutations (int): The smallest p-value is ``1 / (permutations + 1)``.
        resamples (int): Of the bootstrap, >= 2.
        seed (int): Of both.

    Returns:
        Dependence: Its estimates are NaN unless at least two classes have
        images, the between share unless two have at least two. Classes of one
        image are not in it.

    Raises:
        ValueError: If an option is out of its range, or the table has no
            counts.
    """
    counts = table.ndim == 2 and table.dtype.kind in 'iuf'
    if not counts or not ((table >= 0) & (table % 1 == 0)).all():
        raise ValueError(
            f'table={shown(table)} must be whole counts >= 0 of shape (K, bins)'
        )
    table = table.astype(float)
    if table.sum() > _MOST_IMAGES:
        raise ValueError(
            f'table holds {table.sum():.3g} counts, and permutations deal at '
            f'most {_MOST_IMAGES:,}; measure part of the images'
        )
    n = int(table.sum())
    shares = table.sum(1) / max(n, 1)
    entropy = entropy_of(shares) if n else math.nan
    if (shares > 0).sum() < 2:
        return Dependence(n, entropy, math.nan, math.nan, UNKNOWN, UNKNOWN)
    rng = np.random.default_rng(seed)
    # Classes and bins without images say nothing and only cost time.
    filled = table[table.sum(1) > 0]
    value = _statistics(filled)
    null = permutation_null(filled, permutations, rng)
    resampled = bootstrap(filled, resamples, rng)
    information, chance = float(value[0]), float(null[:, 0].mean())
    adjusted = _adjusted(information, entropy, null[:, 0], resampled[:, 0])
    # A single image of its class is predicted by none, but by its own copy
    # in a resample.
    several = filled[filled.sum(1) > 1]
    between = UNKNOWN
    if len(several) > 1:
        if len(several) < len(filled):
            value = _statistics(several)
            null = permutation_null(several, permutations, rng)
            resampled = bootstrap(several, resamples, rng)
        between = _predicted(float(value[1]), null[:, 1], resampled[:, 1])
    return Dependence(n, entropy, information, chance, adjusted, between)
