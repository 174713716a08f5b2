"""How pictures of one's own are read and prepared for a network."""

from typing import Any, List, Mapping, Optional, Sequence

import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS
from torch import Tensor, nn

from ...mm.data import (
    dataset_type,
    leaves,
    reading_files,
    test_pipeline,
    type_name,
)
from .bottlenecks import run

#: Steps of a test pipeline that `--size` takes the place of.
_GEOMETRIC = ('Resize', 'ResizeEdge', 'CenterCrop', 'EfficientNetCenterCrop')

#: `color_type` of a picture for a network of so many channels.
_COLOR_TYPES = {1: 'grayscale', 3: 'color'}


def _square(size: int, edge: Optional[int] = None) -> List[dict]:
    return [
        dict(
            type='ResizeEdge',
            scale=edge or size,
            edge='short',
            interpolation='bicubic',
        ),
        dict(type='CenterCrop', crop_size=size),
    ]


def center_crop(size: int, edge: Optional[int] = None) -> List[dict]:
    """The usual test pipeline.

    Args:
        size (int): Of the square that the network sees, pixels.
        edge (int, optional): Length of the image's shorter edge before the
            crop. None means ``size``: nothing of a square image is lost.
    """
    return [
        dict(type='LoadImageFromFile'),
        *_square(size, edge),
        dict(type='PackInputs'),
    ]


def sized(pipeline: Sequence[Any], size: Optional[int]) -> List[Any]:
    """The pipeline with a square of ``size`` in place of its own sizes.

    Args:
        pipeline (Sequence): Of configs of transforms.
        size (int, optional): Pixels; None changes nothing.

    Raises:
        ValueError: If it does more than load, resize, crop and pack.
    """
    if size is None:
        return list(pipeline)
    names = [
        type_name(step if isinstance(step, Mapping) else type(step))
        for step in pipeline
    ]
    loading = [s for s, n in zip(pipeline, names) if n.startswith('Load')]
    packing = [s for s, n in zip(pipeline, names) if n == 'PackInputs']
    others = [
        name
        for name in names
        if not name.startswith('Load')
        and name not in (*_GEOMETRIC, 'PackInputs')
    ]
    if others or not packing:
        raise ValueError(
            f'--size {size}: the test pipeline has {others or names} beside '
            f'loading, {", ".join(_GEOMETRIC)} and PackInputs, and where a '
            'resize belongs among them is not known; leave --size out'
        )
    return [*loading, *_square(size), *packing]


def holds_rgb(config: Mapping) -> bool:
    """Whether the test images come as RGB; MMPretrain's own order is BGR.

    CIFAR's arrays do. Its networks know no other order, so pictures of one's
    own are turned to it (MMPretrain's inferencer leaves them as BGR).
    """
    loader = config.get('test_dataloader') or config.get('val_dataloader')
    for leaf in leaves(loader['dataset']) if loader else ():
        kind = dataset_type(leaf) if isinstance(leaf, Mapping) else type(leaf)
        if isinstance(kind, str):
            kind = DATASETS.get(kind)
        if isinstance(kind, type) and issubclass(kind, CIFAR10):
            return True
    return False


def turns_to_rgb(config: Mapping) -> bool:
    """Whether the model turns its images from BGR to RGB."""
    model = config.get('model') or {}
    preprocessor = model.get('data_preprocessor') or config.get(
        'data_preprocessor'
    )
    return bool((preprocessor or {}).get('to_rgb', False))


def _to_rgb(results: dict) -> dict:
    results['img'] = np.ascontiguousarray(results['img'][..., ::-1])
    return results


def picture_pipeline(
    config: Config, size: Optional[int], channels: int
) -> List[Any]:
    """How the config's test images are prepared, for image files.

    Args:
        config (Config): Of the network.
        size (int, optional): See :func:`sized`.
        channels (int): That the network takes; a picture is read so where the
            config's own data set holds arrays and its pipeline loads none.

    Returns:
        list: Of configs, and of functions.

    Raises:
        ValueError: If the config has no pipeline.
    """
    loader = config.get('test_dataloader') or config.get('val_dataloader')
    if size is not None and not loader:
        return center_crop(size)
    pipeline = test_pipeline(config)
    if pipeline is None:
        raise ValueError(
            'test_dataloader.dataset has no pipeline, which would prepare the '
            'pictures of --data; give it one'
        )
    steps = reading_files(pipeline)
    loads = len(steps) == len(pipeline)
    if not loads:
        steps[0]['color_type'] = _COLOR_TYPES.get(channels, 'unchanged')
    steps = sized(steps, size)
    if not loads and channels == 3 and holds_rgb(config):
        steps.insert(1, _to_rgb)
    return steps


def input_channels(model: nn.Module) -> int:
    """Channels of the images that a network takes: those of its first layer.

    3 where that does not tell: a stem may fold pixels into channels.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            takes_images = module.in_channels <= 4
            return module.in_channels if takes_images else _of_mean(model)
    return _of_mean(model)


def _of_mean(model: nn.Module) -> int:
    mean = getattr(getattr(model, 'data_preprocessor', None), 'mean', None)
    return 3 if mean is None or len(mean) == 1 else len(mean)


@torch.no_grad()
def first_inputs(model: nn.Module, batch: dict) -> Tensor:
    """A batch as the network takes it, once it has been seen to take it.

    Returns:
        Tensor: ``(B, C, H, W)``, preprocessed.

    Raises:
        ValueError: If the network or its data preprocessor does not run on
            such images.
    """
    shape = tuple(batch['inputs'][0].shape)
    try:
        inputs = model.data_preprocessor(batch, False)['inputs']
        run(model, inputs)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f'the network does not take images {shape} (C, H, W): {error}; '
            'let color_type of LoadImageFromFile in '
            'test_dataloader.dataset.pipeline (grayscale, color, unchanged) '
            'and data_preprocessor.mean and std fit model.backbone, or set '
            '--size'
        ) from error
    return inputs
