"""The picture of :mod:`.claims_table`: numbers of every cell of a table."""

import math
from typing import Dict, Sequence

from ...extras import needs
from ..markup import mathtext
from .claims_plan import WEIGHTS, Cell
from .claims_table import Verdicts
from .judging import REFUTED, SUPPORTED, UNDECIDED

with needs('lab'):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: Columns that are drawn, and what their axis says.
DRAWN = {
    'C1': 'C1: excess share\nof energy at the centre',
    'C3 image plane': 'C3, image plane: share\nof variance predicted',
    'C4 image angle over the plain vote': 'C4: angle less\nplain vote, points',
    'C4 image angle beyond position': 'C4: angle less\nposition, points',
}
#: Colours of Okabe and Ito; markers differ as well, for print.
_STYLE: Dict[str, Dict[str, str]] = {
    SUPPORTED: dict(color='#0072B2', marker='o'),
    REFUTED: dict(color='#D55E00', marker='X'),
    UNDECIDED: dict(color='0.45', marker='D'),
}
_SMALL = 9


def draw(cells: Sequence[Cell], verdicts: Verdicts) -> Figure:
    """Numbers with their intervals, a row a cell, a panel a column.

    A cell that lacks a column has no mark there, and a column that all lack
    no panel.
    """
    columns = [
        name for name in DRAWN if any(name in verdicts[c] for c in cells)
    ]
    size = 4 + 2 * len(columns), 1.6 + 0.25 * len(cells)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for ax, column in zip(axes, columns):
        ax.axvline(0, color='0.3', lw=1, zorder=1)
        for place, cell in enumerate(cells):
            if column in verdicts[cell]:
                _row(ax, -place, verdicts[cell][column])
        ax.set_title(DRAWN[column], fontsize=_SMALL + 1)
        ax.grid(axis='x', color='0.92')
        ax.set_axisbelow(True)
        ax.tick_params(axis='y', length=0)
        ax.tick_params(labelsize=_SMALL)
        for side in ('top', 'right', 'left'):
            ax.spines[side].set_visible(False)
        _stripes(ax, cells)
    names = [mathtext(_name(cell)) for cell in cells]
    axes[0].set_yticks([-place for place in range(len(cells))], names)
    axes[0].set_ylim(0.7 - len(cells), 0.7)
    handles = [
        Line2D([], [], lw=2, ms=7, mec='white', label=kind, **style)
        for kind, style in _STYLE.items()
    ]
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=len(handles),
        frameon=False,
        fontsize=_SMALL,
    )
    return figure


def _name(cell: Cell) -> str:
    plain = cell.variant == WEIGHTS[0]
    return f'{cell.network}  {cell.data}' + (
        '' if plain else f', {cell.variant}'
    )


def _row(ax: Axes, y: float, verdict) -> None:
    number, style = verdict.number, _STYLE[verdict.verdict]
    if math.isnan(number.value):
        return
    ax.plot([number.low, number.high], [y, y], lw=2, color=style['color'])
    ax.plot(number.value, y, ls='', ms=7, mec='white', zorder=3, **style)


def _stripes(ax: Axes, cells: Sequence[Cell]) -> None:
    """Every other network on a grey ground."""
    names = list(dict.fromkeys(cell.network for cell in cells))
    for place, cell in enumerate(cells):
        if names.index(cell.network) % 2:
            ax.axhspan(-place - 0.5, -place + 0.5, color='0.96', zorder=0)
