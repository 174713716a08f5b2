"""Small real models and data samples that several test files share."""

import logging
import warnings
from typing import Optional

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

import u1_plugin  # noqa: F401  (registers the components)

CHANNELS = 128
CLASSES = 10


def plain_config(head: Optional[dict] = None, **backbone) -> ConfigDict:
    """A quarter-width CIFAR ResNet-18 in MMPretrain's own classes."""
    default_head = dict(
        type='LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS
    )
    return ConfigDict(
        type='ImageClassifier',
        backbone=dict(
            dict(
                type='ResNet_CIFAR',
                depth=18,
                base_channels=16,
                stem_channels=16,
                out_indices=(3,),
            ),
            **backbone,
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=head or default_head,
    )


def u1_config(
    head: Optional[dict] = None,
    neck: Optional[dict] = None,
    u1_head: Optional[dict] = None,
    **backbone,
) -> ConfigDict:
    """The U(1) twin of :func:`plain_config`."""
    config = plain_config(head, **backbone)
    config.neck = dict(
        dict(type='BottleneckAngleNeck', neck=config.neck), **(neck or {})
    )
    config.head = dict(
        dict(type='U1ClsHead', cls_head=config.head), **(u1_head or {})
    )
    return config


def build(config: dict, seed: int = 0) -> torch.nn.Module:
    """Build and initialise as MMEngine's runner does, but quietly."""
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = MODELS.build(ConfigDict(config))
        model.init_weights()
    return model


def images(n: int = 4, size: int = 32, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 3, size, size, generator=generator)


def samples(n: int = 4) -> list:
    return [DataSample().set_gt_label(i % CLASSES) for i in range(n)]


def soft_samples(scores: torch.Tensor) -> list:
    return [DataSample().set_gt_score(score) for score in scores]
