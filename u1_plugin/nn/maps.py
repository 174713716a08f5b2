"""How a module's output holds a map, whatever its layout."""

import math
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from torch import Tensor

from ..geometry.scales import check_real

Grid = Tuple[int, int]
Layer = Union[int, str]
#: The first module to return a tensor in a pass, which call of it, and where.
Origin = Tuple[str, int, int]

#: Most tokens before the patches: class, distillation and register tokens.
MAX_PREFIX = 16


class Layout(NamedTuple):
    """``'NCHW'``, ``'NHWC'``, or of tokens ``'NLC'`` or ``'NCL'``.

    ``prefix`` tokens (of ``'NLC'`` only) precede the patch tokens.
    """

    order: str = 'NCHW'
    prefix: int = 0

    def __str__(self) -> str:
        if not self.prefix:
            return self.order
        tokens = 'token' if self.prefix == 1 else 'tokens'
        return f'{self.order} after {self.prefix} other {tokens}'


class MapSource(NamedTuple):
    """Where a map is read, and how.

    Attributes:
        layer (int | str): As configured; the module's name where it was found
            automatically.
        module (str): Name of the module whose output is read.
        index (int, optional): Place in the tuple that it returns, from the
            end; None: the only tensor.
        layout (Layout): Of the tensor.
        grid_module (str, optional): Whose output tells ``(H, W)`` of tokens.
        grid_layout (Layout, optional): Of that output, if it is a map.
        shape (Tuple[int, int, int]): ``(C, H, W)`` for the blank images.
        image_module (str, optional): That is called with the images, where
            nothing tells ``(H, W)`` of tokens, and they must be square.
        count (int, optional): Tensors of the output, for the blank images;
            None in pickles of earlier versions.
        origin (Tuple[str, int, int], optional): Of the tensor, for the blank
            images: maps of one origin are one map.
    """

    layer: Layer
    module: str
    index: Optional[int]  # type: ignore[assignment]  # not tuple's
    layout: Layout
    grid_module: Optional[str]
    grid_layout: Optional[Layout]
    shape: Tuple[int, int, int]
    image_module: Optional[str] = None
    count: Optional[int] = None  # type: ignore[assignment]  # not tuple's
    origin: Optional[Origin] = None

    def __str__(self) -> str:
        size = 'x'.join(map(str, self.shape))
        tokens = self.layout.order in ('NLC', 'NCL')
        guess = ' of a square' if tokens and self.grid_module is None else ''
        return f'{self.module} ({size}, {self.layout}{guess})'


class OutputTensor(NamedTuple):
    """A tensor inside a module's output.

    With the ``(H, W)`` that came with it, its place in a tuple, counted from
    the end, and in a dry run its origin.
    """

    value: Tensor
    grid: Optional[Grid] = None
    index: Optional[int] = None  # type: ignore[assignment]  # not tuple's
    origin: Optional[Origin] = None


def is_size(value: Any) -> bool:
    """Whether ``value`` is ``(H, W)``."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(side, int) and side > 0 for side in value)
    )


def output_tensors(output: Any) -> List[OutputTensor]:
    """The tensors of an output, in order.

    It is a tensor; MMPretrain's ``(tokens, (H, W))``; a tuple or list of maps,
    whose other entries are passed over; a mapping such as transformers' model
    outputs.
    """
    if isinstance(output, Tensor):
        return [OutputTensor(output)]
    if isinstance(output, dict):
        values = [v for v in output.values() if isinstance(v, Tensor)]
        count = len(values)
        return [OutputTensor(v, None, i - count) for i, v in enumerate(values)]
    if not isinstance(output, (tuple, list)):
        return []
    if len(output) == 2 and is_size(output[1]):
        if isinstance(output[0], Tensor):
            return [OutputTensor(output[0], tuple(output[1]))]
        return []
    parts = []
    for place, entry in enumerate(output):
        for part in output_tensors(entry)[-1:]:
            parts.append(part._replace(index=place - len(output)))
    return parts


def first_tensor(
    args: Sequence[Any], kwargs: Dict[str, Any]
) -> Optional[Tensor]:
    """The first tensor among a module's arguments, if there is one."""
    values = (*args, *kwargs.values())
    return next((v for v in values if isinstance(v, Tensor)), None)


def stated_format(network: Any) -> Tuple[Optional[bool], Optional[int]]:
    """What a network says of the layout of its maps; None where nothing.

    Args:
        network (nn.Module): As timm (``output_fmt``, ``num_prefix_tokens``) or
            MMPretrain (``num_extra_tokens``) builds it.

    Returns:
        Tuple[bool, int]: Whether channels are last, and how many tokens
        precede those of the patches.
    """
    output_format = getattr(network, 'output_fmt', None)
    output_format = getattr(output_format, 'value', output_format)
    channels_last = {'NHWC': True, 'NCHW': False}.get(str(output_format))
    prefix = None
    for name in ('num_extra_tokens', 'num_prefix_tokens'):
        value = getattr(network, name, None)
        prefix = value if isinstance(value, int) else prefix
    return channels_last, prefix


def layout_of(
    value: Tensor,
    grids: Sequence[Grid] = (),
    channels_last: Optional[bool] = None,
    prefix: Optional[int] = None,
    ratio: Optional[float] = None,
    most: float = MAX_PREFIX,
) -> Optional[Tuple[Layout, Grid]]:
    """How a tensor holds a map, guessed from its shape and the network.

    Args:
        value (Tensor): ``(B, ...)``.
        grids (Sequence[Tuple[int, int]]): Sizes that tokens may have, the
            likeliest first; None given leaves squares.
        channels_last (bool, optional): What the network says of itself.
        prefix (int, optional): What the network says of its other tokens.
        ratio (float, optional): H / W of the images, which a map has too but
            for a row; matrices of attention mostly have not. None: any map,
            of square images.
        most (float): So many other tokens may precede those of a grid.

    Returns:
        Tuple[Layout, Tuple[int, int]], optional: Layout and ``(H, W)``, or
        None if the shape is no map's.
    """
    if value.ndim == 4:
        return _image_layout(value, channels_last, ratio)
    if value.ndim != 3 or value.size(2) == 1:  # pooled: (B, C, 1)
        return None
    _, a, b = value.shape
    for height, width in grids:
        extra = a - height * width
        if 0 <= extra <= MAX_PREFIX and prefix in (None, extra):
            return Layout('NLC', extra), (height, width)
        if b == height * width:
            return Layout('NCL'), (height, width)
    extra = a - math.prod(grids[0]) if grids else 0
    if extra > 0:
        # Prompts, or no tokens of that grid. A larger square that they happen
        # to fill would not be the image's.
        return (Layout('NLC', extra), grids[0]) if extra <= most else None
    if prefix is not None:
        side = round(max(a - prefix, 0) ** 0.5)
        if side and side * side == a - prefix:
            return Layout('NLC', prefix), (side, side)
    side = int(a**0.5)  # of the largest square that they fill
    extra = a - side * side
    return (Layout('NLC', extra), (side, side)) if extra <= MAX_PREFIX else None


def _image_layout(
    value: Tensor, channels_last: Optional[bool], ratio: Optional[float]
) -> Optional[Tuple[Layout, Grid]]:
    _, a, b, c = value.shape
    if ratio is None:
        last = channels_last or (channels_last is None and a == b != c)
    else:
        # Rows too many or too few for the images' shape, of either reading.
        first_off, last_off = abs(b - ratio * c), abs(a - ratio * b)
        if min(first_off, last_off) > 1:
            return None
        last = (last_off, not channels_last) < (first_off, False)
    return (Layout('NHWC'), (a, b)) if last else (Layout('NCHW'), (b, c))


def as_map(value: Tensor, layout: Layout, grid: Optional[Grid]) -> Tensor:
    """A view of a tensor of that layout as ``(B, C, H, W)``.

    ``grid`` is ``(H, W)`` of tokens; None takes the square that they fill.

    Raises:
        ValueError: If the shape is not of that layout.
    """
    order, prefix = layout
    if value.ndim != len(order):
        raise ValueError(f'an output of shape {tuple(value.shape)}')
    if order == 'NCHW':
        return value
    if order == 'NHWC':
        return value.permute(0, 3, 1, 2)
    tokens = value[:, prefix:] if order == 'NLC' else value.transpose(1, 2)
    length = tokens.size(1)
    if grid is None:
        grid = (round(length**0.5),) * 2
    if grid[0] * grid[1] != length:
        raise ValueError(
            f'{length} tokens and no grid that they fill (not '
            f'{grid[0]}x{grid[1]}), which token_grid would name'
        )
    activation: Tensor = tokens.transpose(1, 2).unflatten(2, grid)
    return activation


def check_maps(maps: Sequence[Tensor], count: int) -> None:
    """Raise ValueError unless these are maps ``(B, C, H, W)``, so many."""
    is_sequence = isinstance(maps, (list, tuple))
    if not is_sequence or len(maps) != count:
        raise ValueError(
            f'maps must be a list of {count}, (B, C, H, W) of each layer, not '
            + (f'{len(maps)}' if is_sequence else type(maps).__name__)
        )
    for i, activation in enumerate(maps):
        check_real(f'maps[{i}]', activation, 1, 2, 3)
        if activation.ndim != 4 or not activation.dtype.is_floating_point:
            raise ValueError(
                f'maps[{i}] of shape {tuple(activation.shape)} and type '
                f'{activation.dtype} must be (B, C, H, W), floating point'
            )


def check_layers(
    layers: Union[Layer, Sequence[Layer]],
) -> Union[str, List[Layer]]:
    """``'auto'``, or a list of different layers; else a ValueError."""
    if layers == 'auto':
        return layers
    given = layers
    layers = [layers] if isinstance(layers, (int, str)) else layers
    if not layers or 'auto' in layers or len(set(layers)) != len(layers):
        raise ValueError(
            f"neck.layers={given!r} must be 'auto', or one or several "
            "different positions among the backbone's outputs, such as "
            "-1 or [2, 3], or names of modules, such as 'backbone.layer3'"
        )
    return list(layers)


def one_a_layer(field: str, value: Any, count: int) -> List[Any]:
    """An option's value for each layer: as given, or the same for all."""
    is_sequence = isinstance(value, (list, tuple))
    values = list(value) if is_sequence else [value] * count
    if len(values) != count:
        raise ValueError(
            f'neck.{field}={value} has {len(values)} entries, '
            f'but neck.layers has {count}; give one a layer'
        )
    return values
