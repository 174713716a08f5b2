"""Hooks of a benchmark's run: where it starts, and what is recorded of it."""

import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import Pictures, images, plain_config, u1_config
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import DATASETS
from mmengine.runner import CheckpointLoader, Runner
from mmpretrain.registry import MODELS

from u1_plugin.lab.divergence_hook import DivergenceHook
from u1_plugin.lab.going_on import why_anew
from u1_plugin.lab.paired_start_hook import PairedStartHook
from u1_plugin.lab.run_record_hook import RunRecordHook, held
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
        randomness=dict(seed=0),
        cfg=dict(test_dataloader=loader(False)),
        **settings,
    )
    runner.logger.setLevel(logging.ERROR)
    runner.train()
    return runner, json.loads((folder / 'run_record.json').read_text())


def without_cost(record: dict) -> dict:
    return {name: v for name, v in record.items() if name not in COST}


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> tuple:
    """Weights and record of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp('record') / 'whole'
    runner, record = train(folder, test=True)
    assert record['resumed'] == [] and len(record['order']) == 4
    assert [entry['epoch'] for entry in record['val']] == [1, 2, 3, 4]
    assert record['draws'] == 'seeded by sample'
    return runner.model.state_dict(), record, folder


def check_equal(whole: tuple, runner: Runner, record: dict) -> None:
    state, other, _ = whole
    assert without_cost(record) == without_cost(other)
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    folder = Path(runner.work_dir)
    assert not (folder / 'run_record.part.json').exists()
    assert [file.name for file in folder.glob('*.pth')] == ['epoch_4.pth']


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_killed_at_any_stage_is_the_uninterrupted_one(
    whole, tmp_path, workers
):
    """Augmentation, Mixup and dropout included."""
    stages = [
        ('after_train_epoch', 1),
        ('before_save_checkpoint', 2),
        ('before_train_iter', 2),
        ('before_val_epoch', 3),
        ('before_val_epoch', 4),
        ('after_train', 5),  # that is, after the fourth epoch
    ]
    for stage, epoch in stages:
        with pytest.raises(Killed):
            train(
                tmp_path,
                KillHook(stage, epoch),
                resume=True,
                test=True,
                workers=workers,
            )
    runner, record = train(tmp_path, resume=True, test=True, workers=workers)
    assert record['resumed'] == [1, 3, 4]
    check_equal(whole, runner, record)
    assert record['wall_s'] > 0
    again = train(tmp_path, resume=True, test=True)
    check_equal(whole, *again)


def truncate(folder: Path) -> None:
    file = folder / 'epoch_3.pth'
    file.write_bytes(file.read_bytes()[:-1000])


def turn_a_bit(folder: Path) -> None:
    file = folder / 'epoch_3.pth'
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def empty(folder: Path) -> None:
    (folder / 'last_checkpoint').write_text('')


def remove_all(folder: Path) -> None:
    for file in folder.glob('*.pth'):
        file.unlink()


def name_nothing(folder: Path) -> None:
    (folder / 'last_checkpoint').write_bytes(b'\xff/nowhere')


def move(folder: Path) -> None:
    last = folder / 'last_checkpoint'
    last.write_text(last.read_text().replace(str(folder), '/nowhere'))


@pytest.mark.parametrize(
    'damage, epoch',
    [
        (truncate, 2),
        (turn_a_bit, 2),
        (empty, 3),
        (name_nothing, 3),
        (move, 3),
        (remove_all, None),
    ],
)
def test_damage_costs_epochs_and_no_more(whole, tmp_path, damage, epoch):
    keep = dict(max_keep_ckpts=2)
    with pytest.raises(Killed):
        train(tmp_path, KillHook('before_train_epoch', 4), checkpoint=keep)
    (tmp_path / 'run_record.part.json').write_text('{"ident')
    damage(tmp_path)
    runner, record = train(tmp_path, resume=True, test=True)
    assert record['resumed'] == ([epoch] if epoch else [])
    for old in tmp_path.glob('epoch_[123].pth'):
        old.unlink()
    check_equal(whole, runner, record)


@pytest.mark.parametrize(
    'first, second',
    [
        (dict(identity=dict(name='another run')), {}),
        (dict(seeds=[]), {}),
        (dict(checkpoint=dict(save_optimizer=False)), {}),
        (dict(checkpoint=dict(save_param_scheduler=False)), {}),
        (dict(checkpoint=dict(by_epoch=False)), {}),
    ],
    ids=['identity', 'draws', 'optimizer', 'scheduler', 'iterations'],
)
def test_what_cannot_go_on_begins_anew(whole, tmp_path, first, second):
    with pytest.raises(Killed):
        train(tmp_path, KillHook('before_save_checkpoint', 4), **first)
    assert list(tmp_path.glob('*.pth'))
    runner, record = train(tmp_path, resume=True, test=True, **second)
    assert record['resumed'] == []
    for old in tmp_path.glob('iter_*.pth'):
        old.unlink()
    check_equal(whole, runner, record)


def test_the_last_epoch_needs_no_state_of_the_optimizer(whole, tmp_path):
    save = dict(save_optimizer=False, save_param_scheduler=False, interval=4)
    with pytest.raises(Killed):
        train(tmp_path, KillHook('before_val_epoch', 4), checkpoint=save)
    runner, record = train(tmp_path, resume=True, test=True)
    assert record['resumed'] == [4]
    check_equal(whole, runner, record)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(versions={}), 'other versions of the packages'),
        (dict(ranks=2), 'made by 2 processes, not 1'),
        (None, 'holds no record'),
    ],
)
def test_why_a_run_begins_anew(whole, change, words):
    record, folder = whole[1:]
    checkpoint = CheckpointLoader.load_checkpoint(str(folder / 'epoch_4.pth'))
    runner = SimpleNamespace(
        train_loop=SimpleNamespace(), train_dataloader=range(2), max_epochs=4
    )
    assert 'not by epochs' in why_anew(runner, checkpoint, record['identity'])
    kept = json.loads(checkpoint.pop('u1_run_record'))
    if change is not None:
        checkpoint['u1_run_record'] = json.dumps(kept | change)
    assert words in why_anew(runner, checkpoint, record['identity'])


def test_one_training_at_a_time_in_a_folder(tmp_path):
    first = held(tmp_path)
    process = os.fork()
    if process == 0:
        try:
            held(tmp_path)
        except RuntimeError as error:
            os._exit('another process trains there' in str(error))
        os._exit(2)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    first.close()


def test_a_run_that_diverges_is_no_result(tmp_path):
    far = dict(optimizer=dict(type='SGD', lr=1e30))
    for _ in range(2):
        with pytest.raises(FloatingPointError, match='epoch 1 has diverged'):
            train(tmp_path, DivergenceHook(), optim_wrapper=far, resume=True)
        assert not list(tmp_path.glob('*.pth'))
        assert not (tmp_path / 'run_record.json').exists()


class Unreadable(Pictures):
    """Its sixth picture is none."""

    def __getitem__(self, index: int) -> dict:
        if index == 5:
            raise OSError('broken data stream')
        return super().__getitem__(index)

    @staticmethod
    def get_data_info(index: int) -> dict:
        return dict(img_path=f'folder/{index}.png')


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_that_cannot_be_read_is_named(tmp_path, workers):
    DATASETS.register_module(module=Unreadable, force=True)
    data = loader(True, workers)
    data['dataset']['type'] = 'Unreadable'
    with pytest.raises(RuntimeError, match='folder/5.png cannot be read: OSE'):
        train(tmp_path, train_dataloader=data)


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


_BUFFERS = """
import sys
import torch
from mmengine.dist import get_rank
from u1_plugin.lab.outputs import share_buffers

torch.distributed.init_process_group('gloo')
model = torch.nn.BatchNorm2d(3)
model.running_mean += get_rank() + 1
model.num_batches_tracked += get_rank() + 5
share_buffers(model)
assert model.running_mean.tolist() == [1.0] * 3
assert model.num_batches_tracked == 5
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_ranks_are_evaluated_with_the_buffers_that_are_saved(
    tmp_path, environment
):
    script = tmp_path / 'buffers.py'
    script.write_text(_BUFFERS)
    command = [sys.executable, '-m', 'torch.distributed.run']
    command += ['--nproc_per_node=2', '--standalone', str(script)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
