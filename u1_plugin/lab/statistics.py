"""Statistics of paired comparisons."""

import math
from typing import NamedTuple, Sequence

import numpy as np

from ..extras import needs

with needs('lab'):
    from scipy import stats


class PairedResult(NamedTuple):
    """A mean paired difference.

    Attributes:
        n (int): Pairs.
        mean (float): Mean difference.
        low (float): Lower end of the interval.
        high (float): Upper end.
        pvalue (float): Of the two-sided paired t test.
        confidence (float): Of the interval.
    """

    n: int
    mean: float
    low: float
    high: float
    pvalue: float
    confidence: float

    @property
    def verdict(self) -> str:
        """``'higher'``, ``'lower'`` or ``'no difference shown'``."""
        if self.low > 0:
            return 'higher'
        return 'lower' if self.high < 0 else 'no difference shown'


def interval_text(mean: float, low: float, high: float, digits: int = 2) -> str:
    """``+0.20 [-0.10, +0.50]``; ``[no interval]`` where the ends are NaN."""
    if math.isnan(low):
        return f'{mean:+.{digits}f} [no interval]'
    return f'{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]'


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
        same, n pairs say nothing of the spread: the interval and the p-value
        are NaN, unless all are 0, which gives [0, 0] and p = 1.

    Raises:
        ValueError: If the lengths differ or there are fewer than 2 pairs.
    """
    if len(treated) != len(control) or len(treated) < 2:
        raise ValueError(
            f'treated has {len(treated)} values and control '
            f'{len(control)}; give at least 2 pairs'
        )
    difference = np.asarray(treated, float) - np.asarray(control, float)
    mean = float(difference.mean())
    if np.ptp(difference) == 0:
        low, high, p = (0.0, 0.0, 1.0) if mean == 0 else (math.nan,) * 3
        return PairedResult(len(difference), mean, low, high, p, confidence)
    test = stats.ttest_1samp(difference, 0)
    low, high = test.confidence_interval(confidence)
    return PairedResult(
        len(difference),
        mean,
        float(low),
        float(high),
        float(test.pvalue),
        confidence,
    )
