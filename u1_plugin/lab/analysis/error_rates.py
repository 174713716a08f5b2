"""How often each verdict errs: data whose truth is known, judged many times.

Of every claim there are data in which it does not hold, for more than one
reason, and data in which it holds. ``tools/studies/verdict_rates.py`` writes
the table.
"""

from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch

from ...measure.accumulators import AngleAccumulator, EnergyAccumulator
from ...measure.circular_tests import ClassAngleSummary
from ...measure.profile import EnergySummary
from ...options import Count, Seed, checked
from .judging import REFUTED, SUPPORTED, ClaimTest, claim_verdict, judge
from .verdicts import angle_tests, concentration_tests, sombrero_tests

#: Side of the maps.
_SIZE = 14
_BINS = 12

Draw = Callable[[np.random.Generator, int], List[ClaimTest]]


class Scenario(NamedTuple):
    """Data of which is known whether a claim holds."""

    claim: str  # ``'C1'``, ``'C2'``, ``'C3'`` or ``'planes agree'``
    truth: str  # what the data are, for readers
    holds: bool  # whether the claim does
    n: int  # images; of ``'planes agree'`` the classes
    draw: Draw  # ``(rng, n)`` to the tests of one data set


class Rate(NamedTuple):
    """Verdicts of many data sets of one scenario."""

    scenario: Scenario  # which
    runs: int  # data sets
    supported: float  # share of the runs
    refuted: float  # share that is "not supported"; the rest is undecided

    @property
    def wrong(self) -> float:
        """Share of the runs whose verdict is false."""
        return self.refuted if self.scenario.holds else self.supported


def radius() -> np.ndarray:
    """Distance from the axis of these maps in half diagonals, ``(14, 14)``."""
    axis = np.arange(_SIZE) - (_SIZE - 1) / 2
    return np.hypot(axis, axis[:, None]) * np.sqrt(2) / _SIZE


def images_of(
    mean_map: np.ndarray, n: int, rng: np.random.Generator, noise: float
) -> EnergySummary:
    """So many images whose energy scatters about a map, pixel by pixel."""
    scatter = rng.gamma(1 / noise**2, noise**2, (n, *mean_map.shape))
    total = EnergyAccumulator()
    total.update(torch.from_numpy(mean_map * scatter))
    return total.summary()


def _energy(
    tests_of: Callable[[EnergySummary], List[ClaimTest]],
    mean_map: np.ndarray,
    uneven: float = 0.0,
    noise: float = 0.5,
) -> Draw:
    """Images about a map, which is uneven in the same way for all of them."""

    def draw(rng: np.random.Generator, n: int) -> List[ClaimTest]:
        pattern = 1 + uneven * rng.standard_normal(mean_map.shape).clip(-3, 3)
        return tests_of(images_of(mean_map * pattern, n, rng, noise))

    return draw


def profile_map(crown: float, brim: float) -> np.ndarray:
    """A quartic profile, trough at ``r = 0.6``, of that crown and brim.

    Either side of the trough has a curvature of its own.
    """
    r = radius()
    square, low, last = r**2, 0.6**2, r.max() ** 2
    inner = crown * (1 - square / low) ** 2
    outer = brim * ((square - low) / (last - low)) ** 2
    return 1 + np.where(square < low, inner, outer)


def angles_of(
    theta: np.ndarray, labels: np.ndarray, classes: int
) -> ClassAngleSummary:
    """Sums of angles ``(n,)`` of that class."""
    total = AngleAccumulator(classes, _BINS)
    moments = np.stack([np.cos(theta), np.sin(theta)], 1)
    total.update(torch.from_numpy(moments), torch.from_numpy(labels))
    return total.summary()


def _classes(step: float, kappas: Sequence[float], permutations: int) -> Draw:
    """Ten classes in one plane, neighbours ``step`` radians apart.

    Von Mises' kappa is one of the two in turn.
    """

    def draw(rng: np.random.Generator, n: int) -> List[ClaimTest]:
        labels = np.arange(n) % 10
        kappa = np.array(kappas)[labels % 2]
        theta = rng.vonmises(0.4 + step * labels, kappa)
        plane = angles_of(theta, labels, 10)
        return angle_tests(
            dict(image=plane), permutations, int(rng.integers(9))
        )

    return draw


def _planes(
    spread: float, noise: Optional[float], permutations: int, turn: int = 1
) -> Draw:
    """Class angles in two planes, of which the second may turn against.

    Von Mises' kappa is ``spread`` for the classes, 0 is all around the circle,
    and ``noise`` for the second plane about the first; None says that they
    have nothing to do with each other.
    """

    def draw(rng: np.random.Generator, n: int) -> List[ClaimTest]:
        first = rng.vonmises(0.3, spread, n)
        second = rng.vonmises(-1.0, spread, n)
        if noise is not None:
            second = turn * first + 1.1 + rng.vonmises(0, noise, n)
        labels = np.repeat(np.arange(n), 4)  # enough images to be judged
        planes = {
            name: angles_of(theta[labels], labels, n)
            for name, theta in (('image', first), ('feature', second))
        }
        return angle_tests(planes, permutations)[-1:]

    return draw


def _energy_scenarios() -> List[Scenario]:
    """Scenarios of C1 and C2.

    An image's energy scatters about the map by half of it, pixel by pixel,
    where the truth does not tell of another noise.
    """
    r, flat = radius(), np.ones((_SIZE, _SIZE))
    uneven = 0.1
    peak = 1 + np.exp(-(r**2) / (2 * 0.3**2))
    bowl, beside = 1 + r**8, np.roll(peak, 3, 1)
    rings, hat = 1 + 0.5 * np.cos(4 * np.pi * r), profile_map(0.5, 0.5)
    makers = dict(C1=concentration_tests, C2=sombrero_tests)
    cases = []
    for claim, truth, holds, n, mean_map, off in (
        ('C1', 'flat', False, 200, flat, 0.0),
        ('C1', 'flat, pixels uneven by 10 %', False, 1000, flat, uneven),
        ('C1', 'peak beside the axis', False, 200, beside, 0.0),
        ('C1', 'peak of 0.05', False, 1000, 0.95 + 0.05 * peak, 0.0),
        ('C1', 'bowl', False, 200, bowl, 0.0),
        ('C1', 'peak on the axis', True, 200, peak, 0.0),
        ('C1', 'peak on the axis, uneven by 10 %', True, 200, peak, uneven),
        ('C2', 'flat', False, 200, flat, 0.0),
        ('C2', 'flat, pixels uneven by 10 %', False, 1000, flat, uneven),
        ('C2', 'peak, no brim', False, 1000, peak, 0.0),
        ('C2', 'peak, no brim, uneven by 10 %', False, 1000, peak, uneven),
        ('C2', 'bowl, no crown', False, 1000, bowl, 0.0),
        ('C2', 'bowl, no crown, uneven by 5 %', False, 1000, bowl, uneven / 2),
        ('C2', 'rings, no Sombrero', False, 200, rings, 0.0),
        ('C2', 'crown, brim 0.02', False, 1000, profile_map(0.02, 0.02), 0.0),
        ('C2', 'crown, brim 0.2', True, 200, profile_map(0.2, 0.2), 0.0),
        ('C2', 'crown, brim 0.5', True, 20, hat, 0.0),
        ('C2', 'crown, brim 0.5', True, 200, hat, 0.0),
        ('C2', 'crown, brim 0.5, uneven by 10 %', True, 200, hat, uneven),
    ):
        draw = _energy(makers[claim], mean_map, off)
        cases.append(Scenario(claim, truth, holds, n, draw))
    for claim, truth, holds, n, mean_map in (
        ('C1', 'flat', False, 20, flat),
        ('C1', 'peak on the axis', True, 20, peak),
        ('C1', 'peak on the axis', True, 50, peak),
        ('C1', 'peak on the axis', True, 200, peak),
        ('C1', 'peak beside the axis', False, 20, beside),
        ('C2', 'flat', False, 20, flat),
        ('C2', 'peak, no brim', False, 20, peak),
        ('C2', 'bowl, no crown', False, 20, bowl),
        ('C2', 'rings, no Sombrero', False, 20, rings),
        ('C2', 'crown, brim 0.5', True, 20, hat),
        ('C2', 'crown, brim 0.5', True, 50, hat),
        ('C2', 'crown, brim 0.5', True, 200, hat),
    ):
        draw = _energy(makers[claim], mean_map, noise=3)
        description = f'{truth}, noise 3'
        cases.append(Scenario(claim, description, holds, n, draw))
    return sorted(cases, key=lambda scenario: scenario.claim)


def scenarios(permutations: int = 199) -> List[Scenario]:
    """All of them."""
    cases = _energy_scenarios()
    for truth, holds, n, step, *kappas in (
        ('no angle at all', False, 20, 0.0, 0.0, 0.0),
        ('no angle at all', False, 500, 0.0, 0.0, 0.0),
        ('one angle for all classes', False, 500, 0.0, 4.0, 4.0),
        ('one angle for all classes', False, 20000, 0.0, 4.0, 4.0),
        ('one angle for half of the classes', False, 500, 0.0, 10.0, 0.0),
        ('one angle for half of the classes', False, 20000, 0.0, 10.0, 0.0),
        ('means over 0.9 rad', True, 500, 0.1, 2.0, 2.0),
        ('means all around', True, 500, 0.6, 2.0, 2.0),
    ):
        draw = _classes(step, kappas, permutations)
        cases.append(Scenario('C3', truth, holds, n, draw))
    for truth, holds, n, spread, noise, turn in (
        ('unrelated, all around', False, 10, 0.0, None, 1),
        ('unrelated, in an arc', False, 10, 4.0, None, 1),
        ('unrelated, all around', False, 200, 0.0, None, 1),
        ('turned, all around', True, 10, 0.0, 4.0, 1),
        ('turned against, all around', True, 10, 0.0, 4.0, -1),
        ('turned, in an arc', True, 10, 4.0, 40.0, 1),
        ('turned, all around', True, 50, 0.0, 1.0, 1),
    ):
        draw = _planes(spread, noise, permutations, turn)
        cases.append(Scenario('planes agree', truth, holds, n, draw))
    return cases


def verdict_of(
    tests: Sequence[ClaimTest], least: Optional[float] = None
) -> str:
    """The verdict of one claim, with another least effect where it is > 0."""
    if least is not None:
        tests = [t._replace(least=least) if t.least > 0 else t for t in tests]
    return claim_verdict(judge(dict(data=tests)))


@checked()
def rate(
    scenario: Scenario,
    runs: Count,
    seed: Seed = 0,
    leasts: Sequence[float] = (),
) -> Dict[Optional[float], Rate]:
    """Judge many data sets of a scenario.

    Args:
        scenario (Scenario): Which.
        runs (int): Data sets.
        seed (int): Of the first; each has a stream of its own.
        leasts (Sequence[float]): Least effects to try beside the default.

    Returns:
        Dict: By least effect; None is the default.
    """
    names: List[Optional[float]] = [None, *leasts]
    verdicts: Dict[Optional[float], List[str]] = {name: [] for name in names}
    for run in range(runs):
        rng = np.random.default_rng((seed, run))
        tests = scenario.draw(rng, scenario.n)
        for name in names:
            verdicts[name].append(verdict_of(tests, name))
    return {
        name: Rate(
            scenario,
            runs,
            outcomes.count(SUPPORTED) / runs,
            outcomes.count(REFUTED) / runs,
        )
        for name, outcomes in verdicts.items()
    }
