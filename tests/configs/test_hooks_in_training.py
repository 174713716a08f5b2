"""Hooks at any place measure the averaged weights when they should."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from digit_runs import HOOKS, build, class_angles, summaries
from mmengine.hooks import EMAHook

from u1_plugin.mm.hooks.measure_class_angles_hook import (
    MeasureClassAnglesHook,
    _loader_config,
)


def test_what_a_finished_training_would_fail_for_is_said_before(config):
    for loop in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            config.pop(f'{loop}_{part}')
    runner = build(config, [dict(type='MeasureClassAnglesHook')])
    with pytest.raises(ValueError, match='test_dataloader'):
        runner.train()
    assert runner.iter == 0


def test_class_angles_are_those_of_the_averaged_weights(config):
    hooks = [dict(type='MeasureClassAnglesHook'), dict(type='EMAHook')]
    hooks[1]['momentum'] = 0.5
    runner = build(config, hooks)
    runner.train()
    (ema,) = (hook for hook in runner.hooks if isinstance(hook, EMAHook))
    found = class_angles(runner)
    weights = Path(runner.work_dir) / 'epoch_1.pth'
    content = torch.load(weights, weights_only=False)
    runner.model.load_state_dict(content['state_dict'])
    measure = MeasureClassAnglesHook()
    runner._hooks = [hook for hook in runner.hooks if hook is not ema]
    measure.after_train(runner)
    again = class_angles(runner)
    for name in ('class_angles', 'resultant'):
        np.testing.assert_allclose(found[name], again[name], atol=1e-5)


def train_on_two_ranks(config, root, environment, folder):
    config.dump(str(folder / 'ranks.py'))
    launch = ['torch.distributed.run', '--nproc_per_node=2', '--standalone']
    command = [sys.executable, '-m', *launch, str(root / 'tools/train.py')]
    return subprocess.run(
        [*command, 'ranks.py', '--launcher=pytorch'],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )


def test_fewer_images_than_ranks_are_said_and_not_waited_for(
    config, root, environment, tmp_path
):
    config.custom_hooks = [dict(type='MeasureClassAnglesHook')]
    config.train_dataloader.dataset.indices = 1
    failed = train_on_two_ranks(config, root, environment, tmp_path)
    assert failed.returncode
    assert 'fewer images than processes' in failed.stderr


def test_two_ranks_measure_their_checkpoint_s_class_angles(
    config, root, environment, tmp_path
):
    hooks = [dict(type='MeasureClassAnglesHook')]
    config.custom_hooks = hooks
    train_on_two_ranks(config, root, environment, tmp_path).check_returncode()
    folder = Path(config.work_dir)
    found = json.loads((folder / 'class_angles.json').read_text())
    content = torch.load(folder / 'epoch_1.pth', weights_only=False)
    config.work_dir += '-one'
    runner = build(config, hooks)
    runner.model.load_state_dict(content['state_dict'])
    MeasureClassAnglesHook().after_train(runner)
    alone = class_angles(runner)
    for name in ('class_angles', 'resultant'):
        np.testing.assert_allclose(found[name], alone[name], atol=1e-4)


def test_angles_are_of_all_training_images(config):
    """However little of the test split the config looks at."""
    config.test_dataloader.num_batch_per_epoch = 1
    runner = build(config, [dict(type='MeasureClassAnglesHook')])
    loader = runner.build_dataloader(_loader_config(runner))
    images = len(runner.train_dataloader.dataset)
    assert sum(len(batch['inputs']) for batch in loader) == images > 0


def test_hooks_at_any_place_measure_the_averaged_weights(config):
    ema = dict(type='mmpretrain.EMAHook', momentum=0.5, evaluate_on_origin=True)
    first = dict(type='AngleStatsHook', priority='HIGHEST')
    last = dict(type='AngleStatsHook', plane='image', priority=95)
    hooks = [first, ema, dict(type='EnergyMapHook'), last]
    config.train_cfg.max_epochs = 2
    runner = build(config, hooks)
    runner.train()
    found = summaries(runner)
    names = {'energy_val_epoch_1', 'energy_val_epoch_2'}
    for epoch in (1, 2):
        names |= {f'angles_val_epoch_{epoch}', f'angles_val_epoch_{epoch}-2'}
    assert set(found) == names
    # Of the checkpoint, whose weights are averaged, and counted once.
    state = torch.load(
        Path(runner.work_dir) / 'epoch_2.pth', weights_only=False
    )['state_dict']
    config.test_dataloader.dataset.data_prefix = 'val'
    again = build(config, HOOKS)
    again.model.load_state_dict(state)
    again.test()
    tested = summaries(again)
    expected = tested['angles_test_epoch_0']['sources']['backbone/image']
    for name in ('angles_val_epoch_2', 'angles_val_epoch_2-2'):
        own = found[name]['sources']['backbone/image']
        np.testing.assert_allclose(own['mean'], expected['mean'], atol=1e-4)
        assert own['n'] == 30 and own['drift']['since'] == 1
        turned = own['drift']['angle']
        before = found[name.replace('_2', '_1')]['sources']['backbone/image']
        change = np.array(own['mean']) - np.array(before['mean'])
        np.testing.assert_allclose(
            np.exp(1j * np.array(turned)), np.exp(1j * change), atol=1e-6
        )
    energy = tested['energy_test_epoch_0']['layers']['backbone']
    own = found['energy_val_epoch_2']['layers']['backbone']
    np.testing.assert_allclose(own['profile'], energy['profile'], rtol=1e-4)
    scalars = Path(runner.log_dir) / 'vis_data/scalars.json'
    assert '"u1-2/backbone/image/drift_angle"' in scalars.read_text()


def test_training_by_iterations_without_default_hooks_and_a_resume(config):
    config.train_dataloader.sampler = dict(type='InfiniteSampler')
    config.train_cfg = dict(by_epoch=False, max_iters=4, val_interval=2)
    config.default_hooks = dict(
        logger=None,
        sampler_seed=None,
        checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=3),
    )
    runner = build(config, HOOKS)
    runner.train()
    names = {f'{k}_val_iter_{i}' for k in ('energy', 'angles') for i in (2, 4)}
    assert set(summaries(runner)) == names
    config.train_cfg.max_iters = 6
    config.resume, config.load_from = True, None
    again = build(config, HOOKS)
    again.train()
    found = summaries(again)
    assert 'angles_val_iter_6' in found
    drift = found['angles_val_iter_6']['sources']['backbone/image']['drift']
    # iter_4.pth is written before the validation of that iteration.
    assert drift['since'] == 2


def test_training_without_a_validation_writes_nothing(config):
    for part in ('dataloader', 'cfg', 'evaluator'):
        config.pop(f'val_{part}')
    runner = build(config, HOOKS)
    runner.train()
    assert summaries(runner) == {}


def test_weights_that_are_not_finite_have_no_angles(config):
    runner = build(config, HOOKS)
    runner.model.backbone.conv1.weight.data.fill_(float('nan'))
    metrics = runner.test()
    assert np.isnan(metrics['u1/resultant_length'])
    found = summaries(runner)
    assert found['angles_test_epoch_0']['sources'] == {}
    assert found['energy_test_epoch_0']['layers'] == {}
