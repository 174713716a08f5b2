"""A small training that may be killed at any stage, and its record."""

import json
import logging
import random
from pathlib import Path

import numpy as np
import torch
from helpers import Pictures, plain_config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from u1_plugin.lab.run_record_hook import RunRecordHook
from u1_plugin.lab.sample_seed_hook import SampleSeedHook
from u1_plugin.mm.hooks.whole_checkpoint_hook import WholeCheckpointHook

PREPROCESSOR = dict(
    type='ClsDataPreprocessor',
    mean=[127.5] * 3,
    std=[127.5] * 3,
    num_classes=10,
    batch_augments=dict(augments=dict(type='Mixup', alpha=1.0)),
)
DROPOUT = dict(
    type='StackedLinearClsHead',
    num_classes=10,
    in_channels=16,
    mid_channels=[8],
    dropout_rate=0.5,
)
#: What a run costs may differ; where it went on must.
COST = ('wall_s', 'cpu_s', 'peak_rss_mib', 'peak_cuda_mib', 'resumed')


@DATASETS.register_module(force=True)
class NoisyPictures(Pictures):
    """Draws from all three generators, as transforms do."""

    def __getitem__(self, index: int) -> dict:
        sample = super().__getitem__(index)
        noise = 9 * torch.rand(3, 16, 16) + np.random.rand() + random.random()
        return dict(
            inputs=sample['inputs'] + noise,
            data_samples=sample['data_samples'].clone(),  # Mixup writes there
        )


class Killed(Exception):
    """Stands for a signal."""


class KillHook(Hook):
    """Ends the run at a stage of an epoch or its checkpoint, once."""

    priority = 'LOWEST'

    def __init__(self, stage: str, epoch: int) -> None:
        def kill(runner, **kwargs) -> None:
            # An epoch counts once it is over.
            done = runner.epoch + (stage != 'before_val_epoch')
            if done == epoch:
                raise Killed

        setattr(self, stage, kill)


def loader(shuffle: bool, workers: int = 0) -> dict:
    kind = 'NoisyPictures' if shuffle else 'Pictures'
    return dict(
        dataset=dict(type=kind, count=8, size=16),
        batch_size=4,
        num_workers=workers,
        persistent_workers=workers > 0,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        collate_fn=dict(type='pseudo_collate'),
    )


def train(folder, *hooks, test: bool = False, workers: int = 0, **settings):
    """A run of four epochs; its runner and its record."""
    model = plain_config(DROPOUT, base_channels=2, stem_channels=2)
    model.data_preprocessor = PREPROCESSOR
    checkpoint = dict(interval=1, max_keep_ckpts=1)
    checkpoint.update(settings.pop('checkpoint', {}))
    identity = settings.pop('identity', dict(name='a run'))
    settings = (
        dict(
            optim_wrapper=dict(
                optimizer=dict(type='SGD', lr=0.05, momentum=0.9)
            ),
            param_scheduler=dict(type='CosineAnnealingLR', T_max=4),
            seeds=[SampleSeedHook()],
        )
        | settings
    )
    settings.setdefault('train_dataloader', loader(True, workers))
    runner = Runner(
        model=model,
        work_dir=str(folder),
        experiment_name=f'{folder.name}-{len(list(folder.glob("2*")))}',
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
        val_dataloader=loader(False),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy'),
        default_hooks=dict(checkpoint=WholeCheckpointHook(**checkpoint)),
        custom_hooks=[
            *settings.pop('seeds'),
            *hooks,
            RunRecordHook(identity, test),
        ],
        default_scope='mmpretrain',
        log_level='ERROR',
        randomness=settings.pop('randomness', dict(seed=0)),
        cfg=dict(test_dataloader=loader(False)),
        **settings,
    )
    runner.logger.setLevel(logging.ERROR)
    runner.train()
    return runner, json.loads((folder / 'run_record.json').read_text())


def without_cost(record: dict) -> dict:
    return {name: v for name, v in record.items() if name not in COST}


def check_equal(whole: tuple, runner: Runner, record: dict) -> None:
    state, other, _ = whole
    assert without_cost(record) == without_cost(other)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    folder = Path(runner.work_dir)
    assert not (folder / 'run_record.part.json').exists()
    assert [file.name for file in folder.glob('*.pth')] == ['epoch_4.pth']
