"""Hooks of a benchmark's run: where it starts, and what is recorded of it."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import images, plain_config, u1_config
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from u1_plugin.lab.paired_start_hook import PairedStartHook
from u1_plugin.lab.run_record_hook import RunRecordHook

PREPROCESSOR = dict(
    type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3
)


class Killed(Exception):
    """Stands for a signal."""


class KillHook(Hook):
    """Ends the run after its third epoch."""

    priority = 'LOWEST'

    def after_train_epoch(self, runner) -> None:
        if runner.epoch == 2:  # of the epochs 0, 1, 2, ...
            raise Killed


def loader(shuffle: bool) -> dict:
    return dict(
        dataset=dict(type='Pictures', count=8, size=16),
        batch_size=4,
        sampler=dict(type='DefaultSampler', shuffle=shuffle),
        collate_fn=dict(type='pseudo_collate'),
    )


def train(folder, *hooks, test: bool = False, **settings) -> tuple:
    """A run of four epochs; its runner and its record."""
    model = plain_config()
    model.data_preprocessor = PREPROCESSOR
    runner = Runner(
        model=model,
        work_dir=str(folder),
        experiment_name=f'{folder.name}-{len(list(folder.glob("2*")))}',
        train_dataloader=loader(True),
        train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        val_dataloader=loader(False),
        val_cfg=dict(),
        val_evaluator=dict(type='Accuracy'),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=2)),
        custom_hooks=[*hooks, RunRecordHook(dict(name=folder.name), test)],
        default_scope='mmpretrain',
        log_level='ERROR',
        randomness=dict(seed=0),
        cfg=dict(test_dataloader=loader(False)),
        **settings,
    )
    runner.logger.setLevel(logging.ERROR)
    runner.train()
    return runner, json.loads((folder / 'run_record.json').read_text())


def test_a_resumed_run_records_every_epoch_once(tmp_path):
    _, whole = train(tmp_path / 'whole')
    folder = tmp_path / 'killed'
    with pytest.raises(Killed):
        train(folder, KillHook())
    part = json.loads((folder / 'run_record.part.json').read_text())
    assert len(part['order']) == 3 and not (folder / 'epoch_3.pth').exists()
    _, resumed = train(folder, resume=True)
    assert resumed['order'] == whole['order'] and len(whole['order']) == 4
    epochs = [entry['epoch'] for entry in resumed['val']]
    assert epochs == [entry['epoch'] for entry in whole['val']] == [1, 2, 3, 4]
    assert resumed['initial'] == whole['initial'] == part['initial']
    assert resumed['wall_s'] > part['wall_s'] > 0
    assert not (folder / 'run_record.part.json').exists()


class EndHook(Hook):
    """Reads the record when training is over."""

    priority = 'LOW'

    def after_train(self, runner) -> None:
        part = Path(runner.work_dir) / 'run_record.part.json'
        self.record = json.loads(part.read_text())


def test_what_comes_after_the_last_epoch_costs_nothing(tmp_path):
    end = EndHook()
    _, record = train(tmp_path / 'run', end, test=True)
    for cost in ('wall_s', 'cpu_s', 'peak_rss_mib'):
        assert record[cost] == end.record[cost] > 0
    assert 0 <= record['test']['accuracy/top1'] <= 100


def test_the_test_split_sees_the_averaged_weights(tmp_path):
    average = EMAHook(momentum=0.5)
    runner, _ = train(tmp_path / 'run', average, test=True)
    with np.load(tmp_path / 'run/test_outputs.npz') as outputs:
        logits = outputs['logits']
    data = runner.model.data_preprocessor(
        dict(inputs=list(images(8, 16) * 255)), False
    )
    with torch.no_grad():
        own, averaged = (
            model.eval()(data['inputs'], mode='tensor').half().numpy()
            for model in (runner.model, average.ema_model.module)
        )
    assert np.allclose(logits, averaged, atol=1e-2)
    assert not np.allclose(logits, own, atol=1e-2)


def started(config: dict) -> tuple:
    """A model after the hook and MMEngine's own initialisation; a number."""
    torch.manual_seed(len(str(config)))  # whatever was drawn before
    runner = SimpleNamespace(model=MODELS.build(config))
    PairedStartHook(plain_config(), seed=3).before_run(runner)
    runner.model.init_weights()
    return runner.model, torch.rand(1)


@pytest.mark.parametrize(
    'config',
    [
        u1_config(),
        plain_config(
            dict(type='ArcFaceClsHead', num_classes=10, in_channels=128)
        ),
        plain_config(
            dict(
                type='StackedLinearClsHead',
                num_classes=10,
                in_channels=128,
                mid_channels=[7],
            )
        ),
    ],
    ids=['u1', 'arcface', 'draws more numbers'],
)
def test_arms_start_alike(config):
    plain, number = started(plain_config())
    other, same = started(config)
    assert torch.equal(same, number)  # augmentation draws the same in every arm
    state = other.state_dict()
    for name, value in plain.backbone.state_dict().items():
        assert torch.equal(state[f'backbone.{name}'], value)
    weight = plain.head.fc.weight.detach()
    assert weight.std().item() == pytest.approx(0.01, rel=0.1)
    if config.type == 'U1ImageClassifier':
        assert torch.equal(state['head.fc.weight'], weight)


def test_another_backbone_is_no_pair():
    runner = SimpleNamespace(model=MODELS.build(plain_config(base_channels=8)))
    hook = PairedStartHook(plain_config(), seed=3)
    with pytest.raises(ValueError, match='is not that of the plain twin'):
        hook.before_run(runner)
