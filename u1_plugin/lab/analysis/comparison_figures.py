"""Pictures of two networks side by side.

The first network is blue with circles, the second orange with triangles; a
difference that is shown has a filled mark, any other an empty one.
"""

from typing import Dict, List, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...measure.estimate import NORMAL_QUANTILE
from ..markup import mathtext
from .comparison import LayerDifference, LayerPair, NetworkComparison
from .drawing import BLUE, ORANGE, draw_map, grid, shown_name, title_of
from .paired_statistics import STATISTICS

_NAMES = ('analysed', 'against')


def map_pairs(pairs: Sequence[LayerPair]) -> Figure:
    """Mean energy of both networks, a column and one scale a pair."""
    columns = max(len(pairs), 1)
    figure = Figure(figsize=(2.8 * columns + 0.9, 7.0), layout='constrained')
    axes = figure.subplots(2, columns, squeeze=False)
    for column, pair in enumerate(pairs):
        most = max(layer.energy.mean_map.max() for layer in pair[:2])
        for row, layer in enumerate(pair[:2]):
            ax = axes[row, column]
            image = draw_map(ax, layer, most)
            ax.set_title(title_of(layer), fontsize=9.5)
            if column == 0:
                ax.set_ylabel(f'{_NAMES[row]}: y (pixels)')
        figure.colorbar(
            image, ax=axes[:, column], shrink=0.8, location='bottom'
        )
    figure.suptitle('mean energy / uniform', fontsize=11)
    return figure


def profile_pairs(pairs: Sequence[LayerPair]) -> Figure:
    """Radial profiles of both networks with their 95 % intervals."""
    figure, axes = grid(max(len(pairs), 1), 3.2)
    for ax, pair in zip(axes, pairs):
        ax.axhline(1, color='0.5', lw=1, ls=':', label='uniform')
        styles = zip(pair[:2], _NAMES, (BLUE, ORANGE), 'o^', ('-', '--'))
        for layer, name, color, marker, line in styles:
            summary = layer.energy
            ax.errorbar(
                summary.rings.radius,
                summary.profile,
                NORMAL_QUANTILE * summary.profile_error,
                fmt=marker,
                ls=line,
                color=color,
                ms=5,
                lw=1.2,
                capsize=2,
                label=name,
            )
        ax.set(
            title=shown_name(pair.first.name),
            xlabel='distance r from the axis (half diagonals)',
            ylabel='energy / uniform',
            xlim=(0, 1.02),
        )
    if len(pairs):
        axes[0].legend(fontsize=8.5, framealpha=0.9)
    return figure


def difference_panels(comparison: NetworkComparison) -> Figure:
    """A panel a statistic: its difference and interval, a row a pair."""
    by_name: Dict[str, List[LayerDifference]] = {}
    for row in comparison.differences:
        by_name.setdefault(row.statistic, []).append(row)
    layers = [pair.first.name for pair in comparison.pairs]
    names = [name for name in STATISTICS if name in by_name]
    figure, axes = grid(max(len(names), 1), 1.3 + 0.34 * len(layers))
    for number, (ax, name) in enumerate(zip(axes, names)):
        ax.axvline(0, color='0.5', lw=1, ls=':')
        for row in by_name[name]:
            _draw_difference(ax, layers.index(row.first_layer), row)
        claim, words = STATISTICS[name]
        ax.set_title(f'{claim}: {words}', fontsize=9.5)
        first = number % 3 == 0
        ax.set(
            yticks=range(len(layers)),
            yticklabels=[shown_name(n) for n in layers] if first else [],
            ylim=(len(layers) - 0.5, -0.5),
        )
        ax.grid(axis='x', color='0.92')
        ax.margins(x=0.15)
        ax.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def _draw_difference(ax, place: int, row: LayerDifference) -> None:
    estimate = row.difference
    if not np.isfinite(estimate.value):
        return
    color = ORANGE if row.verdict == 'lower' else BLUE
    color = color if row.is_shown else '0.35'
    if np.isfinite(estimate.low):
        ax.plot([estimate.low, estimate.high], [place] * 2, color=color, lw=1.8)
    face = color if row.is_shown else 'white'
    marker = {'higher': '>', 'lower': '<'}.get(row.verdict, 'o')
    ax.plot(estimate.value, place, marker, color=color, mfc=face, ms=8)


def pictures_of(
    facts: Dict[str, str], comparison: NetworkComparison
) -> Dict[str, Figure]:
    """All pictures of a comparison; the facts are the first network's."""
    differences = difference_panels(comparison)
    first, second = (mathtext(t, 60) for t in comparison.titles(facts))
    differences.suptitle(f'{first} less {second}', fontsize=11)
    return dict(
        maps=map_pairs(comparison.pairs),
        profiles=profile_pairs(comparison.pairs),
        differences=differences,
    )
