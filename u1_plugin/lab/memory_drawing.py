"""Pictures of query images and of the memory pixels nearest to theirs.

Apart from the package's other modules, so that only who draws needs
matplotlib.
"""

from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..measure.visualization import COLORS

# Without the pale ones: a mark must be seen on any image.
_COLORS = (COLORS[0], COLORS[7], COLORS[3], COLORS[6], COLORS[2], COLORS[8])
_HALO = [patheffects.withStroke(linewidth=4, foreground='white')]


class Cell(NamedTuple):
    """The part of an image that a pixel of its map stands for.

    Attributes:
        center (Tuple[float, float]): x to the right and y *down* from the top
            left corner, in units of the image's width and height.
        size (Tuple[float, float]): Width and height, in the same units.
    """

    center: Tuple[float, float]
    size: Tuple[float, float]


class Match(NamedTuple):
    """A query's pixel and the memory's nearest one.

    Attributes:
        image (np.ndarray): The memory's, ``(H, W, 3)``, RGB, uint8.
        title (str): Above it.
        query (Cell, optional): On the query image; None if its whole image
            was asked.
        memory (Cell, optional): On the memory's image.
    """

    image: np.ndarray
    title: str
    query: Optional[Cell] = None
    memory: Optional[Cell] = None


class QueryRow(NamedTuple):
    """A query image ``(H, W, 3)`` and what was found for it."""

    image: np.ndarray
    title: str
    matches: Sequence[Match]


def cell_of(position: Sequence[float], shape: Tuple[int, int]) -> Cell:
    """The cell of a map's pixel.

    Args:
        position (Sequence[float]): As :class:`~.bank.Pixels` has it.
        shape (Tuple[int, int]): ``(H, W)`` of the map.
    """
    height, width = shape
    unit = max(np.hypot(width - 1, height - 1) / 2, 0.5)
    x = 0.5 + float(position[0]) * unit / width
    y = 0.5 - float(position[1]) * unit / height
    return Cell((x, y), (1 / width, 1 / height))


def _show(ax: Axes, image: np.ndarray, title: str) -> None:
    ax.imshow(image, interpolation='nearest')
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def _mark(ax: Axes, image: np.ndarray, cell: Cell, number: int) -> None:
    """An outline of the cell, and its number in the middle."""
    height, width = image.shape[:2]
    size = cell.size[0] * width, cell.size[1] * height
    # `imshow` puts the middle of the first pixel at 0.
    x, y = cell.center[0] * width - 0.5, cell.center[1] * height - 0.5
    color = _COLORS[(number - 1) % len(_COLORS)]
    ax.add_patch(
        Rectangle(
            (x - size[0] / 2, y - size[1] / 2),
            *size,
            fill=False,
            edgecolor=color,
            linewidth=2,
            path_effects=_HALO,
        )
    )
    ax.text(
        x,
        y,
        str(number),
        color=color,
        fontsize=11,
        fontweight='bold',
        ha='center',
        va='center',
        path_effects=_HALO,
    )


def draw_matches(rows: Sequence[QueryRow], title: str = '') -> Figure:
    """Each query beside the images of the memory that hold its neighbours.

    Equal numbers (and colours, which colour-blind readers tell apart) mark a
    query's pixel and its neighbour.

    Args:
        rows (Sequence[QueryRow]): At least one.
        title (str): Above all.

    Returns:
        Figure: Not attached to any screen; save it with ``savefig``.
    """
    columns = 1 + max(len(row.matches) for row in rows)
    size = (2.1 * columns, 2.4 * len(rows) + 0.4)
    figure = Figure(figsize=size, layout='constrained')
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, (first, *others) in zip(rows, axes):
        _show(first, row.image, row.title)
        for number, (match, ax) in enumerate(zip(row.matches, others), 1):
            _show(ax, match.image, match.title)
            if match.query is not None:
                _mark(first, row.image, match.query, number)
            if match.memory is not None:
                _mark(ax, match.image, match.memory, number)
    if title:
        figure.suptitle(title)
    return figure
