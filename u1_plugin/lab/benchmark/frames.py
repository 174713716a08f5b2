"""Tables and sentences of a benchmark's report."""

import json
import math
from typing import Dict, List, Sequence, Tuple

from ...extras import needs
from ..markup import markdown as escaped
from .arm_results import (
    LEVEL,
    ArmResult,
    against,
    by_seed,
    conclusion,
    interval,
    paired,
    plain_conclusion,
    seen_and_needed,
)
from .arm_statistics import ArmComparison, holm

with needs('lab'):
    import pandas as pd


def markdown(frame: pd.DataFrame) -> str:
    """A table of plain text; all but the first column flush right."""
    rows = [frame.columns, *frame.itertuples(index=False)]
    lines = ['| ' + ' | '.join(map(escaped, row)) + ' |' for row in rows]
    lines.insert(1, '|---' + '|---:' * (frame.shape[1] - 1) + '|')
    return '\n'.join(lines)


def p_text(value: float) -> str:
    """Write a p-value with three decimals; NaN, an undefined one, as ''."""
    if math.isnan(value):
        return ''
    return '< 0.001' if value < 0.001 else f'{value:.3f}'


def _with_sign(value: float) -> str:
    text = p_text(value)
    return f'p {text}' if text.startswith('<') else f'p = {text}'


def processors_line(runs: pd.DataFrame, pair: List[str]) -> str:
    """Say of how many pairs, by these columns, processors differ; else ''.

    Another kind rounds otherwise, and the same seed gives another network.
    """
    kinds = runs.groupby(pair).hardware.nunique()
    if not (kinds > 1).any():
        return ''
    return (
        f'{(kinds > 1).sum()} of {len(kinds)} seeds have runs on more than '
        'one kind of processor, so that pairs differ by more than the arm.'
    )


def versions_line(table: pd.DataFrame) -> str:
    """Package versions; several of one package are all named."""
    by_package: Dict[str, set] = {}
    for text in table.versions.unique():
        for package, version in json.loads(text).items():
            by_package.setdefault(package, set()).add(str(version))
    return ', '.join(
        f'{package} {" and ".join(sorted(versions))}'
        for package, versions in by_package.items()
    )


def tiers(plan: pd.DataFrame, config: str) -> Tuple[List[str], List[str]]:
    """Arms that have all seeds of the baseline, and those with fewer."""
    planned = plan[(plan.config == config) & (plan.role != 'ablation')]
    seeds = planned.groupby('arm', sort=False).seed.nunique()
    baseline = planned[planned.role == 'baseline'].arm
    if baseline.empty:
        raise ValueError(
            f'planned.csv has no baseline of {config}, of which results.csv '
            'has runs; call tools/benchmark.py again'
        )
    most = seeds[baseline.iloc[0]]
    return list(seeds[seeds >= most].index), list(seeds[seeds < most].index)


def arms_frame(results: Sequence[ArmResult], score: str) -> pd.DataFrame:
    """Tabulate each arm's mean, difference to the baseline, p-values and cost.

    Args:
        results (Sequence[ArmResult]): A row each.
        score (str): Title of the column of means.
    """
    rows = []
    for r in results:
        c = r.to_baseline
        low, high = r.cpu_quartiles
        rows.append(
            {
                'arm': r.arm,
                'role': r.role,
                'n': r.n,
                score: f'{r.mean:.2f}',
                'difference': interval(c) if c else '',
                'Wilcoxon p': p_text(c.wilcoxon) if c else '',
                'permutation p': p_text(c.permutation) if c else '',
                'Holm p': p_text(r.holm),
                'CPU': f'{r.cpu:.2f} ({low:.2f} to {high:.2f})' if c else '',
                'memory': f'{r.memory:.2f}' if c else '',
                'parameters': f'{r.parameters:,}',
            }
        )
    return pd.DataFrame(rows)


def others_frame(
    table: pd.DataFrame, results: Sequence[ArmResult], metric: str
) -> pd.DataFrame:
    """Controls and rivals by U(1) arms: the many go down the page.

    It is empty where the results lack the ones or the others.
    """
    arms = [r.arm for r in results if r.role == 'u1']
    columns: Dict[str, Dict[str, str]] = {}
    for arm in arms:
        cells = {}
        for role in ('control', 'rival'):
            for other, c in against(table, metric, arm, role).items():
                cells[f'{other} ({role})'] = interval(c) if c else ''
        columns[arm] = cells
    frame = pd.DataFrame(columns)
    frame.insert(0, 'to', frame.index)
    return frame


def seeds_frame(results: Sequence[ArmResult], gain: float) -> pd.DataFrame:
    """Tabulate the gain that each arm's pairs can show, and seeds for a gain.

    An arm whose differences to the baseline are all equal has no row.

    Args:
        results (Sequence[ArmResult]): Of one config; those that have been
            compared to the baseline get a row.
        gain (float): In points, for which the needed seeds are counted.
    """
    compared = [r for r in results if r.to_baseline is not None]
    rows = []
    for r in compared:
        c = r.to_baseline
        if c.sd == 0:
            continue
        alpha = LEVEL / len(compared)  # what Holm asks of the smallest p
        seen, needed = seen_and_needed(c, gain, alpha)
        rows.append(
            {
                'arm': r.arm,
                'n': r.n,
                'sd': f'{c.sd:.2f}',
                'gain seen with n': seen,
                f'seeds for +{gain}': needed,
            }
        )
    return pd.DataFrame(rows)


def conclusions(
    table: pd.DataFrame,
    results: Sequence[ArmResult],
    metric: str,
    planned_controls: Sequence[str] = (),
) -> List[str]:
    """A sentence an arm of one config.

    Args:
        table (pd.DataFrame): All its runs, those of controls with fewer seeds
            as well: a gain is U(1)'s only above every control.
        results (Sequence[ArmResult]): Of the arms that get a sentence.
        metric (str): A column of the table.
        planned_controls (Sequence[str]): One that is not in the table yet is
            not beaten.
    """
    words = {r.arm: plain_conclusion(r) for r in results}
    sharing = [
        r.arm
        for r in results
        if r.role == 'control' and words[r.arm].startswith('higher than')
    ]
    lines = []
    for r in results:
        if r.to_baseline is None and r.role == 'baseline':
            continue
        if r.role == 'u1':
            controls = dict.fromkeys(planned_controls)
            controls.update(against(table, metric, r.arm, 'control'))
            words[r.arm] = conclusion(r, controls, sharing)
        incomplete = f' (without seeds {list(r.missing)})' if r.missing else ''
        lines.append(
            f'**{escaped(r.arm)}**{incomplete}: {escaped(words[r.arm])}.'
        )
    return lines


def floor_line(results: Sequence[ArmResult]) -> str:
    """The smallest p that so many pairs can give, and what Holm makes of it.

    Of the arm with the most pairs: what that cannot show, none can.
    """
    compared = [r for r in results if r.to_baseline is not None]
    if not compared:
        return ''
    n = max(r.n for r in compared)
    floor = 2 / 2**n
    line = f'{n} pairs give no permutation p below {floor:.2g}'
    if floor * len(compared) >= LEVEL:
        return (
            f'**{line}; over {len(compared)} arms Holm turns even that into '
            f'{min(1, floor * len(compared)):.2f}, so this table cannot show '
            'an effect of a single arm.**'
        )
    return line + '.'


def ablation_lines(results: Sequence[ArmResult]) -> List[str]:
    """The best variant of each method on the validation split.

    ``arcface+scale-8`` is a variant of ``arcface``.
    """
    groups: Dict[str, List[ArmResult]] = {}
    for r in results:
        if r.role in ('u1', 'ablation'):
            method, plus, _ = r.arm.partition('+')
            groups.setdefault(method if plus else '', []).append(r)
    lines = []
    for method, tried in groups.items():
        tried = [r for r in tried if r.n]
        if not tried:
            continue
        # Means are over an arm's own seeds: only those with the most compare.
        best = max(tried, key=lambda r: (r.n, r.mean))
        difference = (
            f', {interval(best.to_baseline)}: {plain_conclusion(best)}'
            if best.to_baseline
            else ''
        )
        of = f' of {escaped(method)}' if method else ''
        lines.append(
            f'Best of {len(tried)}{of}: **{escaped(best.arm)}**{difference}.'
        )
    return lines


def _behaviour_row(
    rows: pd.DataFrame, baseline: str
) -> Tuple[Dict[str, str], Dict[str, ArmComparison]]:
    """One quantity: a cell an arm, and the comparisons to the baseline."""
    series = by_seed(rows, 'value')
    cells, compared = {}, {}
    for arm, values in series.items():
        text = f'{values.mean():.2f}' if len(values) else 'never'
        runs = (rows.arm == arm).sum()
        if 0 < len(values) < runs:
            text += f' ({len(values)} of {runs} runs)'
        if arm != baseline and baseline in series:
            c = paired(values, series[baseline])
            if c is not None:
                compared[arm] = c
                text += f', {interval(c)}'
        cells[arm] = text
    return cells, compared


def behaviour_frame(
    values: pd.DataFrame, baseline: str
) -> Tuple[pd.DataFrame, List[str]]:
    """The table, and per quantity a line on what survives the correction.

    Holm's correction is over the arms of one quantity: over all cells of the
    table ten pairs could show nothing, however large the effect.

    Args:
        values (pd.DataFrame): ``behaviour.csv``, of one config.
        baseline (str): Name of the arm that the others are paired with.
    """
    values = values[values.detail.isna() | (values.detail == '')]
    columns, lines = {}, []
    for quantity, rows in values.groupby('quantity', sort=False):
        columns[quantity], compared = _behaviour_row(rows, baseline)
        corrected = holm({arm: c.permutation for arm, c in compared.items()})
        shown = [
            f'{c.verdict} for {escaped(arm)} ({_with_sign(corrected[arm])})'
            for arm, c in compared.items()
            if c.verdict != 'no effect here' and corrected[arm] < LEVEL
        ]
        words = '; '.join(shown) or 'no effect of any arm is shown'
        if not compared:
            words = 'not compared: fewer than 2 pairs have a value'
        lines.append(f'**{escaped(quantity)}**: {words}.')
    frame = pd.DataFrame(columns).T
    frame.insert(0, 'quantity', frame.index)
    return frame.fillna(''), lines
