"""The differences of two networks as readers see them."""

import math
from typing import Dict, List, Tuple

from ...measure.estimate import Estimate
from ..markup import markdown
from .comparison import Comparison, Difference, Pair
from .drawing import short
from .paired_statistics import STATISTICS


def rows_of(comparison: Comparison, pair: Pair) -> List[Difference]:
    """The differences of one pair of layers."""
    return [
        row
        for row in comparison.differences
        if row.first_layer == pair.first.name
    ]


def verdict_words(row: Difference) -> str:
    """The verdict, and why it is undecided."""
    return f'{row.verdict} ({row.obstacle})' if row.obstacle else row.verdict


def _cell(estimate: Estimate) -> str:
    if not math.isfinite(estimate.value):
        return '–'
    if math.isnan(estimate.low):
        return f'{estimate.value:.3f}'
    return f'{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]'


def _pvalue(value: float) -> str:
    if math.isnan(value):
        return '–'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'


def titles(facts: Dict[str, str], comparison: Comparison) -> Tuple[str, str]:
    """Both networks' names, with their weights where the names are one.

    Args:
        facts (Dict[str, str]): Of the first network.
        comparison (Comparison): Of both.
    """
    both = facts, comparison.facts
    names = [own['network'] for own in both]
    if names[0] == names[1]:
        names = [f'{own["network"]} ({own["weights"]})' for own in both]
    return names[0], names[1]


def markdown_table(facts: Dict[str, str], comparison: Comparison) -> str:
    """The differences as a page of Markdown.

    Args:
        facts (Dict[str, str]): Of the first network.
        comparison (Comparison): Of both.
    """
    first, second = titles(facts, comparison)
    lines = [
        f'# {markdown(first)} against {markdown(second)}',
        '',
        '| layer | against | matched by | statistic | first | second | '
        'difference | p (Holm) | first is |',
        '|---|---|---|---|---:|---:|---:|---:|---|',
    ]
    for pair in comparison.pairs:
        for row in rows_of(comparison, pair):
            claim, words = STATISTICS[row.statistic]
            lines.append(
                f'| {markdown(short(row.first_layer))} '
                f'| {markdown(short(row.second_layer))} | {pair.how} '
                f'| {claim}: {words} | {_cell(row.first)} '
                f'| {_cell(row.second)} | {_cell(row.difference)} '
                f'| {_pvalue(row.corrected)} | {verdict_words(row)} |'
            )
    lines += [
        f'\n{markdown(short(pair.first.name))} against '
        f'{markdown(short(pair.second.name))}: {pair.remark}.'
        for pair in comparison.pairs
        if pair.remark
    ]
    return '\n'.join(lines) + '\n'
