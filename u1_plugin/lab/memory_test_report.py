"""Tables and pictures of ``tools/memory_test.py``."""

from pathlib import Path
from typing import NamedTuple, Optional, Sequence, Tuple

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.table import Table

from ..measure.hue import photograph
from ..measure.labels import COLORS
from .markup import file_name, mathtext, terminal

# Without the pale ones: a mark must be seen on any image.
_COLORS = (COLORS[0], COLORS[7], COLORS[3], COLORS[6], COLORS[2], COLORS[8])
_HALO = [patheffects.withStroke(linewidth=4, foreground='white')]


class ImagePatch(NamedTuple):
    """The part of an image that a pixel of its map stands for.

    Attributes:
        center (Tuple[float, float]): x to the right and y *down* from the top
            left corner, in units of the image's width and height.
        size (Tuple[float, float]): Width and height, in the same units.
    """

    center: Tuple[float, float]
    size: Tuple[float, float]


class PixelMatch(NamedTuple):
    """A query's pixel and the memory's nearest one.

    Attributes:
        image (np.ndarray): The memory's, ``(H, W, 3)``, RGB, in [0, 1].
        title (str): Above it.
        query (ImagePatch, optional): On the query image; None if its whole
            image was asked.
        memory (ImagePatch, optional): On the memory's image.
    """

    image: np.ndarray
    title: str
    query: Optional[ImagePatch] = None
    memory: Optional[ImagePatch] = None


class QueryRow(NamedTuple):
    """A query image ``(H, W, 3)`` and what was found for it."""

    image: np.ndarray
    title: str
    matches: Sequence[PixelMatch]


def cell_of(position: Sequence[float], shape: Tuple[int, int]) -> ImagePatch:
    """The cell of a pixel, by its place in a memory, of a map ``(H, W)``."""
    height, width = shape
    unit = max(np.hypot(width - 1, height - 1) / 2, 0.5)
    x = 0.5 + float(position[0]) * unit / width
    y = 0.5 - float(position[1]) * unit / height
    return ImagePatch((x, y), (1 / width, 1 / height))


def _show(ax: Axes, image: np.ndarray, title: str) -> None:
    ax.imshow(image, interpolation='nearest')
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def _mark(ax: Axes, image: np.ndarray, cell: ImagePatch, number: int) -> None:
    """An outline of the cell, and its number in the middle."""
    height, width = image.shape[:2]
    size = cell.size[0] * width, cell.size[1] * height
    # `imshow` puts the middle of the first pixel at 0.
    x, y = cell.center[0] * width - 0.5, cell.center[1] * height - 0.5
    color = _COLORS[(number - 1) % len(_COLORS)]
    corner = x - size[0] / 2, y - size[1] / 2
    outline = Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=2)
    outline.set_path_effects(_HALO)
    ax.add_patch(outline)
    text = ax.text(x, y, str(number), color=color, fontsize=11)
    text.set(fontweight='bold', ha='center', va='center', path_effects=_HALO)


def draw_matches(rows: Sequence[QueryRow], title: str = '') -> Figure:
    """Queries, at least one, beside the images that hold their neighbours.

    Equal numbers (and colours, which colour-blind readers tell apart) mark a
    query's pixel and its neighbour.
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


def show(results: dict, strength: str, grid, console: Console) -> None:
    """Top-1 by layer, k and kappa; then what the bank and retrieval are.

    Args:
        results (dict): By layer, as :func:`evaluate` gives it, and the bank's
            ``vectors``, ``channels`` and ``bytes``.
        strength (str): ``'kappa'`` or ``'sigma'``.
        grid (Grid): Which cells there are.
        console (Console): Where to print.
    """
    names = [f'{strength} {value:g}' for value in grid.strengths]
    table = Table('layer', 'k', *names, title=f'top-1 %, {grid}')
    for layer, result in results.items():
        for k in grid.ks:
            cells = [
                f'{row["accuracy/top1"]:.2f}'
                for row in result['rows']
                if row['k'] == k
            ]
            table.add_row(terminal(layer), str(k), *cells)
    console.print(table)
    metrics = list(next(iter(results.values()))['retrieval'])
    names = [name.split('/')[-1] for name in metrics]
    title = 'memory, and retrieval of its images'
    table = Table('layer', 'vectors', 'channels', 'MiB', *names, title=title)
    for layer, result in results.items():
        table.add_row(
            terminal(layer),
            f'{result["vectors"]:,}',
            str(result['channels']),
            f'{result["bytes"] / 2**20:.2f}',
            *(f'{result["retrieval"][name]:.2f}' for name in metrics),
        )
    console.print(table)


class _Images:
    """Pictures and names of a data set, as the network sees them."""

    def __init__(
        self, dataset, numbers: Optional[Sequence[int]], bgr: bool
    ) -> None:
        self.dataset, self.numbers, self.bgr = dataset, numbers, bgr
        self.classes = getattr(dataset, 'metainfo', {}).get('classes')

    def read(self, number: int) -> Tuple[np.ndarray, str]:
        """``(H, W, 3)`` in RGB, in [0, 1], and the file's name."""
        index = number if self.numbers is None else self.numbers[number]
        item = self.dataset[index]
        path = item['data_samples'].get('img_path') or f'image {number}'
        return photograph(item['inputs'], rgb=not self.bgr), path

    def name(self, label: int) -> str:
        """Name the class of a label; a label without a name stays a number."""
        is_named = self.classes and label < len(self.classes)
        return str(self.classes[label]) if is_named else str(label)


def _row(match: dict, queries: _Images, memory: _Images) -> QueryRow:
    """One drawn query; notes the files' names in ``match``."""
    image, match['path'] = queries.read(match['number'])
    true, voted = (queries.name(match[key]) for key in ('true', 'voted'))
    title = f'query: {mathtext(true)}\nvoted: {mathtext(voted)}'
    shown = []
    for pixel in match['pixels']:
        near, pixel['path'] = memory.read(pixel['image'])
        cells = [None, None]
        if match['mode'] == 'pixel':
            shape = match['map_shape']
            cells = [
                cell_of(pixel[key], shape)
                for key in ('position', 'memory_position')
            ]
        name = memory.name(pixel['label'])
        text = f'{mathtext(name)}\nd = {pixel["distance"]:.3f}'
        shown.append(PixelMatch(near, text, *cells))
    return QueryRow(image, title, shown)


def write_pictures(
    results: dict, queries, memory: tuple, bgr: bool, folder: Path
) -> None:
    """A PNG a layer; notes its name, and those of the images, in ``results``.

    Args:
        results (dict): By layer, with ``matches``.
        queries: The data set of the queries.
        memory (tuple): The memorised data set, and the index in it of each
            image's number.
        bgr (bool): Whether the data sets give blue first.
        folder (Path): Where to write.
    """
    query_images, stored = _Images(queries, None, bgr), _Images(*memory, bgr)
    for layer, result in results.items():
        rows = [
            _row(match, query_images, stored) for match in result['matches']
        ]
        if rows:
            name = file_name(layer.replace(' ', '_'))
            result['picture'] = f'matches_{name}.png'
            title = f'{mathtext(layer)}: nearest pixels of the memory'
            figure = draw_matches(rows, title)
            figure.savefig(folder / result['picture'], dpi=110)
