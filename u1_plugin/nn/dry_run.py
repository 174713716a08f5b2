"""Runs a network once on blank images and notes what its modules return.

In evaluation mode, without gradients; neither the network nor torch's random
generators are other than before.
"""

from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import (
    Any,
    Callable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .maps import OutputTensor, first_tensor, output_tensors
from .origins import Origins
from .preserved_state import is_scripted, preserve_state

#: Sides of the blank images, in turn, where the network does not name one.
_SIDES = (224, 32, 28, 64, 96, 112, 128, 160, 192, 256, 299, 320, 384, 448, 512)
#: What these return is a part of a block, not its map: projections of tokens
#: and matrices of attention look like maps.
_INSIDE_BLOCKS = (
    nn.Linear,
    nn.Softmax,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
)


class ModuleOutput(NamedTuple):
    """What a module returned in one call, without the tensors' values.

    ``automatic`` says whether ``layers='auto'`` may choose it.
    """

    name: str
    parts: List[OutputTensor]
    automatic: bool


class DryRun(NamedTuple):
    """What a network did with blank images.

    Attributes:
        outputs (List[ModuleOutput]): Of modules, as they finished.
        size (Tuple[int, int]): H and W of the images.
        image_module (str, optional): The first module that was called with
            the images, or with what has their shape.
    """

    outputs: List[ModuleOutput]
    size: Tuple[int, int]
    image_module: Optional[str] = None


def inner(model: nn.Module) -> Tuple[str, nn.Module]:
    """Where a classifier keeps the network that reads the images."""
    for name in ('backbone', 'model'):
        network = getattr(model, name, None)
        if isinstance(network, nn.Module):
            return name, network
    return '', model


def _channels(model: nn.Module) -> List[int]:
    """Channels that images may have, the likeliest first."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            # A stem may fold pixels into channels before its convolution.
            return list(dict.fromkeys([module.in_channels, 3]))
    return [3]


def named_size(model: nn.Module) -> Optional[Tuple[int, int]]:
    """Height and width of the images that a network is for, if it says so."""
    _, network = inner(model)
    patches = getattr(network, 'patch_embed', None)
    for owner, name in (
        (network, 'img_size'),
        (network, 'input_size'),
        (patches, 'img_size'),
        (patches, 'init_input_size'),
        (getattr(network, 'config', None), 'image_size'),  # of transformers
    ):
        size = getattr(owner, name, None)
        if isinstance(size, int):  # some call a number of channels so
            size = None if name == 'input_size' and size < 8 else (size, size)
        if isinstance(size, (tuple, list)) and len(size) == 2 and all(size):
            return int(size[0]), int(size[1])
    fixed = getattr(network, 'default_cfg', None)  # of timm
    if isinstance(fixed, dict) and fixed.get('fixed_input_size'):
        _, height, width = fixed['input_size']
        return height, width
    return None


def _check_sizes(model: nn.Module) -> None:
    """Raise ValueError if there are parameters without a size yet."""
    lazy = [n for n, p in model.named_parameters() if is_lazy(p)]
    if lazy:
        raise ValueError(
            f'u1.neck.layers: {lazy[0]} has no size before the network runs, '
            'and a trial would decide it; run the network once on an image '
            'before the branch is built'
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients and no trace of a forward pass."""
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with preserve_state(model):
        # Not `model.eval()`: a classifier may hook into it.
        model.training = False
        for child in model.children():
            child.eval()
        with torch.no_grad(), torch.random.fork_rng(list(devices)):
            yield


def _extract(
    model: nn.Module, images: Tensor, again: Callable[[Tensor], None]
) -> Any:
    """Everything that makes maps, and of the head as little as can be."""
    for name in ('extract_feat', 'forward_features'):
        method = getattr(model, name, None)
        if method is not None:
            try:
                return method(images)
            except (NotImplementedError, TypeError):  # of more arguments
                again(images)
    return model(images)


def _try(
    model: nn.Module,
    run: Callable[[nn.Module, Tensor], Any],
    sides: Sequence[int] = _SIDES,
) -> Tuple[Any, Tuple[int, int]]:
    """The first ``run(model, images)`` that raises nothing, and H and W.

    The ValueError, if all raise, tells the likeliest run's error.
    """
    first: Optional[Exception] = None
    like = next(model.parameters(), torch.empty(()))
    named = named_size(model)
    sizes = [named] if named else [(side, side) for side in sides]
    for size, channels in product(sizes, _channels(model)):
        try:
            return run(model, like.new_zeros(2, channels, *size)), size
        except Exception as error:
            first = first or error
    raise ValueError(
        f'u1.neck.layers: {type(model).__name__} cannot be tried on blank '
        f'images: {type(first).__name__}: {first}; give the network an '
        'attribute input_size = (H, W) if it takes images of that size only'
    ) from first


def dry_run(
    model: nn.Module, sides: Sequence[int] = _SIDES, whole: bool = False
) -> DryRun:
    """Run a network on two blank images and watch all of its modules.

    Two, because the windows of attention are told from images by their number.

    Args:
        model (nn.Module): Any module that takes images ``(B, C, H, W)``.
        sides (Sequence[int]): Of square images, tried in turn, where the
            network does not name a size.
        whole (bool): Whether to run the head as well.

    Raises:
        ValueError: If it does not run, has parameters without a size yet, or
            is scripted.
    """
    if is_scripted(model):
        raise ValueError(
            f'u1.neck.layers: the network is a {type(model).__name__}, of '
            'which no module can be read; build the branch on the network '
            'before torch.jit scripts or traces it'
        )
    _check_sizes(model)
    outputs: List[ModuleOutput] = []
    pooled: List[nn.Module] = []
    inputs: List[Tensor] = []
    called: List[str] = []
    origins: List[Origins] = []

    def see(name: str, module: nn.Module, args: Any, kwargs: Any) -> None:
        tensor = first_tensor(args, kwargs)
        if tensor is not None and tensor.shape == inputs[0].shape:
            called.append(name)

    def run(model: nn.Module, images: Tensor) -> Any:
        begin(images)
        return model(images) if whole else _extract(model, images, begin)

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        automatic = not pooled and not isinstance(module, _INSIDE_BLOCKS)
        parts = origins[-1].noted(name, module, output)
        outputs.append(ModuleOutput(name, parts, automatic))

    def pool(module: nn.Module, args: Any) -> None:
        pooled.append(module)

    def begin(images: Tensor) -> None:
        for record in (outputs, pooled, inputs, called, origins):
            record.clear()
        inputs.append(images)
        origins.append(Origins())

    handles: List[Any] = []

    def hook(name: str, module: nn.Module) -> None:
        if name and not isinstance(module, (nn.ModuleList, nn.ModuleDict)):
            handles.append(module.register_forward_hook(partial(note, name)))
        pre_hook = partial(see, name)
        handles.append(
            module.register_forward_pre_hook(pre_hook, with_kwargs=True)
        )
        # The class token gathers the patches there, which are no map after it.
        if 'ClassAttention' in type(module).__name__:
            handles.append(module.register_forward_pre_hook(pool))

    try:
        for name, module in model.named_modules():
            if not is_scripted(module):
                hook(name, module)
        with _evaluating(model):
            _, size = _try(model, run, sides)
    finally:
        for handle in handles:
            handle.remove()
    return DryRun(outputs, size, called[0] if called else None)


def count_logits(model: nn.Module) -> Optional[int]:
    """K, from the logits that a classifier gives for blank images.

    None if it does not run, or gives other than ``(B, K)``, or a tuple of them.

    Raises:
        ValueError: If there are parameters without a size yet.
    """
    _check_sizes(model)
    try:
        with _evaluating(model):
            logits, _ = _try(model, lambda model, images: model(images))
    except ValueError:
        return None
    shapes = {tuple(part.value.shape) for part in output_tensors(logits)}
    shape = shapes.pop() if len(shapes) == 1 else ()
    return shape[1] if len(shape) == 2 and shape[0] == 2 else None
