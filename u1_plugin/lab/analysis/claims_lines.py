"""Sentences on the table of claims, out of its numbers."""

import math
from collections import Counter
from typing import Dict, List, Mapping, NamedTuple, Sequence

import numpy as np

from ...measure.estimate import Estimate, t_estimate
from ..markup import markdown as escaped
from ..statistics import interval_text
from .claims_cell import Measured
from .claims_plan import Cell, Plan
from .claims_table import Verdict, Verdicts, count, is_gain
from .judging import REFUTED, SUPPORTED, UNDECIDED

#: What a variant is told of.
TOLD = (
    'C1',
    'C3 feature plane',
    'C3 image plane',
    'C4 image angle over the plain vote',
    'C4 position over the plain vote',
    'C4 image angle beyond position',
    'C4 image angle beyond the central pixels',
)


class Page(NamedTuple):
    """What a page tells."""

    plan: Plan  # what was asked
    measured: Dict[Cell, Measured]  # what is there
    verdicts: Verdicts  # of these
    command: str  # that makes the page


def short(column: str) -> str:
    """Shorten a column's name to what a sentence needs of it."""
    return column.replace('image angle', 'angle').replace(
        ' the plain', ' plain'
    )


def column_line(column: str, by_cell: Mapping[Cell, Verdict]) -> str:
    """One sentence on one column of many cells, in Markdown."""
    verdicts = list(by_cell.values())
    kinds, n = count(verdicts), len(verdicts)
    where = {0: 'nowhere', n: 'throughout'}.get(kinds[SUPPORTED], 'in part')
    where = f'supported {where}'
    text = (
        f'**{escaped(column)}: {where}.** Supported in {kinds[SUPPORTED]} of '
        f'{n} cells, not supported in {kinds[REFUTED]}, undecided in '
        f'{kinds[UNDECIDED]}'
    )
    aspects = Counter(
        one.deciding.test.aspect
        for one in verdicts
        if one.verdict != SUPPORTED and len(one.findings) > 1
    )
    if aspects:
        what = ', '.join(f'{name} ({k})' for name, k in aspects.most_common())
        text += f'; elsewhere it rests on {escaped(what)}'
    return f'{text}. {_numbers_line(column, by_cell)}'


def _numbers_line(column: str, verdicts: Mapping[Cell, Verdict]) -> str:
    defined = {
        cell: verdict.number
        for cell, verdict in verdicts.items()
        if not math.isnan(verdict.number.value)
    }
    if not defined:
        return 'No cell has a number.'
    numbers = list(defined.values())
    values = [number.value for number in numbers]
    if not is_gain(column):
        return (
            f'Its number: median {np.median(values):.3f}, from '
            f'{min(values):.3f} to {max(values):.3f}.'
        )
    above = sum(number.low > 0 for number in numbers)
    below = sum(number.high < 0 for number in numbers)
    return (
        f'Mean over the cells {np.mean(values):+.2f} points, from '
        f'{min(values):+.2f} to {max(values):+.2f}; uncorrected, the interval '
        f'lies above 0 in {above} and below 0 in {below}.{_over_data(defined)}'
    )


def _over_data(estimates: Mapping[Cell, Estimate]) -> str:
    """The mean over data sets, each the mean of its networks.

    Networks see the same images; other images are other observations.
    """
    by_data: Dict[str, List[float]] = {}
    for cell, number in estimates.items():
        by_data.setdefault(cell.data, []).append(number.value)
    means = [float(np.mean(values)) for values in by_data.values()]
    n = len(means)
    if n < 2:
        return ''
    error = float(np.std(means, ddof=1)) / math.sqrt(n)
    mean = t_estimate(float(np.mean(means)), error, n - 1)
    text = interval_text(*mean[:3])
    return f" Over the {n} data sets, of the networks' means: {text}."


def label_of(cell: Cell, plan: Plan) -> str:
    """What a cell varies; empty if nothing."""
    twin = plan.twin(cell)
    parts = [cell.variant] if cell.variant != twin.variant else []
    parts += [cell.data] if cell.data != twin.data else []
    return ' on '.join(parts)


def variant_lines(page: Page, cells: Sequence[Cell]) -> List[str]:
    """One sentence on each variant, beside the cells that it varies."""
    groups: Dict[str, List[Cell]] = {}
    for cell in cells:
        label = label_of(cell, page.plan)
        if label and {cell, page.plan.twin(cell)} <= page.measured.keys():
            groups.setdefault(label, []).append(cell)
    lines = []
    for label, variants in groups.items():
        twins = [page.plan.twin(cell) for cell in variants]
        parts = []
        for column in TOLD:
            both = [
                (page.verdicts[twin][column], page.verdicts[cell][column])
                for twin, cell in zip(twins, variants)
                if column in page.verdicts[twin]
                and column in page.verdicts[cell]
            ]
            if both:
                parts.append(f'{escaped(short(column))} {_change(both)}')
        lines.append(
            f'**{escaped(label)}** ({len(variants)} cells): {"; ".join(parts)}.'
        )
    return lines


def _change(both: Sequence[tuple]) -> str:
    """Mean numbers and how many are supported, before and after."""
    gain = is_gain(both[0][0].column)
    shown, kinds = [], []
    for side in zip(*both):
        mean = np.nanmean([verdict.number.value for verdict in side])
        shown.append(f'{mean:+.2f}' if gain else f'{mean:.3f}')
        kinds.append(str(count(side)[SUPPORTED]))
    return f'{shown[0]} → {shown[1]} (supported {kinds[0]} → {kinds[1]})'
