"""Finds the maps of a network: by name, by position, or by itself.

A network is run once, on two blank images. What its modules return says where
the maps are, which dimension holds the channels and how many tokens precede
the patches; nothing of the network changes.
"""

from typing import (
    Any,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

from torch import nn

from ..networks import find_module
from ..options import checked
from .maps import (
    Grid,
    Layer,
    Layout,
    MapSource,
    Part,
    check_different,
    layout_of,
    stated_format,
)
from .trial import ModuleOutput, Trial, inner, named_size, watch

#: Candidates that an error lists.
_LISTED = 8
#: Side of small blank images, and rows that must be left of them.
_SMALL, _ROWS = 32, 4


class _MapInfo(NamedTuple):
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
_Read = List[Tuple[Part, Optional[_MapInfo]]]


class _GridSource(NamedTuple):
    grid: Grid
    module: str
    layout: Optional[Layout]


class _Reading:
    """Reads layouts out of what the modules of one network returned."""

    def __init__(
        self, model: nn.Module, token_grid: Optional[str], trial: Trial
    ) -> None:
        self.model = model
        self.token_grid = token_grid
        if token_grid is not None:
            find_module(model, token_grid, 'u1.neck.token_grid')
        _, network = inner(model)
        self.channels_last, self.prefix = stated_format(network)
        self.outputs, (height, width) = trial
        self.ratio = height / width
        self.grids: List[_GridSource] = []

    def sources(self) -> Iterator[Tuple[ModuleOutput, _Read]]:
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
        self, name: str, part: Part, info: Optional[_MapInfo]
    ) -> None:
        if self.token_grid not in (None, name):
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

    def _read(self, name: str, part: Part) -> Optional[_MapInfo]:
        """The map that a tensor holds, or None."""
        value = part.value
        if value.ndim not in (3, 4) or len(value) != 2:
            return None  # windows of attention have a larger batch
        if part.grid is not None:
            told = layout_of(value, [part.grid])
            return None if told is None else _MapInfo(*told, name)
        grids = [source.grid for source in self.grids]
        guess = layout_of(
            value, grids, self.channels_last, self.prefix, self.ratio
        )
        if guess is None or value.ndim == 4:
            return None if guess is None else _MapInfo(*guess)
        for source in self.grids:
            if source.grid == guess[1]:
                return _MapInfo(*guess, source.module, source.layout)
        if self.ratio != 1 and self.token_grid is None:
            return None  # a square would be a guess, and a wrong one
        # A named module that gave no size yet must give one later.
        return _MapInfo(*guess, self.token_grid)


def _read_network(model: nn.Module, token_grid: Optional[str]) -> _Reading:
    """Tried on small images where these tell enough.

    A network made for small images takes seconds for large ones. If its last
    map still has four rows, and nothing that learns gives one pixel after it,
    the larger ones would tell the same.
    """
    if not named_size(model):
        try:
            trial = watch(model, [_SMALL])
            reading = _Reading(model, token_grid, trial)
            if _rows_left(reading) >= _ROWS:
                return _Reading(model, token_grid, trial)
        except ValueError:
            pass  # it does not take them
    return _Reading(model, token_grid, watch(model))


def _rows_left(reading: _Reading) -> int:
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


def _source(
    layer: Layer, name: str, part: Part, map_info: _MapInfo
) -> MapSource:
    layout, grid, grid_module, grid_layout = map_info
    dim = {'NCHW': 1, 'NCL': 1, 'NHWC': 3, 'NLC': 2}[layout.order]
    return MapSource(
        layer,
        name,
        part.index,
        layout,
        grid_module,
        grid_layout,
        (part.value.size(dim), *grid),
    )


def _last_map(reading: _Reading) -> MapSource:
    """The last map before pooling."""
    source, listed = None, []
    for output, parts in reading.sources():
        for part, map_info in parts:
            if part.value.ndim < 3:
                continue
            listed.append(f'{output.name} {tuple(part.value.shape[1:])}')
            if map_info and map_info.has_extent and output.automatic:
                source = _source(output.name, output.name, part, map_info)
    if source is None:
        raise ValueError(
            "u1.neck.layers='auto' found no map (C, H, W) in "
            f'{type(reading.model).__name__}; name a module whose output is '
            'one, with token_grid for tokens. Candidates: '
            f'{"; ".join(listed[-_LISTED:]) or "no module returns one"}'
        )
    return source


def _place_of(reading: _Reading, position: int) -> Tuple[str, Optional[int]]:
    """Module and index that a position means."""
    place, network = inner(reading.model)
    info: Any = getattr(network, 'feature_info', None)
    if place == 'backbone':
        return 'backbone', position
    try:
        name = info[position]['module']
    except (TypeError, KeyError, IndexError):
        raise ValueError(
            f'u1.neck.layers={position}: {type(reading.model).__name__} has no '
            'backbone that returns a tuple, and no feature_info of timm with '
            'that position; name a module'
        ) from None
    return '.'.join(filter(None, [place, name])), None


def _named_map(
    reading: _Reading, layer: Layer, outputs: Dict[str, _Read]
) -> MapSource:
    """The map of one configured layer, or an error that names it."""
    name, index = (
        _place_of(reading, layer) if isinstance(layer, int) else (layer, None)
    )
    find_module(reading.model, name, 'u1.neck.layers')
    where = f'u1.neck.layers: {layer!r}'
    if name not in outputs:
        raise ValueError(
            f'{where} did not run when the network was tried; name a module '
            'that runs in every forward pass'
        )
    parts = outputs[name]
    if index is not None:
        parts = _at(where, parts, index)
    readable = [(part, info) for part, info in parts if info is not None]
    if not readable:
        shapes = [tuple(part.value.shape[1:]) for part, _ in parts]
        raise ValueError(
            f'{where} gives {shapes or "no tensor"} for one image, not a map '
            '(C, H, W) or tokens of one; choose another module, or name the '
            "one that knows the tokens' grid in u1.neck.token_grid"
        )
    # Some return what they pooled beside the map.
    spatial = [(part, info) for part, info in readable if info.has_extent]
    return _source(layer, name, *(spatial or readable)[-1])


def _at(where: str, parts: _Read, position: int) -> _Read:
    """The parts at a position in the tuple that a backbone returns."""
    indices = [part.index or -1 for part, _ in parts]  # no tuple: one output
    count = -min(indices, default=-1)
    index = position if position < 0 else position - count
    chosen = [pair for pair, i in zip(parts, indices) if i == index]
    if parts and not chosen:
        raise ValueError(
            f'{where}: the backbone returns {count} output(s); set '
            'backbone.out_indices to return more, or choose another position'
        )
    return chosen


@checked()
def find_maps(
    model: nn.Module,
    layers: Union[Layer, Sequence[Layer]],
    token_grid: Optional[str] = None,
) -> List[MapSource]:
    """Where a network's maps are, and how they are read.

    Args:
        model (nn.Module): A classifier of MMPretrain, a timm network or any
            module that takes images ``(B, C, H, W)``.
        layers (str | int | Sequence[int | str]): ``'auto'`` for the last map
            before pooling; or positions in the tuple that ``model.backbone``
            returns (for timm, in its ``feature_info``) and names of modules.
        token_grid (str, optional): Name of the module whose output tells
            ``(H, W)`` of tokens. None takes the latest map that fits them.

    Returns:
        List[MapSource]: One for each layer.

    Raises:
        ValueError: If a layer is not there, did not run or has no map.

    Examples:
        >>> from torchvision.models import resnet18
        >>> from u1_plugin.nn import find_maps
        >>> find_maps(resnet18(), 'auto')[0].shape
        (512, 7, 7)
    """
    if layers != 'auto' and isinstance(layers, (int, str)):
        layers = [layers]
    reading = _read_network(model, token_grid)
    if layers == 'auto':
        return [_last_map(reading)]
    # Of several calls the last counts.
    outputs = {output.name: parts for output, parts in reading.sources()}
    maps = [_named_map(reading, layer, outputs) for layer in layers]
    check_different(layers, maps)
    return maps
