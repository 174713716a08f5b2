"""Finds the maps of a network: by name, by position, or by itself.

A network is run once, on two blank images. What its modules return says where
the maps are, which dimension holds the channels and how many tokens precede
the patches; nothing of the network changes.
"""

import logging
import math
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from ..networks import find_module
from ..options import checked
from .dry_run import inner
from .layouts import MapInfo, Read, Reading, read_network
from .maps import Layer, MapSource, OutputTensor
from .origins import check_different
from .preserved_state import is_scripted

#: Candidates that an error lists.
_LISTED = 8
_logger = logging.getLogger('u1_plugin')


def _source(
    reading: Reading,
    layer: Layer,
    name: str,
    part: OutputTensor,
    map_info: MapInfo,
    count: int,
) -> MapSource:
    layout, grid, grid_module, grid_layout = map_info
    guessed = layout.order in ('NLC', 'NCL') and grid_module is None
    dim = {'NCHW': 1, 'NCL': 1, 'NHWC': 3, 'NLC': 2}[layout.order]
    return MapSource(
        layer,
        name,
        part.index,
        layout,
        grid_module,
        grid_layout,
        (part.value.size(dim), *grid),
        reading.image_module if guessed else None,
        count,
        part.origin,
    )


def _outgrows(value: Tensor, source: MapSource) -> bool:
    """Whether these are more tokens than a map has pixels, of its width.

    Where they cannot be read, the network went on after that map.
    """
    channels, *sides = source.shape
    return (
        value.ndim == 3
        and len(value) == 2
        and value.size(2) == channels
        and value.size(1) > math.prod(sides)
    )


def _last_map(reading: Reading) -> MapSource:
    """The last map before pooling."""
    source, candidates = None, []
    for output, parts in reading.sources():
        for part, map_info in parts:
            if part.value.ndim < 3:
                continue
            candidates.append(f'{output.name} {tuple(part.value.shape[1:])}')
            if not output.automatic:
                continue
            if source and not map_info and _outgrows(part.value, source):
                source = None
            if map_info and map_info.has_extent:
                source = _source(
                    reading,
                    output.name,
                    output.name,
                    part,
                    map_info,
                    len(parts),
                )
    if source is None:
        raise ValueError(
            "u1.neck.layers='auto' found no map (C, H, W) in "
            f'{type(reading.model).__name__}; name a module whose output is '
            'one, with token_grid for tokens. Candidates: '
            f'{"; ".join(candidates[-_LISTED:]) or "no module returns one"}'
        )
    return source


def _place_of(reading: Reading, position: int) -> Tuple[str, Optional[int]]:
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
    reading: Reading, layer: Layer, outputs: Dict[str, Read]
) -> MapSource:
    """The map of one configured layer, or an error that names it."""
    name, index = (
        _place_of(reading, layer) if isinstance(layer, int) else (layer, None)
    )
    name = _first_name(reading.model, name)
    where = f'u1.neck.layers: {layer!r}'
    if name not in outputs:
        raise ValueError(
            f'{where} did not run when the network was tried; name a module '
            'that runs in every forward pass'
        )
    parts = outputs[name]
    count = len(parts)
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
    source = _source(reading, layer, name, *(spatial or readable)[-1], count)
    _check_order(reading, source, where)
    return source


def _first_name(model: nn.Module, name: str) -> str:
    """The one of a module's names under which it was watched."""
    module = find_module(model, name, 'u1.neck.layers')
    names = (n for n, other in model.named_modules() if other is module)
    return next(names, name)


def _check_order(reading: Reading, source: MapSource, where: str) -> None:
    """Raise ValueError for tokens that are known not to lie row by row.

    Hiera keeps those of a mask unit together, until there is one a unit.
    """
    modules = reading.model.modules()
    if source.layout.order != 'NLC' or not any(
        type(module).__name__ == 'Unroll' for module in modules
    ):
        return
    last = _last_map(reading)
    if source.shape[1:] != last.shape[1:]:
        raise ValueError(
            f'{where} holds tokens in the order of mask units, not of rows, '
            'so that they are no map; name one of the blocks that have the '
            f'size of the last, such as {last.module!r}'
        )


def _at(where: str, parts: Read, position: int) -> Read:
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


def _outputs(reading: Reading) -> Dict[str, Read]:
    """What each module returned; of several calls the last counts."""
    return {output.name: parts for output, parts in reading.sources()}


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
    reading = read_network(model, token_grid)
    if layers == 'auto':
        _check_scripted(model)
        source = _last_map(reading)
        _tell_repeated(reading, source)
        return [source]
    outputs = _outputs(reading)
    named = [_first_name(model, n) for n in layers if isinstance(n, str)]
    if not outputs.keys() >= set(named):  # some run in the head alone
        try:
            reading = read_network(model, token_grid, whole=True)
            outputs = _outputs(reading)
        except ValueError:
            pass  # what is missing is named below
    maps = [_named_map(reading, layer, outputs) for layer in layers]
    check_different(layers, maps)
    for source in maps:
        _tell_repeated(reading, source)
    return maps


def _check_scripted(model: nn.Module) -> None:
    """Raise ValueError if the last map may lie where no hook reaches."""
    for name, module in model.named_modules():
        if is_scripted(module):
            raise ValueError(
                f"u1.neck.layers='auto': {name} is scripted, so that its maps "
                'cannot be read, and the last one may be among them; name a '
                'layer, or build the branch before torch.jit runs'
            )


def _tell_repeated(reading: Reading, source: MapSource) -> None:
    """Warn of a map that is made several times in a pass.

    Not where the module alone is repeated, as recurrent blocks are.
    """
    calls = Counter(output.name for output in reading.outputs)
    parents = source.module.split('.')
    for end in range(1, len(parents)):
        name = '.'.join(parents[:end])
        if calls[name] > 1:
            _logger.warning(
                f'u1.neck.layers: {source.layer!r} is read where {name!r} runs '
                f'for the last time of {calls[name]} in a pass of the network, '
                'and the other times get no U(1) loss; for one each, build the '
                'branch on that module and call it after each of its passes'
            )
            return
