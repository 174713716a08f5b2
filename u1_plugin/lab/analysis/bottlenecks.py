"""Finds the bottlenecks of a network by running it."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ...nn.dry_run import inner
from ...nn.maps import Grid, as_map, layout_of, output_tensors, stated_format

#: Relative difference below which two outputs count as the same.
_SAME = 1e-5


def run(model: nn.Module, inputs: Tensor) -> Any:
    """Everything of the network that reads maps, without the head's scores.

    Args:
        model (nn.Module): A classifier, in eval mode.
        inputs (Tensor): Preprocessed images, ``(B, C, H, W)``.
    """
    network: Any = model
    if hasattr(network, 'backbone') and hasattr(network, 'extract_feat'):
        # A head may refuse before it is filled; no map is read in it.
        return network.extract_feat(inputs)
    return network(inputs)


#: Whether channels are last, tokens before the patches, H / W of the images.
_Format = Tuple[Optional[bool], Optional[int], Optional[float]]


def _format_of(model: nn.Module, inputs: Tensor) -> _Format:
    """What a network says of its layout; None where it says nothing.

    By the ratio of the images, maps of the other layout are told in a network
    whose channels are last.
    """
    _, network = inner(model)
    channels_last, prefix = stated_format(network)
    height, width = inputs.shape[-2:]
    return channels_last, prefix, height / width if channels_last else None


def _map_of(
    output: Any, grids: Sequence[Grid], network_format: _Format
) -> Optional[Tensor]:
    parts = output_tensors(output)
    if not parts:
        return None
    value, size = parts[-1].value, parts[-1].grid
    candidates = [size] if size else grids
    layout = layout_of(value, candidates, *network_format)
    if layout is None or (not candidates and layout[0].prefix):
        return None
    try:
        activation = as_map(value, *layout)
    except ValueError:
        return None
    return activation if min(activation.shape[-2:]) > 1 else None


def _grid_of(activation: Tensor) -> Grid:
    height, width = activation.shape[-2:]
    return height, width


class _Grids:
    """Sizes of maps so far, the latest first: tokens fill one of them.

    Args:
        token_grid (str, optional): The module that alone may tell.
    """

    def __init__(self, token_grid: Optional[str]) -> None:
        self.token_grid = token_grid
        self.known: List[Grid] = []

    def note(
        self, name: str, output: Any, activation: Optional[Tensor]
    ) -> None:
        """What the module of that name tells."""
        if self.token_grid not in (None, name):
            return
        grids = [part.grid for part in output_tensors(output) if part.grid]
        if not grids and activation is not None:
            # Of tokens the size is not told, but was guessed.
            maps = [p for p in output_tensors(output) if p.value.ndim == 4]
            grids = [_grid_of(activation)] if maps else []
        for grid in grids:
            self.known = [grid, *(old for old in self.known if old != grid)]


def _maps_in_order(
    model: nn.Module, inputs: Tensor, token_grid: Optional[str]
) -> List[Tuple[str, Grid]]:
    """Modules that give one map in one call, as they finish."""
    calls: Dict[str, int] = {}
    outputs: List[Tuple[str, Grid]] = []
    grids, network_format = _Grids(token_grid), _format_of(model, inputs)

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            calls[name] = calls.get(name, 0) + 1
            activation = _map_of(output, grids.known, network_format)
            # Windows of attention have a larger batch, and are no maps.
            if activation is None or len(activation) != len(inputs):
                activation = None
            grids.note(name, output, activation)
            if activation is None:
                return
            learns = next(module.parameters(), None) is not None
            input_map = None
            if args and not learns:
                input_map = _map_of(args[0], grids.known, network_format)
            # Padding that pads nothing, dropout: not the module's own map.
            if input_map is None or not torch.equal(input_map, activation):
                outputs.append((name, _grid_of(activation)))

        return hook

    handles = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if name
    ]
    try:
        run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    kept: List[Tuple[str, Grid]] = []
    for name, size in outputs:
        # A larger map after a smaller one is the output of an unfolding.
        if calls[name] == 1 and (not kept or min(size) <= min(kept[-1][1])):
            kept.append((name, size))
    return kept


def _blank(output: Any) -> Any:
    """The same structure with every tensor 0."""
    if isinstance(output, Tensor):
        return torch.zeros_like(output)
    if isinstance(output, dict):  # and transformers' model outputs
        return type(output)(**{key: _blank(v) for key, v in output.items()})
    if hasattr(output, '_fields'):
        return type(output)(*map(_blank, output))
    if isinstance(output, (tuple, list)):
        return type(output)(map(_blank, output))
    return output


def _last_tensor(output: Any) -> Tensor:
    return output_tensors(output)[-1].value.float()


def _all_passes_through(model: nn.Module, name: str, inputs: Tensor) -> bool:
    """Whether two images give one output once the module's is blanked."""
    handle = model.get_submodule(name).register_forward_hook(
        lambda module, args, output: _blank(output)
    )
    try:
        first, second = _last_tensor(run(model, inputs))
    finally:
        handle.remove()
    scale = max(first.abs().max(), second.abs().max(), torch.tensor(1e-12))
    return bool((first - second).abs().max() <= _SAME * scale)


@torch.no_grad()
def find_bottlenecks(
    model: nn.Module, inputs: Tensor, token_grid: Optional[str] = None
) -> List[str]:
    """The last map before each spatial downsampling, and the last of all.

    A module counts if it gives one map in one call and all that the network
    makes of an image passes through that map: with the map blanked, two
    images give the same output. Inside a residual block that is not so.

    Args:
        model (nn.Module): A classifier of MMPretrain's, in eval mode.
        inputs (Tensor): Preprocessed images, ``(B, C, H, W)``. The first and
            its negative are two that differ.
        token_grid (str, optional): See
            :class:`~u1_plugin.nn.MapCollector`.

    Returns:
        List[str]: Names of modules, from the largest map to the smallest.

    Raises:
        ValueError: If there is no such map.
    """
    pair = torch.cat([inputs[:1], -inputs[:1]])
    by_size: Dict[Grid, List[str]] = {}
    for name, size in _maps_in_order(model, pair, token_grid):
        by_size.setdefault(size, []).append(name)
    chosen = []
    for _, names in sorted(by_size.items(), reverse=True):
        # What finishes last holds the map of all that it contains.
        for name in reversed(names):
            if _all_passes_through(model, name, pair):
                chosen.append(name)
                break
    if not chosen:
        raise ValueError(
            '--layers: no map (B, C, H, W) found that all passes through, or '
            'the output is not finite; name modules, and for tokens '
            "--token-grid, such as 'backbone.patch_embed'"
        )
    return chosen
