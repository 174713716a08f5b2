"""Tables and pictures of ``tools/memory_test.py``."""

from pathlib import Path
from typing import Optional, Sequence, Tuple

import numpy as np
from rich.console import Console
from rich.table import Table

from .markup import file_name, mathtext, terminal
from .memory_drawing import Match, QueryRow, cell_of, draw_matches


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
    for layer, found in results.items():
        for k in grid.ks:
            cells = [
                f'{row["accuracy/top1"]:.2f}'
                for row in found['rows']
                if row['k'] == k
            ]
            table.add_row(terminal(layer), str(k), *cells)
    console.print(table)
    metrics = list(next(iter(results.values()))['retrieval'])
    names = [name.split('/')[-1] for name in metrics]
    title = 'memory, and retrieval of its images'
    table = Table('layer', 'vectors', 'channels', 'MiB', *names, title=title)
    for layer, found in results.items():
        table.add_row(
            terminal(layer),
            f'{found["vectors"]:,}',
            str(found['channels']),
            f'{found["bytes"] / 2**20:.2f}',
            *(f'{found["retrieval"][name]:.2f}' for name in metrics),
        )
    console.print(table)


def as_picture(inputs: np.ndarray, bgr: bool) -> np.ndarray:
    """An image as a picture ``(H, W, 3)``, RGB, uint8.

    Args:
        inputs (np.ndarray): ``(C, H, W)``, as the network gets it: 0 to 255,
            or 0 to 1 of floating-point numbers. Of one or two channels the
            first is shown in grey, of more than three the first three.
        bgr (bool): Whether the first of three or more is blue.
    """
    pixels = inputs.transpose(1, 2, 0)
    pixels = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]
    if bgr and pixels.shape[2] == 3:
        pixels = pixels[..., ::-1]
    if pixels.dtype.kind == 'f' and pixels.max() <= 1:
        pixels = 255 * pixels
    pixels = pixels.clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(
        np.broadcast_to(pixels, pixels.shape[:2] + (3,))
    )


class _Images:
    """Pictures and names of a data set, as the network sees them."""

    def __init__(
        self, dataset, numbers: Optional[Sequence[int]], bgr: bool
    ) -> None:
        self.dataset, self.numbers, self.bgr = dataset, numbers, bgr
        self.classes = getattr(dataset, 'metainfo', {}).get('classes')

    def read(self, number: int) -> Tuple[np.ndarray, str]:
        """``(H, W, 3)`` in RGB, and the file's name."""
        index = number if self.numbers is None else self.numbers[number]
        item = self.dataset[index]
        path = item['data_samples'].get('img_path') or f'image {number}'
        return as_picture(item['inputs'].numpy(), self.bgr), path

    def name(self, label: int) -> str:
        known = self.classes and label < len(self.classes)
        return str(self.classes[label]) if known else str(label)


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
        shown.append(Match(near, text, *cells))
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
    asked, stored = _Images(queries, None, bgr), _Images(*memory, bgr)
    for layer, found in results.items():
        rows = [_row(match, asked, stored) for match in found['matches']]
        if rows:
            name = file_name(layer.replace(' ', '_'))
            found['picture'] = f'matches_{name}.png'
            title = f'{mathtext(layer)}: nearest pixels of the memory'
            figure = draw_matches(rows, title)
            figure.savefig(folder / found['picture'], dpi=110)
