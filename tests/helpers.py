"""Small real models and data samples that several test files share."""

import logging
import shutil
import warnings
from pathlib import Path
from typing import Optional

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.structures import DataSample
from torch.utils.data import Dataset

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
    loss: Optional[dict] = None,
    class_angles: Optional[dict] = None,
    **backbone,
) -> ConfigDict:
    """The U(1) twin of :func:`plain_config`, with options of its branch."""
    config = plain_config(head, **backbone)
    config.type = 'U1ImageClassifier'
    parts = dict(neck=neck, loss=loss, class_angles=class_angles)
    config.u1 = {name: part for name, part in parts.items() if part}
    return config


def memory_config(**head) -> ConfigDict:
    """A narrow backbone and a memory, with options of its head."""
    head = dict(type='MemoryBankHead', num_classes=10, in_channels=64) | head
    config = plain_config(head, base_channels=8, stem_channels=8)
    config.pop('neck')
    return config


def memory_classifier(**head) -> torch.nn.Module:
    """Of :func:`memory_config`, with an empty memory, in eval mode."""
    torch.manual_seed(0)
    return MODELS.build(memory_config(**head)).eval()


@DATASETS.register_module(force=True)
class Pictures(Dataset):
    """Random images, whose class is their number modulo 10."""

    metainfo = dict(classes=tuple('abcdefghij'))

    def __init__(self, count: int = 23, size: int = 32) -> None:
        self.inputs, self.samples = images(count, size), samples(count)
        for i, sample in enumerate(self.samples):
            sample.set_metainfo(dict(sample_idx=i))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        return dict(
            inputs=self.inputs[index] * 255, data_samples=self.samples[index]
        )


def copied_suites(root: Path, folder: Path) -> Path:
    """A copy of the configs, for suites of its own."""
    shutil.copytree(root / 'configs', folder / 'configs')
    return folder / 'configs/suites'


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
