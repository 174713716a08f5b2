"""Reads the maps of a network by forward hooks on its modules.

The network's config, parameters and outputs stay what they are.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..networks import find_module
from .layers import find_maps
from .listeners import ImageSizeListener, OutputListener, PassListener
from .maps import Grid, Layer, MapSource, as_map, output_tensors

_NETWORK = 'network'  # among the taps, that of the whole network


class MapReader:
    """The maps of some layers, from the forward passes of a ``with`` block.

    Outside the block nothing is kept, so that gradient checkpointing, which
    runs modules again in the backward pass, leaves no trace.

    Args:
        model (nn.Module): The network.
        layers (str | Sequence[int | str]): See
            :func:`~u1_plugin.nn.layers.find_maps`.
        token_grid (str, optional): Likewise.
        once (bool): Refuse a second pass before the maps of the first are read.

    Raises:
        ValueError: If a layer cannot be read.

    Examples:
        >>> import torch
        >>> from torchvision.models import resnet18
        >>> from u1_plugin.nn import MapReader
        >>> model = resnet18().eval()
        >>> reader = MapReader(model, ['layer3', 'layer4'])
        >>> with reader:  # hooks the modules, if they are not yet
        ...     logits = model(torch.randn(2, 3, 64, 64))
        >>> [tuple(activation.shape) for activation in reader.maps()]
        [(2, 256, 4, 4), (2, 512, 2, 2)]
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Layer] = 'auto',
        token_grid: Optional[str] = None,
        once: bool = False,
    ) -> None:
        self.sources = find_maps(model, layers, token_grid)
        self.listening = False
        self.outputs: Dict[str, Any] = {}
        self.sides: Sequence[int] = ()  # of the images, where they matter
        self.once = once
        self.passes = 0  # that have begun in this block and are not read
        self._ran = False  # before the maps were read
        self._model, self._token_grid = model, token_grid
        self._taps: Dict[Any, Any] = {}
        # Of the tensors in an output: versions, and copies of those that a
        # later module changes in place, as ReLUs do.
        self._versions: Dict[str, List[int]] = {}
        self._copies: Dict[str, List[Tensor]] = {}
        # By name and by whether the module trained, as dropout does more then.
        self._changes: Dict[Tuple[str, bool], bool] = {}
        self._modes: Dict[str, bool] = {}

    def attach(self) -> None:
        """Hook the modules, again if they have been replaced since.

        Converting batch norms and sharding put new modules in their places.
        """
        names = [(source.module, False) for source in self.sources]
        names += [(s.grid_module, False) for s in self.sources if s.grid_module]
        image_modules = {source.image_module for source in self.sources}
        names += [(name, True) for name in image_modules if name is not None]
        for name, takes_images in names:
            is_grid = name == self._token_grid
            field = f'u1.neck.{"token_grid" if is_grid else "layers"}'
            module = find_module(self._model, name, field)
            hooked, handle = self._taps.get((name, takes_images), (None, None))
            if module is hooked:
                continue
            if handle is not None:
                handle.remove()
            if takes_images:
                handle = module.register_forward_pre_hook(
                    ImageSizeListener(self), with_kwargs=True
                )
            else:
                handle = module.register_forward_hook(
                    OutputListener(self, name)
                )
            self._taps[name, takes_images] = (module, handle)
        if self.once and _NETWORK not in self._taps:
            handle = self._model.register_forward_pre_hook(PassListener(self))
            self._taps[_NETWORK] = (self._model, handle)

    def detach(self) -> None:
        """Leave the network as it was."""
        for _, handle in self._taps.values():
            handle.remove()
        self._taps.clear()
        self.clear()

    def keep(self, name: str, output: Any, training: bool = True) -> None:
        """Note what a module returned, as it is now.

        Whether it is changed in place afterwards shows in the first pass; until
        then, and where a compiler hides it, a copy is read.
        """
        self.outputs[name] = output
        values = [part.value for part in output_tensors(output)]
        compiling = torch.compiler.is_compiling()
        # Tensors of inference mode do not count their changes.
        counted = compiling or not any([v.is_inference() for v in values])
        unsure = not counted or self._changes.get((name, training), True)
        if compiling or unsure:
            self._copies[name] = [value.clone() for value in values]
        else:
            self._copies.pop(name, None)  # of an earlier pass
        if not compiling:
            self._modes[name] = training
            self._versions[name] = [_version(value) for value in values]

    def __getstate__(self) -> Dict[str, Any]:
        """Copies and pickles of a network hold no pass of it."""
        empty = dict(outputs={}, _versions={}, _copies={}, listening=False)
        empty.update(sides=(), passes=0)
        return {**self.__dict__, **empty}

    def __enter__(self) -> 'MapReader':
        # Batch norms may have been converted since. A compiler knows the
        # hooks that were there when it began.
        if not (self._taps and torch.compiler.is_compiling()):
            self.attach()
        self.clear()
        self.listening = True
        return self

    def __exit__(self, *exception: Any) -> None:
        self.listening = False
        if exception and exception[0] is not None:
            self.clear()

    def clear(self) -> None:
        """Let go of the outputs, and with them of the graph behind them."""
        for store in (self.outputs, self._versions, self._copies):
            store.clear()
        self.sides, self.passes = (), 0

    def maps(self) -> List[Tensor]:
        """Maps ``(B, C, H, W)`` of the latest block, one a layer.

        Raises:
            ValueError: If a layer did not run or returned no map.
        """
        self._ran = self.passes > 0 or bool(self.outputs)
        self.passes = 0  # read, the latest may be followed by another
        return [self._map(source) for source in self.sources]

    def _map(self, source: MapSource) -> Tensor:
        where = f'u1.neck.layers: {source.layer!r}'
        value = self._part(source, where)
        grid = self._grid(source, where)
        try:
            return as_map(value, source.layout, grid)
        except ValueError as error:
            raise ValueError(
                f'{where} gives {error}, not a map {source.layout.order} as '
                'when the network was tried; choose the block before it, or '
                'switch off what drops patches'
            ) from error

    def _part(self, source: MapSource, where: str) -> Tensor:
        if source.module not in self.outputs:
            raise ValueError(
                f'{where} did not run, while the network did; name a module '
                'that runs in every forward pass, and of what gradient '
                'checkpointing runs the block around it or its last part'
                if self._ran
                else f'{where} did not run since the maps were last read; call '
                'the network (not a copy) in the `with` block, once for each '
                'reading, and build the branch before a compiled network runs '
                'for the first time, which takes no hooks after that'
            )
        output = self.outputs[source.module]
        dims = len(source.layout.order)
        parts = output_tensors(output)
        at = [k for k, part in enumerate(parts) if part.value.ndim == dims]
        same_index = [k for k in at if parts[k].index == source.index]
        if not at:
            raise ValueError(
                f'{where} gives {_form(output)}, not a map (B, C, H, W) or '
                'tokens of one; choose another module'
            )
        if len(at) > 1 and source.count not in (None, len(parts)):
            raise ValueError(
                f'{where} gives {_form(output)}, {len(parts)} tensors, but '
                f'{source.count} when the network was tried in evaluation '
                'mode, so that nothing says which is the map; name the block '
                'inside it that makes the map'
            )
        place = (same_index or at)[-1]
        return self._unchanged(source, place, parts[place].value, where)

    def _unchanged(
        self, source: MapSource, place: int, value: Tensor, where: str
    ) -> Tensor:
        """The value as the module returned it."""
        name = source.module
        version = self._versions.get(name)  # a compiled pass has none
        changed = version is not None and version[place] != _version(value)
        if name in self._copies:
            if version is None or value.is_inference():
                return self._copies[name][place]
            self._changes[name, self._modes[name]] = changed
            # As in later passes: through a copy the gradients of three readers
            # add up in another order, and a resumed run would be another one.
            return self._copies[name][place] if changed else value
        if changed:
            raise ValueError(
                f'{where} was changed in place by a later module, which it was '
                'not in the first pass; name the block around it'
            )
        return value

    def _grid(self, source: MapSource, where: str) -> Optional[Grid]:
        if source.grid_module is None:
            if source.image_module is not None and len(set(self.sides)) > 1:
                raise ValueError(
                    f'{where}: nothing tells the grid of its tokens, which are '
                    'read as a square, but the images have (H, W) = '
                    f'{tuple(self.sides)}; name a module that knows the grid '
                    'in u1.neck.token_grid'
                )
            return None
        output = self.outputs.get(source.grid_module)
        for part in reversed(output_tensors(output)):
            if part.grid is not None:
                return part.grid
            if source.grid_layout is not None and part.value.ndim == 4:
                grid = as_map(part.value, source.grid_layout, None)
                return grid.size(2), grid.size(3)
        raise ValueError(
            f'{where}: {source.grid_module!r}, which knows the grid of its '
            f'tokens, gives {_form(output)}; name a module that returns '
            '(tokens, (H, W)) or a map in u1.neck.token_grid, such as '
            "'backbone.patch_embed'"
        )


def _version(value: Tensor) -> int:
    """A number that every change in place counts up."""
    return 0 if value.is_inference() else value._version


def _form(output: Any) -> str:
    """What an output is, for a message."""
    if isinstance(output, Tensor):
        return f'a tensor {tuple(output.shape)}'
    if isinstance(output, (tuple, list)):
        return f'({", ".join(_form(entry) for entry in output)})'
    return type(output).__name__
