"""Hooks of epochs where MMEngine's one epoch is the whole training."""

from types import SimpleNamespace

import pytest
import torch
from helpers import build, u1_config
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from u1_plugin.lab.divergence_hook import DivergenceHook


class Angles(Hook):
    """Notes the angles of every iteration."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.seen = []

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        angles = runner.model.u1.class_angles.angles
        self.seen.append(tuple(angles.flatten().tolist()))


def trained(folder, sampler: str, *hooks: dict, **loop) -> Angles:
    """Batches of 8 images, of which the data set has 24."""
    angles = Angles()
    runner = Runner(
        build(u1_config()),
        str(folder),
        train_dataloader=dict(
            batch_size=8,
            dataset=dict(type='Pictures', count=24),
            sampler=dict(type=sampler, shuffle=True),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(checkpoint=None, logger=None),
        custom_hooks=[*hooks, angles],
        default_scope='mmpretrain',
        log_level='ERROR',
    )
    runner.train()
    return angles


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_angles_are_dealt_anew_after_every_pass(sampler, tmp_path):
    hook = dict(type='PermuteAnglesHook', seed=3)
    by_epoch = trained(
        tmp_path, 'DefaultSampler', hook, by_epoch=True, max_epochs=3
    )
    by_iter = trained(tmp_path, sampler, hook, by_epoch=False, max_iters=9)
    assert by_iter.seen == by_epoch.seen
    assert len(by_iter.seen) == 9 and len(set(by_iter.seen)) == 3


def test_averages_of_dealt_angles_are_refused(tmp_path):
    """Or the checkpoint's angles, EMA's, would be none that was dealt."""
    hooks = [dict(type=name) for name in ('PermuteAnglesHook', 'EMAHook')]
    loop = dict(by_epoch=True, max_epochs=1)
    trained(tmp_path / 'a', 'DefaultSampler', *hooks, **loop)
    hooks[1].update(update_buffers=True)
    with pytest.raises(ValueError, match='EMAHook.update_buffers=True'):
        trained(tmp_path / 'b', 'DefaultSampler', *hooks, **loop)


def test_a_diverged_run_ends_at_its_next_validation():
    runner = SimpleNamespace(
        model=torch.nn.Linear(2, 2),
        iter=40,
        _train_loop=object.__new__(IterBasedTrainLoop),
    )
    hook = DivergenceHook()
    hook.before_train_epoch(runner)
    hook.after_train_iter(runner, 0, outputs=dict(loss=torch.tensor(1.0)))
    hook.before_val_epoch(runner)
    hook.after_train_iter(runner, 1, outputs=dict(loss=torch.tensor(1e39)))
    with pytest.raises(FloatingPointError, match='iteration 40 has diverged'):
        hook.before_val_epoch(runner)
    # A validation after epochs: the hook has looked after the training.
    runner._train_loop = None
    hook.before_val_epoch(runner)
