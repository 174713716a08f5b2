"""Statistics of paired comparisons.

Accuracies are counted in whole images: their differences tie as counts do and
not as floats do, whose last digits differ.
"""

import math
from fractions import Fraction
from typing import NamedTuple, Optional, Sequence

import numpy as np

from ..extras import needs
from ..measure.estimate import Chance
from ..options import Seed, check, shown

with needs('lab'):
    from scipy import stats

#: Sign flips of up to this many pairs are all counted, beyond it drawn.
_EXACT_PAIRS = 40
_DRAWS = 2**16 - 1
#: Signs that are drawn at a time.
_AT_A_TIME = 2**25
#: Test sets of up to this many images are recognised by their per cents.
_MOST_IMAGES = 10**6
#: What a value of float32 and one of float64 may be off by, in units of its
#: last place. The first come from a product, the second may be means of such.
_LAST_PLACES = (2, 16)
#: Significant bits of a number that says nothing of where it came from.
_SHORT = 12
#: Of an image: floats too coarse for that tell no counts.
_ROUNDING = 1 / 4


class PairedResult(NamedTuple):
    """A mean paired difference."""

    n: int  # pairs
    mean: float
    low: float  # ends of the interval
    high: float
    pvalue: float  # of the two-sided paired t test
    confidence: float  # of the interval

    @property
    def verdict(self) -> str:
        """``'higher'``, ``'lower'`` or ``'no difference shown'``."""
        if self.low > 0:
            return 'higher'
        return 'lower' if self.high < 0 else 'no difference shown'


class Differences(NamedTuple):
    """Paired differences of which equal ones are equal."""

    #: ``(n,)``: whole numbers, int64, where the unit is known, else float64.
    values: np.ndarray
    unit: float  # what 1 is, in the unit of the data
    #: Sums of values that differ by no more are equal; 0 for whole numbers.
    slack: float

    @property
    def mean(self) -> float:
        """Mean difference, in the unit of the data."""
        return float(self.values.sum()) / len(self.values) * self.unit


def interval_text(mean: float, low: float, high: float, digits: int = 2) -> str:
    """``+0.20 [-0.10, +0.50]``; ``[no interval]`` where the ends are NaN."""
    if math.isnan(low):
        return f'{mean:+.{digits}f} [no interval]'
    return f'{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]'


def _error(values: np.ndarray) -> np.ndarray:
    """What each value may be off by; float32 is known by its zeros.

    A number of few digits, such as 1 or 62.5, has them whatever it came from,
    so that it counts as float32 only where all values do.
    """
    with np.errstate(over='ignore', under='ignore'):
        single = values.astype(np.float32)
    coarse = _LAST_PLACES[0] * np.spacing(abs(single)).astype(float)
    fine = _LAST_PLACES[1] * np.spacing(abs(values))
    is_single = single == values
    if not is_single.all():
        is_short = np.ldexp(np.frexp(values)[0], _SHORT) % 1 == 0
        is_single &= ~is_short
    return np.where(is_single, coarse, fine)


def _images(values: np.ndarray, error: np.ndarray) -> Optional[int]:
    """The smallest N for which all values are per cents of N images."""
    shares = values / 100
    for share, off in zip(shares, error / 100):
        # No fraction of so many images comes nearer to the share.
        nearest = Fraction(float(share)).limit_denominator(_MOST_IMAGES)
        if not abs(float(nearest) - share) <= 2 * off:
            return None
    sizes = np.arange(1.0, _MOST_IMAGES + 1)
    sizes = sizes[sizes * error.max() / 100 < _ROUNDING]
    for share, off in zip(shares, error / 100):
        counts = share * sizes
        sizes = sizes[abs(counts - counts.round()) <= off * sizes]
    return round(sizes[0]) if len(sizes) else None


def _made_equal(values: np.ndarray, slack: float) -> np.ndarray:
    """The values, without differences of less than the slack.

    Args:
        values (np.ndarray): Differences, of either sign.
        slack (float): Values whose moduli differ by less get one modulus, and
            those closer to 0 become 0.
    """
    moduli = np.append(0.0, abs(values))
    order = np.argsort(moduli)
    steps = np.diff(moduli[order], prepend=0.0) > slack
    firsts = moduli[order][np.append(True, steps[1:])]
    moduli[order] = firsts[np.cumsum(steps)]
    return np.copysign(moduli[1:], values)


def exact_differences(
    treated: Sequence[float], control: Sequence[float]
) -> Differences:
    """``treated - control`` without the rounding of floats.

    If all values are per cents of one number of images, up to the rounding of
    float64 (or of float32, where a value is one), the differences are whole
    numbers of images. Other values, such as calibration errors, are compared
    as floats, and sums that differ by less than the rounding of their terms
    are equal.

    Args:
        treated (Sequence[float]): One value a pair.
        control (Sequence[float]): In the same order.

    Raises:
        ValueError: If the lengths differ, there are fewer than 2 pairs or a
            value is not finite.
    """
    x, y = _numbers(treated), _numbers(control)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2:
        raise ValueError(
            f'treated has {x.size} values and control {y.size}; give at least '
            '2 pairs'
        )
    values = np.concatenate([x, y])
    if not np.isfinite(values).all():
        raise ValueError(
            'treated or control holds NaN or inf; leave out the seeds whose '
            'runs failed, in both'
        )
    error = _error(values)
    images = _images(values, error)
    if images is not None:
        counts = (values * (images / 100)).round().astype(np.int64)
        return Differences(counts[: len(x)] - counts[len(x) :], 100 / images, 0)
    # A power of two loses no digit, and sums of such values do not overflow.
    unit = 2.0 ** (int(np.frexp(abs(values).max())[1]) - 1)
    slack = 2 * float((error / unit).sum())
    differences = x / unit - y / unit
    return Differences(_made_equal(differences, slack), unit, slack)


def _numbers(values: Sequence[float]) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.array(None)
    if array.dtype.kind not in 'biuf':
        raise ValueError(
            f'treated or control is {shown(values)}; give numbers, one a pair'
        )
    return array.astype(float)


def sign_flip_pvalue(
    values: np.ndarray, slack: float = 0.0, seed: int = 0
) -> float:
    """Share of the 2^n sign flips whose sum is as far from 0 as the values'.

    Args:
        values (np.ndarray): ``(n,)``, whole numbers or floats.
        slack (float): See :class:`Differences`.
        seed (int): Of the flips, which are drawn for more than 40 values of
            several moduli: 65,535 of them, with the given signs as one more.

    Returns:
        float: In ``(0, 1]``: the exact p of the two-sided test that the
        distribution is symmetric about 0.

    Raises:
        ValueError: If a value is NaN.
    """
    if np.isnan(values).any():
        raise ValueError('values hold NaN; leave out what was not measured')
    if values.dtype.kind == 'f':
        values = values.astype(float)
    values = values[values != 0]  # either sign is the same
    # Sums of the same floats differ by the order in which they are added.
    rounding = 4 * np.finfo(float).eps * len(values) * abs(values).sum()
    least = abs(values.sum()) - max(slack, rounding)
    if least <= 0:
        return 1.0
    if len(values) > _EXACT_PAIRS:
        return _many_flips_pvalue(values, least, slack, seed)
    # Every flip is one of the first half and one of the second. As many sums
    # lie below -least as above least.
    first, second = _flipped_sums(values[::2]), _flipped_sums(values[1::2])
    above = len(second) - np.searchsorted(second, least - first)
    return float(2 * above.sum() / (len(first) * len(second)))


def _many_flips_pvalue(
    values: np.ndarray, least: float, slack: float, seed: int
) -> float:
    """Counted where all values have one modulus, otherwise drawn."""
    n = len(values)
    if np.ptp(abs(values)) == 0 and slack < abs(values[0]):
        above = int((values > 0).sum())
        pvalue = float(stats.binomtest(above, n).pvalue)
        return max(pvalue, np.finfo(float).tiny)
    rng = np.random.default_rng(check('seed', seed, Seed))
    block, extreme = max(1, _AT_A_TIME // n), 0
    for start in range(0, _DRAWS, block):
        shape = min(block, _DRAWS - start), n
        flips = rng.integers(0, 2, shape, dtype=np.int8) * 2 - 1
        extreme += int((abs(flips @ values) >= least).sum())
    return (1 + extreme) / (1 + _DRAWS)


def _flipped_sums(values: np.ndarray) -> np.ndarray:
    """Sums of all sign flips, sorted."""
    sums = np.zeros(1, values.dtype)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return np.sort(sums)


def signed_rank_pvalue(values: np.ndarray, seed: int = 0) -> float:
    """Wilcoxon's signed-rank test, two-sided, exact with ties and zeros.

    Equal moduli share the mean of their ranks, and zeros are ranked and then
    left out (Pratt).

    Args:
        values (np.ndarray): ``(n,)``, of :class:`Differences`.
        seed (int): As for :func:`sign_flip_pvalue`.

    Returns:
        float: In ``(0, 1]``.
    """
    # Twice the ranks are whole numbers.
    ranks = (2 * stats.rankdata(abs(values))).astype(np.int64)
    return sign_flip_pvalue(ranks * np.sign(values).astype(int), seed=seed)


def paired_difference(
    treated: Sequence[float], control: Sequence[float], confidence: float = 0.95
) -> PairedResult:
    """Student's t interval of the mean of ``treated - control``.

    Args:
        treated (Sequence[float]): One value a pair.
        control (Sequence[float]): In the same order.
        confidence (float): In (0, 1).

    Returns:
        PairedResult: In the unit of the values. If every difference is the
        same, by the rule of :func:`exact_differences`, n pairs say nothing of
        the spread: the interval and the p-value are NaN, unless all are 0,
        which gives [0, 0] and p = 1.

    Raises:
        ValueError: If the lengths differ, there are fewer than 2 pairs, a
            value is not finite or ``confidence`` is out of its range.
    """
    confidence = check('confidence', confidence, Chance)
    differences = exact_differences(treated, control)
    n = len(differences.values)
    if np.ptp(differences.values) == 0:
        zero = differences.mean == 0
        low, high, p = (0.0, 0.0, 1.0) if zero else (math.nan,) * 3
        return PairedResult(n, differences.mean, low, high, p, confidence)
    test = stats.ttest_1samp(differences.values, 0)
    low, high = test.confidence_interval(confidence)
    return PairedResult(
        n,
        differences.mean,
        float(low) * differences.unit,
        float(high) * differences.unit,
        float(test.pvalue),
        confidence,
    )
