"""Test images of a benchmark's runs: clean, corrupted or of other folders."""

import copy
from pathlib import Path
from typing import NamedTuple, Optional

import numpy as np
import torch
from mmengine.config import Config
from mmpretrain.registry import DATASETS
from torch import Tensor

from ...options import Count, checked


class Images(NamedTuple):
    """A data set in memory.

    Attributes:
        inputs (Tensor): ``(N, 3, H, W)``, uint8.
        labels (np.ndarray): ``(N,)``; -1 where there is none.
    """

    inputs: Tensor
    labels: np.ndarray


def _load(dataset: dict, limit: Optional[int]) -> Images:
    built = DATASETS.build(dataset)
    count = len(built)
    # Evenly spaced: data sets are sorted by class.
    chosen = np.linspace(0, count - 1, min(limit or count, count)).round()
    packed = [built[int(i)] for i in chosen]
    labels = [
        int(p['data_samples'].gt_label)
        if 'gt_label' in p['data_samples']
        else -1
        for p in packed
    ]
    return Images(torch.stack([p['inputs'] for p in packed]), np.array(labels))


@checked()
def split_images(
    config: Config,
    corruption: Optional[str] = None,
    severity: int = 1,
    limit: Optional[Count] = None,
) -> Images:
    """The test split of a config, corrupted if wanted.

    Args:
        config (Config): Of a run.
        corruption (str, optional): Name for
            :class:`~u1_plugin.lab.corrupt.Corrupt`, which goes before the last
            step of the pipeline.
        severity (int): 1 to 5.
        limit (int, optional): So many evenly spaced images; None takes all.
    """
    dataset = copy.deepcopy(config.test_dataloader.dataset)
    if corruption is not None:
        step = dict(type='Corrupt', name=corruption, severity=severity)
        dataset.pipeline.insert(len(dataset.pipeline) - 1, step)
    return _load(dataset, limit)


@checked()
def folder_images(
    config: Config, folder: Path, limit: Optional[Count] = None
) -> Images:
    """Images of any folder, through the test pipeline of a config.

    Args:
        config (Config): Of a run.
        folder (Path): Searched with its sub-folders.
        limit (int, optional): So many evenly spaced images; None takes all.
    """
    pipeline = copy.deepcopy(config.test_dataloader.dataset.pipeline)
    dataset = dict(
        type='CustomDataset',
        data_root=str(folder),
        with_label=False,
        pipeline=pipeline,
    )
    return _load(dataset, limit)
