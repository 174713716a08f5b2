"""Statistics of arms that are paired by seed."""

import math
from typing import Dict, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ...extras import needs
from ...measure.circular_tests import holm as holm_array
from ...measure.estimate import Chance, Several
from ...options import NonNegative, Positive, Seed, check, checked
from ..statistics import (
    exact_differences,
    sign_flip_pvalue,
    signed_rank_pvalue,
)

with needs('lab'):
    import scipy
    from scipy import stats
    from statsmodels.stats.power import TTestPower

_RESAMPLES = 9999
#: Standard deviations that every test sees; beyond them, its power has no
#: digits.
_CLEAR = 1000.0


class Comparison(NamedTuple):
    """One arm against another over the same seeds.

    Attributes:
        n (int): Pairs.
        mean (float): Mean of ``treated - control``.
        sd (float): Standard deviation of the differences.
        low (float): Lower end of the bootstrap interval of the mean.
        high (float): Upper end.
        wilcoxon (float): p of the two-sided signed-rank test.
        permutation (float): p of the two-sided sign-flip test of the mean;
            never below ``2 / 2^n``.
        confidence (float): Of the interval.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    wilcoxon: float
    permutation: float
    confidence: float

    @property
    def verdict(self) -> str:
        """``'higher'``, ``'lower'`` or ``'no effect here'``, by the interval.

        Where every pair differs by the same amount, by that amount.
        """
        constant = math.isnan(self.low)
        if (self.mean if constant else self.low) > 0:
            return 'higher'
        below = self.mean if constant else self.high
        return 'lower' if below < 0 else 'no effect here'


def _generator(seed: int) -> Dict[str, np.random.Generator]:
    """The argument that scipy calls ``rng`` since 1.15."""
    version = tuple(map(int, scipy.__version__.split('.')[:2]))
    name = 'rng' if version >= (1, 15) else 'random_state'
    return {name: np.random.default_rng(seed)}


def _interval(
    difference: np.ndarray, confidence: float, seed: int
) -> Tuple[float, float]:
    if np.ptp(difference) == 0:
        return math.nan, math.nan
    found = stats.bootstrap(
        (difference,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method='BCa',
        **_generator(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def compare(
    treated: Sequence[float],
    control: Sequence[float],
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Bootstrap interval (BCa) and two tests of paired differences.

    Accuracies in per cent are counted in whole images, whatever their float
    type: :func:`~u1_plugin.lab.statistics.exact_differences` has the rule.
    Both tests count all sign flips of up to 40 pairs, and draw them beyond.

    Args:
        treated (Sequence[float]): One value a pair.
        control (Sequence[float]): In the same order.
        confidence (float): In (0, 1).
        seed (int): Of the resampling, so that a report can be repeated.

    Returns:
        Comparison: In the unit of the values. If every difference is the
        same, n pairs say nothing of the spread and the interval is NaN,
        unless all are 0, which gives [0, 0]; the tests of ranks and signs
        hold all the same.

    Raises:
        ValueError: If the lengths differ, there are fewer than 2 pairs, a
            value is not finite or an option is out of its range.
    """
    confidence = check('confidence', confidence, Chance)
    seed = check('seed', seed, Seed)
    found = exact_differences(treated, control)
    n = len(found.values)
    if not found.values.any():
        return Comparison(n, *(0.0,) * 4, 1.0, 1.0, confidence)
    low, high = _interval(found.values, confidence, seed)
    spread = 0.0 if math.isnan(low) else float(found.values.std(ddof=1))
    return Comparison(
        n,
        found.mean,
        spread * found.unit,
        low * found.unit,
        high * found.unit,
        signed_rank_pvalue(found.values, seed),
        sign_flip_pvalue(found.values, found.slack, seed),
        confidence,
    )


def holm(pvalues: Mapping[str, float]) -> Dict[str, float]:
    """Holm's correction over a family of tests.

    Args:
        pvalues (Mapping[str, float]): By name; NaN is no test and stays NaN.

    Returns:
        Dict[str, float]: Corrected, in ``[0, 1]``, in the same order.
    """
    corrected = holm_array(list(pvalues.values()))
    return dict(zip(pvalues, map(float, corrected)))


@checked()
def seeds_needed(
    sd: NonNegative, gain: Positive, power: Chance = 0.8, alpha: Chance = 0.05
) -> int:
    """How many pairs a paired t test needs to see a gain.

    Args:
        sd (float): Standard deviation of the paired differences, >= 0.
        gain (float): The true mean difference, > 0, in the same unit.
        power (float): Chance to see it, in (0, 1).
        alpha (float): Level of the two-sided test, in (0, 1).

    Returns:
        int: At least 2.

    Raises:
        ValueError: If one of these is out of its range, or ``gain`` too small
            a part of ``sd`` for any number of pairs.
    """
    if sd == 0:
        return 2
    test, effect = TTestPower(), min(gain / sd, _CLEAR)
    # The solver does not converge where a handful is enough.
    for n in range(2, 10):
        if test.power(effect, n, alpha) >= power:
            return n
    return math.ceil(_solved(effect_size=effect, alpha=alpha, power=power))


@checked()
def detectable_gain(
    sd: NonNegative, n: Several, power: Chance = 0.8, alpha: Chance = 0.05
) -> float:
    """The smallest true gain that n pairs would show.

    Args:
        sd (float): Standard deviation of the paired differences, >= 0.
        n (int): Pairs, >= 2.
        power (float): Chance to see it, in (0, 1).
        alpha (float): Level of the two-sided paired t test, in (0, 1).

    Returns:
        float: In the unit of ``sd``.

    Raises:
        ValueError: If one of these is out of its range, or ``power`` not above
            ``alpha``.
    """
    return sd * _solved(nobs=n, alpha=alpha, power=power)


def _solved(**known: float) -> float:
    """What is left of effect, pairs, level and power of a paired t test."""
    try:
        found = float(np.squeeze(TTestPower().solve_power(**known)))
    except ValueError:  # the solver's: there is no solution
        found = math.nan
    if math.isnan(found):
        words = ', '.join(f'{name}={value:g}' for name, value in known.items())
        raise ValueError(
            f'no paired t test has {words}; choose a power above alpha, and a '
            'gain that is no tiny part of sd'
        )
    return found
