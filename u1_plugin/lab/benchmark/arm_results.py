"""What a table of runs says, in numbers and in words."""

import math
from typing import Collection, Dict, List, NamedTuple, Optional, Tuple

from ...extras import needs
from ..statistics import interval_text
from .arm_statistics import (
    ArmComparison,
    compare,
    detectable_gain,
    fewest_pairs,
    holm,
    seeds_needed,
)

with needs('lab'):
    import pandas as pd

LEVEL = 0.05


class ArmResult(NamedTuple):
    """One arm of one config."""

    arm: str
    role: str
    n: int  # seeds that the baseline has as well
    mean: float  # of the metric over these seeds
    #: None for the baseline itself and for fewer than 2 pairs.
    to_baseline: Optional[ArmComparison]
    holm: float  # the permutation p, corrected over the arms of a table
    cpu: float  # median ratio of processor time to the baseline's
    cpu_quartiles: tuple  # first and third quartile of these ratios
    memory: float  # median ratio of peak memory to the baseline's
    parameters: int  # while training
    missing: tuple  # the baseline's seeds without a run of this arm


def baseline_of(table: pd.DataFrame) -> str:
    """Name of the one baseline.

    Raises:
        ValueError: If there is none or more than one.
    """
    names = sorted(set(table[table.role == 'baseline'].arm))
    if len(names) != 1:
        raise ValueError(
            f'role=baseline: {names or "no arm"} in results.csv; a report '
            'compares with exactly one, so let its runs finish first'
        )
    return names[0]


def by_seed(table: pd.DataFrame, metric: str) -> Dict[str, pd.Series]:
    """A column of one config's table by arm and seed, without what is missing.

    Raises:
        ValueError: If a run occurs twice.
    """
    twice = table[table.duplicated(['arm', 'seed'])]
    if len(twice):
        raise ValueError(
            f'results.csv has two rows of {twice.arm.iloc[0]}, seed '
            f'{twice.seed.iloc[0]}; write it again with tools/benchmark.py'
        )
    return {
        arm: runs.set_index('seed')[metric].dropna().sort_index()
        for arm, runs in table.groupby('arm', sort=False)
    }


def paired(values: pd.Series, control: pd.Series) -> Optional[ArmComparison]:
    """Over the seeds that both have; None below 2."""
    seeds = values.index.intersection(control.index)
    if len(seeds) < 2:
        return None
    return compare(values[seeds], control[seeds])


def _ratios(
    runs: pd.DataFrame, baseline: pd.DataFrame, column: str
) -> pd.Series:
    treated, control = (t.set_index('seed')[column] for t in (runs, baseline))
    return (treated / control).dropna()


def arm_results(table: pd.DataFrame, metric: str) -> List[ArmResult]:
    """Every arm against the baseline, paired by seed, Holm over the arms.

    Args:
        table (pd.DataFrame): Of one config, the baseline included.
        metric (str): ``test_top1``, or ``val_top1`` for ablations.

    Returns:
        List[ArmResult]: In the order of the table, the baseline first.

    Raises:
        ValueError: If there is no single baseline or a run occurs twice.
    """
    baseline = baseline_of(table)
    series = by_seed(table, metric)
    control = series[baseline]
    compared = {
        arm: None if arm == baseline else paired(values, control)
        for arm, values in series.items()
    }
    corrected = holm(
        {arm: c.permutation for arm, c in compared.items() if c is not None}
    )
    reference = table[table.arm == baseline]
    on_gpu = table.peak_cuda_mib.notna().all()
    memory = 'peak_cuda_mib' if on_gpu else 'peak_rss_mib'
    results = []
    for arm in sorted(series, key=lambda name: name != baseline):
        runs = table[table.arm == arm]
        cpu = _ratios(runs, reference, 'cpu_s')
        seeds = series[arm].index.intersection(control.index)
        results.append(
            ArmResult(
                arm,
                runs.role.iloc[0],
                len(seeds),
                float(series[arm][seeds].mean()),
                compared[arm],
                corrected.get(arm, math.nan),
                float(cpu.median()),
                tuple(cpu.quantile([0.25, 0.75])),
                float(_ratios(runs, reference, memory).median()),
                int(runs.parameters.iloc[0]),
                tuple(map(int, control.index.difference(seeds))),
            )
        )
    return results


def against(
    table: pd.DataFrame, metric: str, arm: str, role: str
) -> Dict[str, Optional[ArmComparison]]:
    """One arm against every other arm of a role, paired by seed."""
    series = by_seed(table, metric)
    return {
        other: paired(series[arm], series[other])
        for other in table[table.role == role].arm.unique()
        if other != arm
    }


def interval(comparison: ArmComparison) -> str:
    """``+0.20 [-0.10, +0.50]``."""
    return interval_text(comparison.mean, comparison.low, comparison.high)


def seen_and_needed(
    comparison: ArmComparison, gain: float, alpha: float
) -> Tuple[str, str]:
    """The smallest gain that the pairs show, and the pairs that a gain takes.

    'none' and no fewer than the permutation test needs to show any.
    """
    fewest = fewest_pairs(alpha)
    needed = max(seeds_needed(comparison.sd, gain, alpha=alpha), fewest)
    if comparison.n < fewest:
        return 'none', f'{needed:,}'
    seen = detectable_gain(comparison.sd, comparison.n, alpha=alpha)
    return f'{seen:+.2f}', f'{needed:,}'


def plain_conclusion(result: ArmResult) -> str:
    """What the comparison with the baseline shows, in words."""
    c = result.to_baseline
    if c is None:
        return 'fewer than 2 pairs: nothing can be said'
    if c.mean == c.sd == 0:
        return 'equal to the baseline in every pair'
    return shown_by(c, result.holm, 'the baseline', 'arms')


def shown_by(
    comparison: ArmComparison, corrected: float, reference: str, family: str
) -> str:
    """What interval, permutation test and Holm's correction show together.

    Args:
        comparison (ArmComparison): Of arms that differ in some pair.
        corrected (float): Its permutation p after the correction.
        reference (str): What it is compared to.
        family (str): What is corrected for the number of.
    """
    verdict, p = comparison.verdict, comparison.permutation
    if verdict == 'no effect here':
        if math.isnan(comparison.low):
            return 'no effect here: the mean is 0 and has no interval'
        return 'no effect here: the interval contains 0'
    if p >= LEVEL:
        by = 'by the interval'
        if math.isnan(comparison.low):
            by = 'by as much in every pair'
        return (
            f'{verdict} {by}, but not by the permutation test (p = {p:.3f}): '
            'no effect is shown'
        )
    if corrected >= LEVEL:
        return (
            f'{verdict}, but not after the correction for the number of '
            f'{family} (p = {corrected:.3f}): no effect is shown'
        )
    return f'{verdict} than {reference}'


def conclusion(
    result: ArmResult,
    controls: Dict[str, Optional[ArmComparison]],
    sharing: Collection[str] = (),
) -> str:
    """The same, and whether a gain is shown to be U(1)'s own.

    It is only if the arm is also better than every control, by interval and
    permutation test: those share everything with it but what is claimed to
    matter. All of them must be beaten, so nothing is corrected once more. Of a
    control with so few pairs that no test could show it, the interval decides,
    and the sentence says so.

    Args:
        result (ArmResult): Of a U(1) arm.
        controls (Dict[str, ArmComparison | None]): The arm against each planned
            control; None where too few of its runs are there.
        sharing (Collection[str]): Controls shown to be better than the
            baseline themselves.
    """
    words = plain_conclusion(result)
    if not words.startswith('higher than'):
        return words
    if not controls:
        return (
            'higher than the baseline, but no control was run: whose gain it '
            'is stays open'
        )
    # 2 / 2^n is the smallest p of n pairs.
    fewest = fewest_pairs(LEVEL)
    few = [name for name, c in controls.items() if c and c.n < fewest]
    unbeaten = {
        name: c
        for name, c in controls.items()
        if c is None
        or c.verdict != 'higher'
        or (c.permutation >= LEVEL and (name not in few or math.isnan(c.low)))
    }
    if not unbeaten:
        by_interval = f' ({", ".join(few)} by the interval alone)' * bool(few)
        return (
            f'higher than the baseline and than every control{by_interval}: a '
            'gain of U(1) here'
        )
    texts = [
        f'{name} ({interval(c) if c else "too few pairs"})'
        for name, c in unbeaten.items()
    ]
    words = (
        'higher than the baseline, but not shown to be higher than the control'
        f'{"s" if len(texts) > 1 else ""} {", ".join(texts)}'
    )
    shared = [name for name in unbeaten if name in sharing]
    if shared:
        return (
            f'{words}; {", ".join(shared)} shares the gain: it is not a gain '
            'of U(1)'
        )
    return f'{words}: not shown to be a gain of U(1)'
