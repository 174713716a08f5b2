"""Reads layouts out of what the modules of a network returned."""

import math
from typing import Iterator, List, NamedTuple, Optional, Tuple

from torch import nn

from ..networks import find_module
from .dry_run import DryRun, ModuleOutput, dry_run, inner, named_size
from .maps import (
    MAX_PREFIX,
    Grid,
    Layout,
    OutputTensor,
    layout_of,
    stated_format,
)

#: Side of small blank images, and rows that must be left of them.
_SMALL, _ROWS = 32, 4


class MapInfo(NamedTuple):
    """How a tensor holds a map, and which module told its size, if one."""

    layout: Layout
    grid: Grid
    grid_module: Optional[str] = None
    grid_layout: Optional[Layout] = None

    @property
    def has_extent(self) -> bool:
        """Whether it has more than one pixel."""
        return max(self.grid) > 1


#: Tensors of an output, and the maps that they hold.
Read = List[Tuple[OutputTensor, Optional[MapInfo]]]


class _GridSource(NamedTuple):
    """A grid and the module that told it; the layout where that was a map."""

    grid: Grid
    module: str
    layout: Optional[Layout]


class Reading:
    """Reads layouts out of what the modules of one network returned."""

    def __init__(
        self, model: nn.Module, token_grid: Optional[str], trial: DryRun
    ) -> None:
        self.model = model
        self.token_grid = token_grid
        if token_grid is not None:
            find_module(model, token_grid, 'u1.neck.token_grid')
        _, network = inner(model)
        self.channels_last, self.prefix = stated_format(network)
        self.outputs, (height, width), self.image_module = trial
        self.ratio = height / width
        self.grids: List[_GridSource] = []
        # Those of other modules than the one that was named.
        self.unnamed: List[Grid] = []

    def sources(self) -> Iterator[Tuple[ModuleOutput, Read]]:
        """Modules in order, their parts and what these look like."""
        for output in self.outputs:
            read = [
                (part, self._read(output.name, part)) for part in output.parts
            ]
            yield output, read
            for part, map_info in read:
                if output.automatic or output.name == self.token_grid:
                    self._note_grid(output.name, part, map_info)

    def _note_grid(
        self, name: str, part: OutputTensor, info: Optional[MapInfo]
    ) -> None:
        if self.token_grid not in (None, name):
            if info is not None and part.value.ndim == 4:
                self.unnamed.append(info.grid)
            return
        if part.grid is not None:
            source = _GridSource(part.grid, name, None)
        # One row of many pixels is the attention of a class token.
        elif part.value.ndim == 4 and info is not None and min(info.grid) > 1:
            source = _GridSource(info.grid, name, info.layout)
        else:
            return
        # Sizes that a module states come first, then maps of outer ones, and
        # of equals the latest.
        self.grids.insert(0, source)
        self.grids.sort(key=lambda g: (bool(g.layout), g.module.count('.')))

    def _read(self, name: str, part: OutputTensor) -> Optional[MapInfo]:
        """The map that a tensor holds, or None."""
        value = part.value
        if value.ndim not in (3, 4) or len(value) != 2:
            return None  # windows of attention have a larger batch
        if part.grid is not None:
            layout = layout_of(value, [part.grid])
            return None if layout is None else MapInfo(*layout, name)
        grids = [source.grid for source in self.grids]
        network_format = (self.channels_last, self.prefix, self.ratio)
        # A grid that was named is the tokens', whatever precedes them.
        max_prefix = MAX_PREFIX if self.token_grid is None else math.inf
        guess = layout_of(value, grids, *network_format, max_prefix)
        if guess is None or value.ndim == 4:
            return None if guess is None else MapInfo(*guess)
        if guess[0].prefix > MAX_PREFIX and any(
            0 <= value.size(1) - math.prod(grid) <= MAX_PREFIX
            for grid in self.unnamed
        ):
            return None  # of another stage than the one that was named
        for source in self.grids:
            if source.grid == guess[1]:
                return MapInfo(*guess, source.module, source.layout)
        if self.ratio != 1 and self.token_grid is None:
            return None  # a square would be a guess, and a wrong one
        # A named module that gave no size yet must give one later.
        return MapInfo(*guess, self.token_grid)


def read_network(
    model: nn.Module, token_grid: Optional[str], whole: bool = False
) -> Reading:
    """Tried on small images where these tell enough.

    A network made for small images takes seconds for large ones. If its last
    map still has four rows, and nothing that learns gives one pixel after it,
    the larger ones would tell the same. ``whole`` runs the head as well.
    """
    if not whole and not named_size(model):
        try:
            trial = dry_run(model, [_SMALL])
            reading = Reading(model, token_grid, trial)
            if _rows_left(reading) >= _ROWS:
                return Reading(model, token_grid, trial)
        except ValueError:
            pass  # it does not take them
    return Reading(model, token_grid, dry_run(model, whole=whole))


def _rows_left(reading: Reading) -> int:
    """Rows of the last map, or 1 if a smaller one was learnt after it."""
    rows = 0
    for output, parts in reading.sources():
        module = reading.model.get_submodule(output.name)
        learns = next(module.parameters(), None) is not None
        for part, map_info in parts:
            if map_info and output.automatic and map_info.grid[0] > 1:
                rows = min(map_info.grid)
            elif learns and part.value.ndim == 4:
                rows = 1
    return rows
