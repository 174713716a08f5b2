"""A run is recorded whole, however often it was killed or damaged."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import Pictures
from mmengine.hooks import Hook
from mmengine.registry import DATASETS
from mmengine.runner import CheckpointLoader
from recorded_runs import Killed, KillHook, check_equal, loader, train

from u1_plugin.lab.divergence_hook import DivergenceHook
from u1_plugin.lab.resume import why_anew
from u1_plugin.lab.run_record_hook import held


@pytest.fixture(scope='module')
def whole(tmp_path_factory) -> tuple:
    """Weights and record of a run that nobody interrupted."""
    folder = tmp_path_factory.mktemp('record') / 'whole'
    runner, record = train(folder, test=True)
    assert record['resumed'] == [] and len(record['order']) == 4
    assert [entry['epoch'] for entry in record['val']] == [1, 2, 3, 4]
    assert record['draws'] == 'seeded by sample'
    return runner.model.state_dict(), record, folder


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


def test_a_seed_that_nobody_gave_is_that_of_the_first_run(tmp_path):
    cut = tmp_path / 'cut'
    with pytest.raises(Killed):
        train(
            cut, KillHook('before_train_epoch', 3), randomness=dict(seed=None)
        )
    runner, record = train(cut, resume=True, randomness=dict(seed=None))
    assert record['resumed']
    seed = dict(seed=runner.seed)
    other, whole = train(tmp_path / 'whole', randomness=seed)
    assert record['order'] == whole['order']
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, other.model.state_dict()[name]), name


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


@pytest.mark.parametrize('name', ['loss', 'loss_u1'])
def test_each_part_of_the_loss_is_looked_at(name):
    """MMEngine's `loss` is the head's own, where a head calls its so."""
    hook, model = DivergenceHook(), torch.nn.Linear(1, 1)
    runner = SimpleNamespace(model=model, epoch=0)
    hook.before_train_epoch(runner)
    outputs = {'loss': torch.tensor(2.3), 'loss_u1': torch.tensor(0.1)}
    hook.after_train_iter(runner, 0, None, outputs)
    hook.after_train_epoch(runner)
    outputs[name] = torch.tensor(float('nan'))
    hook.after_train_iter(runner, 1, None, outputs)
    hook.after_train_iter(runner, 2, None, dict(loss=torch.tensor(2.3)))
    with pytest.raises(FloatingPointError, match='epoch 1 has diverged'):
        hook.after_train_epoch(runner)


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
