"""One comparison over several data sets.

The method is that of Agarwal et al., *Deep Reinforcement Learning at the Edge
of the Statistical Precipice*, NeurIPS 2021 (arXiv 2108.13264): a stratified
bootstrap, which resamples the runs within each data set, percentile intervals,
the interquartile mean and the probability of improvement. Two things differ.

- Arms are paired by seed here, so that pairs are resampled, and mean and
  interquartile mean are those of paired differences. The probability of
  improvement alone is unpaired, as there: runs of both arms are resampled
  apart.
- All values are points of accuracy, one scale, so that nothing is normalised.

The data sets themselves are not resampled: nothing is said of others.
"""

import math
from typing import List, NamedTuple, Sequence, Tuple

import numpy as np

from ...measure.estimate import CONFIDENCE
from ...options import Count, checked
from ..statistics import exact_differences, sign_flip_pvalue
from .arm_results import shown_by
from .arm_statistics import ArmComparison, compare

#: Resamples held in memory at a time.
_BLOCK = 1000
#: The middle half, of which the interquartile mean is the mean.
_QUARTILES = (0.25, 0.75)
#: Sums of permuted differences that differ by less, in parts of the largest
#: sum, differ by rounding.
_ROUNDING = 1e-12
#: What resamples of equal values may differ by, in points.
_NO_SPREAD = 1e-9


class DataSet(NamedTuple):
    """The pairs of two arms on one data set."""

    name: str  # of the config: a data set with a network
    #: ``(n,)``, arm less reference, in points; equal counts of images are
    #: equal.
    differences: np.ndarray
    #: ``(n, n)``: 1 where the arm's run i is better than the reference's run
    #: j, 1/2 where they tie, else 0. Pairs are on the diagonal.
    ahead: np.ndarray
    slack: float  # sums of differences that differ by no more are equal
    means: Tuple[float, float]  # of arm and reference, per cent
    comparison: ArmComparison  # of this data set alone


class Aggregate(NamedTuple):
    """A quantity over all data sets, and the ends of its interval."""

    value: float
    low: float
    high: float


class Pooled(NamedTuple):
    """A comparison over all data sets, each of which weighs the same."""

    #: Mean over data sets of the mean paired difference, in points, and the
    #: sign-flip test of it; n counts all pairs, sd and wilcoxon are NaN.
    difference: ArmComparison
    iqm: Aggregate  # interquartile mean of all paired differences, in points
    #: In [0, 1]: the chance that a run of the arm is better than one of the
    #: reference of *any* seed, mean over data sets; ties count one half.
    probability: Aggregate
    #: Of the pairs in which the arm is better, in [0, 1], mean over data sets;
    #: ties count one half.
    paired_share: Aggregate


class Across(NamedTuple):
    """One comparison: an arm, what it is compared to, and what is known."""

    arm: str
    reference: str
    sets: List[DataSet]
    pooled: Pooled


def data_set(
    name: str, treated: Sequence[float], control: Sequence[float]
) -> DataSet:
    """The pairs of one data set.

    Args:
        name (str): Of the config.
        treated (Sequence[float]): Top-1 of the arm, per cent, a value a seed.
        control (Sequence[float]): Of the reference, in the same order.

    Raises:
        ValueError: If the lengths differ, there are fewer than 2 pairs or a
            value is not finite; the message names the data set.
    """
    try:
        comparison = compare(treated, control)
    except ValueError as error:
        raise ValueError(f'data set {name}: {error}') from None
    differences = exact_differences(treated, control)
    both = np.concatenate([treated, control])
    # Less nothing, values of both arms tie as counts of images do.
    x, y = np.split(exact_differences(both, 0 * both).values, 2)
    return DataSet(
        name,
        differences.values * differences.unit,
        np.sign(x[:, None] - y[None, :]) / 2 + 0.5,
        differences.slack * differences.unit,
        (float(np.mean(treated)), float(np.mean(control))),
        comparison,
    )


def interquartile_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of the middle half of weighted values.

    It is the mean of their quantile function from 1/4 to 3/4: a value across
    a quartile counts by its part on the inner side. With equal weights and a
    multiple of 4 values it is the mean without the lowest and highest quarter
    of them.

    Args:
        values (np.ndarray): ``(n,)``.
        weights (np.ndarray): ``(b, n)``, rows >= 0 of sum 1.

    Returns:
        np.ndarray: ``(b,)``, in the unit of the values.
    """
    order = np.argsort(values, kind='stable')
    reached = np.cumsum(weights[:, order], axis=1)
    inside = np.diff(reached.clip(*_QUARTILES), axis=1, prepend=_QUARTILES[0])
    low, high = _QUARTILES
    return inside @ values[order] / (high - low)


def _quantities(
    sets: Sequence[DataSet], shares: Sequence[np.ndarray]
) -> np.ndarray:
    """The four aggregates of :class:`Pooled`, in its order, ``(4, b)``.

    A set's shares ``(2, b, n)`` say how much of a resample each of its pairs
    is, and of another one that takes the reference's runs for the unpaired
    probability; rows of sum 1.
    """
    means, ahead, paired = [], [], []
    for one, (share, other) in zip(sets, shares):
        means.append(share @ one.differences)
        ahead.append(((share @ one.ahead) * other).sum(axis=1))
        paired.append(share @ np.diag(one.ahead))
    middle = interquartile_mean(
        np.concatenate([one.differences for one in sets]),
        np.concatenate([share for share, _ in shares], axis=1) / len(sets),
    )
    mean, chance, same = (np.mean(v, axis=0) for v in (means, ahead, paired))
    return np.stack([mean, middle, chance, same])


def _draws(sets: Sequence[DataSet], resamples: int) -> np.ndarray:
    """The quantities of resamples, ``(4, resamples)``.

    A resample is known by how often it has each pair. Every data set has a
    stream of random numbers of its own.
    """
    streams = [
        np.random.default_rng(stream)
        for stream in np.random.SeedSequence(0).spawn(len(sets))
    ]
    blocks = []
    for start in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - start)
        shares = []
        for one, stream in zip(sets, streams):
            n = len(one.differences)
            size = (2, count)
            shares.append(stream.multinomial(n, np.full(n, 1 / n), size) / n)
        blocks.append(_quantities(sets, shares))
    return np.concatenate(blocks, axis=1)


def _permutation(sets: Sequence[DataSet]) -> float:
    """p of the sign-flip test of the mean: all pairs, each set as one."""
    parts = [one.differences / len(one.differences) for one in sets]
    values = np.concatenate(parts)
    slack = sum(one.slack / len(one.differences) for one in sets)
    slack += _ROUNDING * float(abs(values).sum())
    return sign_flip_pvalue(values, slack, 0)


@checked()
def pool(sets: Sequence[DataSet], resamples: Count = 9999) -> Pooled:
    """A comparison over all data sets.

    Args:
        sets (Sequence[DataSet]): Of :func:`data_set`, under different names.
            Their order does not matter.
        resamples (int): Of the bootstrap, >= 1.

    Returns:
        Pooled: An interval is NaN where all resamples are alike, which says
        nothing of the spread: for means if the differences of every data set
        are, for the probability if each run of one arm is better than each
        of the other. Arms that are equal in all pairs have the intervals
        [0, 0] and [1/2, 1/2].

    Raises:
        ValueError: If there is no data set, two have one name, or an option
            is out of its range.
    """
    names = sorted(one.name for one in sets)
    if not names or len(set(names)) != len(names):
        raise ValueError(
            f'sets={names} must be one or several data sets of different names'
        )
    sets = sorted(sets, key=lambda one: one.name)
    whole = [np.full((2, 1, n), 1 / n) for n in (len(s.ahead) for s in sets)]
    values = _quantities(sets, whole)[:, 0]
    tail = 100 * (1 - CONFIDENCE) / 2
    draws = _draws(sets, resamples)
    ends = np.percentile(draws, [tail, 100 - tail], axis=1).T
    ends[np.ptp(draws, axis=1) < _NO_SPREAD] = math.nan
    if not any(one.differences.any() for one in sets):
        ends = np.stack([values, values], axis=1)
    mean, *others = map(Aggregate, values.tolist(), *ends.T.tolist())
    n, p = sum(len(one.differences) for one in sets), _permutation(sets)
    nan = math.nan
    return Pooled(
        ArmComparison(n, mean.value, nan, *mean[1:], nan, p, CONFIDENCE),
        *others,
    )


def words(across: Across, corrected: float) -> str:
    """What the mean over data sets shows.

    Args:
        across (Across): The comparison.
        corrected (float): Its permutation p after Holm's correction.
    """
    if not any(one.differences.any() for one in across.sets):
        return f'equal to {across.reference} in every pair'
    mean = across.pooled.difference
    return shown_by(mean, corrected, across.reference, 'comparisons')
