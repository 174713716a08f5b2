"""Reads the map of any module of a network, chosen by its name.

A position among the backbone's outputs says too little: ConvNeXt returns a
pooled vector, vision transformers a class token, VGG its logits. The map is
inside, at a module with a name, and a forward hook reads it there without
touching the network's config, parameters or outputs.
"""

from typing import Any, List, Optional, Tuple

import torch
from torch import Tensor, nn


def find_module(model: nn.Module, name: str, field: str) -> nn.Module:
    """The module of that dotted name.

    Args:
        model (nn.Module): Where to look.
        name (str): As in ``model.named_modules()``.
        field (str): The option that named it, for the message.

    Raises:
        ValueError: If there is none; the message lists what there is at the
            place where the name goes wrong.
    """
    module, path = model, []
    for part in name.split('.'):
        children = dict(module.named_children())
        if part not in children:
            place = '.'.join(path) or type(model).__name__
            known = ', '.join('.'.join([*path, key]) for key in children)
            raise ValueError(
                f'{field}={name!r}: {place} has no module {part!r}; '
                f'it has {known or "none"}'
            )
        module = children[part]
        path.append(part)
    return module


def as_map(output: Any, grid: Optional[Tuple[int, int]] = None) -> Tensor:
    """A module's output as a map.

    Args:
        output: A map ``(B, C, H, W)``, tokens ``(B, L, C)`` in row order, or
            MMPretrain's ``(tokens, (H, W))``. A list or tuple of maps, a
            pyramid, stands for its last.
        grid (Tuple[int, int], optional): ``(H, W)`` of the tokens. What
            precedes the last ``H * W`` tokens (class, distillation and
            register tokens) is left out. None takes the square that L fills.

    Returns:
        Tensor: ``(B, C, H, W)``.

    Raises:
        ValueError: If the output cannot be read as a map.
    """
    if isinstance(output, (tuple, list)) and output:
        if len(output) == 2 and not isinstance(output[1], Tensor):
            return as_map(output[0], tuple(output[1]))
        return as_map(output[-1], grid)
    if not isinstance(output, Tensor):
        raise ValueError(f'an output of type {type(output).__name__}')
    if output.ndim == 4:
        return output
    if output.ndim != 3:
        raise ValueError(f'an output of shape {tuple(output.shape)}')
    length = output.size(1)
    height, width = grid or (round(length**0.5),) * 2
    if not height * width <= length or (
        grid is None and height * width != length
    ):
        raise ValueError(
            f'{length} tokens and no grid that they fill, '
            'which neck.token_grid would name'
        )
    tokens = output[:, length - height * width :]
    return tokens.transpose(1, 2).unflatten(2, (height, width))


class Tap:
    """A forward hook that keeps a module's latest output.

    Args:
        owner (nn.Module): Keeps only while ``owner.training``. An object and
            no closure, so that copies of a model (EMA) tap the copy.
    """

    def __init__(self, owner: nn.Module) -> None:
        self.owner = owner
        self.output: Any = None

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.owner.training:
            self.output = output

    def pop(self) -> Any:
        """The latest output, once; None if there is none."""
        output, self.output = self.output, None
        return output


class MapCollector:
    """The maps of named modules during a ``with`` block, for analysis.

    Args:
        model (nn.Module): Any network.
        layers (List[str]): Names of its modules, such as
            ``'backbone.layer4'``.
        token_grid (str, optional): The module whose output ends in the
            ``(H, W)`` of the tokens, such as ``'backbone.patch_embed'``.

    Raises:
        ValueError: If there is no such module.

    Examples:
        >>> with MapCollector(model, ['backbone.layer4']) as collector:
        ...     model(images)
        ...     maps = collector.maps()  # {'backbone.layer4': (B, C, H, W)}
    """

    def __init__(
        self,
        model: nn.Module,
        layers: List[str],
        token_grid: Optional[str] = None,
    ) -> None:
        self.layers = list(layers)
        names = [*self.layers] + ([token_grid] if token_grid else [])
        self._modules = {
            name: find_module(model, name, 'layers') for name in names
        }
        self._token_grid = token_grid
        self._outputs: dict = {}
        self._handles: list = []

    def __enter__(self) -> 'MapCollector':
        for name, module in self._modules.items():

            def keep(module, args, output, name=name):
                self._outputs[name] = output

            self._handles.append(module.register_forward_hook(keep))
        return self

    def __exit__(self, *exception) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._outputs.clear()

    @torch.no_grad()
    def maps(self) -> dict:
        """Maps ``(B, C, H, W)`` of the latest forward pass, by layer.

        Raises:
            ValueError: If a layer did not run or has no map.
        """
        grid = None
        if self._token_grid:
            grid = read_grid(self._outputs.get(self._token_grid))
        maps = {}
        for name in self.layers:
            if name not in self._outputs:
                raise ValueError(f'layers: {name!r} did not run')
            try:
                maps[name] = as_map(self._outputs[name], grid)
            except ValueError as error:
                raise ValueError(f'layers: {name!r} gives {error}') from error
        return maps


def read_grid(output: Any) -> Tuple[int, int]:
    """``(H, W)`` of the tokens from a patch embedding's output.

    Args:
        output: ``(tokens, (H, W))``, as MMPretrain's ``PatchEmbed`` returns.

    Raises:
        ValueError: If it is something else.
    """
    if (
        not isinstance(output, (tuple, list))
        or len(output) != 2
        or len(output[1]) != 2
    ):
        raise ValueError(
            'neck.token_grid must name a module that returns (tokens, (H, W)),'
            " such as MMPretrain's 'backbone.patch_embed'"
        )
    return tuple(output[1])
