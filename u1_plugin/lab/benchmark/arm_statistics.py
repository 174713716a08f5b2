"""Statistics of arms that are paired by seed."""

import math
from typing import Annotated, Dict, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from ...extras import needs
from ...measure.estimate import Chance, Several
from ...options import (
    NonNegative,
    Positive,
    Range,
    Seed,
    check,
    checked,
    shown,
)
from ..statistics import (
    exact_differences,
    sign_flip_pvalue,
    signed_rank_pvalue,
)

with needs('lab'):
    import scipy
    from scipy import stats
    from scipy.integrate import fixed_quad
    from scipy.optimize import brentq

_RESAMPLES = 9999
#: Pairs of a suite beyond which nobody trains.
_MOST_PAIRS = 10**9
#: The chance to see a gain that pairs are asked for.
_POWER = 0.8
#: Of a test. Without any gain it shows one with this chance.
_Level = Annotated[float, Range(0, _POWER, low_open=True, high_open=True)]


class ArmComparison(NamedTuple):
    """One arm against another over the same seeds."""

    n: int  # pairs
    mean: float  # of treated - control
    sd: float  # standard deviation of these differences
    low: float  # ends of the bootstrap interval of the mean
    high: float
    wilcoxon: float  # p of the two-sided signed-rank test
    #: p of the two-sided sign-flip test of the mean; never below ``2 / 2^n``.
    permutation: float
    confidence: float  # of the interval

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
    interval = stats.bootstrap(
        (difference,),
        np.mean,
        confidence_level=confidence,
        n_resamples=_RESAMPLES,
        method='BCa',
        **_generator(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare(
    treated: Sequence[float],
    control: Sequence[float],
    confidence: float = 0.95,
    seed: int = 0,
) -> ArmComparison:
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
        ArmComparison: In the unit of the values. If every difference is the
        same, n pairs say nothing of the spread and the interval is NaN,
        unless all are 0, which gives [0, 0]; the tests of ranks and signs
        hold all the same.

    Raises:
        ValueError: If the lengths differ, there are fewer than 2 pairs, a
            value is not finite or an option is out of its range.
    """
    confidence = check('confidence', confidence, Chance)
    seed = check('seed', seed, Seed)
    differences = exact_differences(treated, control)
    n = len(differences.values)
    if not differences.values.any():
        return ArmComparison(n, *(0.0,) * 4, 1.0, 1.0, confidence)
    low, high = _interval(differences.values, confidence, seed)
    spread = 0.0 if math.isnan(low) else float(differences.values.std(ddof=1))
    return ArmComparison(
        n,
        differences.mean,
        spread * differences.unit,
        low * differences.unit,
        high * differences.unit,
        signed_rank_pvalue(differences.values, seed),
        sign_flip_pvalue(differences.values, differences.slack, seed),
        confidence,
    )


def holm(pvalues: Mapping[str, float]) -> Dict[str, float]:
    """Holm's correction over a family of tests.

    Args:
        pvalues (Mapping[str, float]): By name; NaN is no test and stays NaN.

    Returns:
        Dict[str, float]: Corrected, in ``[0, 1]``, in the same order.

    Raises:
        ValueError: If one is out of ``[0, 1]``.
    """
    with needs('lab'):  # here, for it takes a second to import
        from statsmodels.stats.multitest import multipletests
    values = np.array(list(pvalues.values()), float)
    is_test = ~np.isnan(values)
    if ((values < 0) | (values > 1)).any():
        raise ValueError(f'pvalues={shown(pvalues)} must be in [0, 1], or NaN')
    if is_test.any():
        values[is_test] = multipletests(values[is_test], method='holm')[1]
    return dict(zip(pvalues, values.tolist()))


def fewest_pairs(alpha: float) -> int:
    """Pairs whose sign-flip test can reach a level: ``2 / 2^n < alpha``.

    It decides, and with fewer pairs there is nothing that a t test's power
    could stand for.
    """
    return math.floor(math.log2(2 / alpha)) + 1


@checked()
def seeds_needed(sd: NonNegative, gain: Positive, alpha: _Level = 0.05) -> int:
    """How many pairs a paired t test needs to see a gain, in 80 % of cases.

    Args:
        sd (float): Standard deviation of the paired differences, >= 0.
        gain (float): The true mean difference, > 0, in the same unit.
        alpha (float): Level of the two-sided test, in (0, 0.8).

    Returns:
        int: At least 2.

    Raises:
        ValueError: If one of these is out of its range, or ``gain`` is too
            small a part of ``sd`` for any number of pairs.
    """
    if sd == 0:
        return 2
    effect, most = min(gain / sd, 1e100), 2
    while paired_power(effect, most, alpha) < _POWER:
        most *= 2
        if most > _MOST_PAIRS:
            raise ValueError(
                f'gain={gain:g} is so small a part of sd={sd:g} that '
                f'{_MOST_PAIRS:,} pairs do not show it; give a larger gain'
            )
    least = max(2, most // 2)
    while least < most:
        middle = (least + most) // 2
        if paired_power(effect, middle, alpha) >= _POWER:
            most = middle
        else:
            least = middle + 1
    return most


@checked()
def detectable_gain(sd: NonNegative, n: Several, alpha: _Level = 0.05) -> float:
    """The smallest true gain that n pairs would show, in 80 % of cases.

    Args:
        sd (float): Standard deviation of the paired differences, >= 0.
        n (int): Pairs, >= 2.
        alpha (float): Level of the two-sided paired t test, in (0, 0.8).

    Returns:
        float: In the unit of ``sd``.

    Raises:
        ValueError: If one of these is out of its range.
    """
    high = 1.0
    while paired_power(high, n, alpha) < _POWER:
        high *= 2
    effect = brentq(lambda e: paired_power(e, n, alpha) - _POWER, 0, high)
    return sd * float(effect)


def paired_power(effect: float, n: int, alpha: float) -> float:
    """Chance that a two-sided paired t test sees a gain.

    Student's t is a normal variable over the root s of an independent
    ``chi^2 / df``, so that the chance is the mean over s of ``Phi(d - t s) +
    Phi(-d - t s)`` with ``d = effect sqrt(n)``. Solvers that rest on the
    noncentral t distribution fail for the few pairs of a pilot.

    Args:
        effect (float): The gain over the standard deviation, >= 0.
        n (int): Pairs, >= 2.
        alpha (float): Level, in (0, 1).
    """
    critical = stats.t.isf(alpha / 2, n - 1)
    shift = effect * math.sqrt(n)
    spread = stats.chi(n - 1, scale=1 / math.sqrt(n - 1))

    def power(share: np.ndarray) -> np.ndarray:
        far = critical * spread.ppf(share)
        return stats.norm.cdf(shift - far) + stats.norm.cdf(-shift - far)

    # The integrand falls steeply where the test begins to miss the gain.
    steep = min(max(spread.cdf(shift / critical), 1e-9), 1 - 1e-9)
    parts = ((0.0, steep), (steep, 1.0))
    return float(sum(fixed_quad(power, *part, n=400)[0] for part in parts))
