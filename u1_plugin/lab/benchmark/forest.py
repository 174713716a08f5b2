"""The forest plot of comparisons over data sets."""

import math
from typing import List, Sequence, Tuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..markup import mathtext
from .across import Across
from .arm_results import interval
from .arm_statistics import ArmComparison

#: Blue and vermilion of Okabe and Ito; markers differ as well, for print.
_SET = dict(color='#0072B2', marker='s')
_POOLED = dict(color='#D55E00', marker='D')
#: Points; the smallest text of the figure.
_SMALL = 9
#: Characters of an arm's name; two of them fit the figure.
_WIDTH = 28


def forest(comparisons: Sequence[Across]) -> Figure:
    """Rows of data sets below each comparison, and a diamond for all of them.

    A data set's line is the interval of its mean paired difference. A diamond
    is as wide as the interval of the mean over data sets; without an interval
    there is the marker alone.

    Args:
        comparisons (Sequence[Across]): From the top; at least 1.
    """
    rows = sum(len(one.sets) + 2 for one in comparisons)
    figure = Figure(figsize=(9, 1.5 + 0.29 * rows), layout='constrained')
    ax = figure.subplots()
    ax.axvline(0, color='0.3', lw=1, zorder=1)
    names: List[Tuple[float, str]] = []
    place = 0.0
    for one in comparisons:
        arms = [mathtext(arm, _WIDTH) for arm in (one.arm, one.reference)]
        # Over the line of zero, which the text may cross.
        box = dict(facecolor='white', edgecolor='none', pad=1.5)
        _beside(
            ax, 0, place, ' less '.join(arms), weight='bold', zorder=2, bbox=box
        )
        for part in one.sets:
            place -= 1
            _row(ax, place, part.comparison, _SET)
            n = part.comparison.n
            names.append((place, f'{mathtext(part.name)}  (n={n})'))
        place -= 1
        _row(ax, place, one.pooled.difference, _POOLED)
        n = one.pooled.difference.n
        names.append((place, f'mean of {len(one.sets)}  (n={n})'))
        place -= 1.4
    _frame(ax, names, place)
    return figure


def _frame(ax: Axes, names: List[Tuple[float, str]], end: float) -> None:
    """Axes, names of the rows and legend."""
    ax.set_yticks(*zip(*names))
    ax.set_ylim(end + 0.7, 0.9)
    ax.set_xlabel('difference of test top-1, percentage points')
    ax.tick_params(axis='y', length=0, labelsize=_SMALL)
    ax.tick_params(axis='x', labelsize=_SMALL)
    ax.grid(axis='x', color='0.92')
    ax.set_axisbelow(True)
    for side in ('top', 'right', 'left'):
        ax.spines[side].set_visible(False)
    handles = [
        Line2D([], [], lw=lw, mec='white', ms=8, label=text, **style)
        for text, lw, style in (
            ('one data set', 2, _SET),
            ('mean over data sets', 0, _POOLED),
        )
    ]
    ax.legend(
        handles=handles,
        loc='lower center',
        bbox_to_anchor=(0.5, 1),
        ncols=2,
        frameon=False,
        fontsize=_SMALL,
    )


def _beside(ax: Axes, x: float, y: float, text: str, **style) -> None:
    """Text at a row; ``x`` is 0 and 1 at the axes' ends."""
    style.setdefault('fontsize', _SMALL)
    transform = ax.get_yaxis_transform()
    ax.text(x, y, text, transform=transform, va='center', **style)


def _row(ax: Axes, y: float, comparison: ArmComparison, style: dict) -> None:
    """A mean with its interval, and both in numbers on the right."""
    pooled = style is _POOLED
    color = style['color']
    weight = 'bold' if pooled else 'normal'
    _beside(ax, 1.02, y, interval(comparison), weight=weight)
    if (
        math.isnan(comparison.low)
        or comparison.low == comparison.high
        or not pooled
    ):
        ax.plot([comparison.low, comparison.high], [y, y], lw=2, color=color)
        ax.plot(comparison.mean, y, ls='', ms=8, mec='white', zorder=3, **style)
        return
    across = [comparison.low, comparison.mean, comparison.high, comparison.mean]
    ax.fill(across, [y, y + 0.3, y, y - 0.3], color=color, lw=0, zorder=3)
