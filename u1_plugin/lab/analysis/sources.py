"""Networks that the analysis tools take by name."""

import math
from pathlib import Path
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..weights import load_weights, loading_parts, model_config
from .preparation import center_crop

#: What `timm:NAME` in place of a config begins with.
TIMM = 'timm:'

#: What is not zero padding: `nn.Conv2d.padding_mode` beside `'zeros'`.
PADDINGS = ('reflect', 'circular', 'replicate')


class Network(NamedTuple):
    """A network to analyse."""

    name: str  # for titles
    weights: str  # what its weights are, for readers
    model: nn.Module  # a classifier of MMPretrain's, in eval mode
    config: Config  # with ``test_dataloader`` if it came from a file


def _timm_config(
    name: str, pretrained: bool, image_size: Optional[int] = None
) -> Config:
    try:
        import timm
    except ImportError as error:
        raise ImportError(f'{TIMM}{name} needs timm: pip install timm') from (
            error
        )
    if not timm.is_model(name):
        close = ', '.join(timm.list_models(f'*{name.split("_")[0]}*')[:8])
        raise ValueError(
            f'{TIMM}{name}: timm has no such model; it has {close or "others"}'
        )
    data = timm.data.resolve_data_config(
        {}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()
    )
    if data['crop_mode'] == 'border':
        raise ValueError(
            f'{TIMM}{name}: its images are padded to a square '
            "(crop_mode='border'), which MMPretrain has no transform for; "
            'write a config with a pipeline of your own and model.type='
            "'TimmClassifier'"
        )
    size = data['input_size'][-1]
    edge = math.floor(size / data['crop_pct'])
    pipeline = center_crop(size, edge)
    if data['crop_mode'] == 'squash':  # the whole image, whatever its form
        pipeline[1] = dict(type='Resize', scale=(edge, edge))
    pipeline[1]['interpolation'] = data['interpolation']
    model = dict(type='TimmClassifier', model_name=name, pretrained=pretrained)
    if image_size and timm.get_pretrained_cfg(name).fixed_input_size:
        model['img_size'] = image_size  # it takes one size only
    return Config(
        dict(
            model=model,
            data_preprocessor=dict(
                mean=[255 * value for value in data['mean']],
                std=[255 * value for value in data['std']],
                to_rgb=True,
            ),
            # Of no data set: how pictures of one's own are prepared.
            test_dataloader=dict(dataset=dict(pipeline=pipeline)),
        )
    )


def _without_weights(config: ConfigDict) -> ConfigDict:
    """The model's config with nothing to download or load left in it."""
    config.pop('pretrained', None)
    for part, key in loading_parts(config):
        if key == 'pretrained':
            part[key] = False
        else:
            part.pop(key)
    return config


def _build(
    config: Config, seed: Optional[int], pretrained: bool = False
) -> nn.Module:
    """Build the model; with a seed, initialise it from that seed."""
    model = model_config(config)
    if not pretrained:
        model = _without_weights(model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        if seed is None:
            return MODELS.build(model)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            built = MODELS.build(model)
            built.init_weights()
            return built


def load_network(
    source: str,
    checkpoint: Optional[str] = None,
    seed: Optional[int] = None,
    options: Optional[dict] = None,
    size: Optional[int] = None,
) -> Network:
    """A network by the name of its config or of timm's model.

    Args:
        source (str): A config file, or ``timm:NAME``.
        checkpoint (str, optional): Of that config, of timm, or of MMPretrain's
            ``TIMMBackbone``. Without one, ``timm:NAME`` takes the weights that
            timm downloads.
        seed (int, optional): Initialise the weights anew in place of loading
            any: the untrained twin.
        options (dict, optional): As ``--cfg-options``.
        size (int, optional): Of the square images, pixels: of timm's networks
            that take one size only, which is built for this one then.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If a config comes without a checkpoint and without a seed,
            the checkpoint does not fit, or timm's weights cannot be had.
    """
    is_timm = source.startswith(TIMM)
    if not is_timm and checkpoint is None and seed is None:
        raise ValueError(
            f'{source} comes without CHECKPOINT; give one, or --untrained to '
            'analyse initial weights'
        )
    name = source[len(TIMM) :] if is_timm else Path(source).stem
    if is_timm:
        config = _timm_config(name, checkpoint is None and seed is None, size)
    else:
        config = Config.fromfile(source)
    if options:
        config.merge_from_dict(options)
    downloads = checkpoint is None and seed is None
    try:
        model = _build(config, seed, downloads)
    except Exception as error:  # whatever a hub's client raises
        if not downloads:
            raise
        raise ValueError(
            f"{source}: timm's pre-trained weights cannot be had here "
            f'({type(error).__name__}: {error}); give CHECKPOINT, or '
            '--untrained to analyse initial weights'
        ) from error
    if seed is not None:
        weights = f'untrained, seed {seed}'
    elif checkpoint is None:
        weights = "timm's pre-trained weights"
    else:
        weights = Path(checkpoint).name
        load_weights(model, checkpoint)
    model.eval()
    return Network(name, weights, model, config)


def untrained_twin(network: Network, seed: int) -> Network:
    """The same network with initial weights."""
    model = _build(network.config, seed).eval()
    return network._replace(model=model, weights=f'untrained, seed {seed}')


class _SamePadding:
    """TensorFlow's ``SAME`` convolution with another padding than zeros."""

    def __init__(self, conv: nn.Conv2d, mode: str) -> None:
        self.conv, self.mode = conv, mode

    def __call__(self, x: Tensor) -> Tensor:
        conv, pads = self.conv, []
        for axis in (1, 0):  # F.pad begins with the last dimension
            size, stride = x.shape[2 + axis], conv.stride[axis]
            reach = (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1
            need = max((-(-size // stride) - 1) * stride + reach - size, 0)
            pads += [need // 2, need - need // 2]
        return F.conv2d(
            F.pad(x, pads, self.mode),
            conv.weight,
            conv.bias,
            conv.stride,
            0,
            conv.dilation,
            conv.groups,
        )


def set_padding(model: nn.Module, mode: str) -> int:
    """Replace the zero padding of every convolution, in place.

    Args:
        model (nn.Module): To change.
        mode (str): One of :data:`PADDINGS`.

    Returns:
        int: Convolutions changed.

    Raises:
        ValueError: If there are none, or ``mode`` is unknown.
    """
    if mode not in PADDINGS:
        raise ValueError(f'--padding {mode!r} must be one of {PADDINGS}')
    changed = 0
    for module in model.modules():
        if not isinstance(module, nn.Conv2d):
            continue
        # Of timm and mmcv: they pad by themselves, whatever `padding` says.
        if type(module).__name__ in ('Conv2dSame', 'Conv2dAdaptivePadding'):
            module.forward = _SamePadding(module, mode)
        elif module.padding_mode == 'zeros' and any(
            module._reversed_padding_repeated_twice
        ):
            module.padding_mode = mode
        else:
            continue
        changed += 1
    if not changed:
        raise ValueError(
            f'--padding {mode}: the network has no zero-padded convolution; '
            'leave the option out'
        )
    return changed
