"""Hooks write what the maps say, and never over what is there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from analysed_runs import Spy, make_runner, summary_file
from helpers import Pictures
from mmengine.config import Config
from mmpretrain.registry import DATASETS

from u1_plugin.geometry import energy, image_moment, pooled_vector
from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.probe import Probe
from u1_plugin.mm.hooks.measure_class_angles_hook import (
    MeasureClassAnglesHook,
    class_angles_of,
)
from u1_plugin.nn import ClassAngles


def test_nothing_is_attached_but_while_validating(tmp_path):
    spy = Spy()
    hooks = [dict(type='EnergyMapHook'), dict(type='AngleStatsHook'), spy]
    runner = make_runner(tmp_path, hooks, [dict(type='SymmetryBreaking')], 2)
    runner.train()
    # The model's own U(1) branch has one, which listens in training only.
    # The metric reads what the hook measures, and hooks nothing itself.
    assert spy.counts == [1, *[3] * 5, 1] * 2
    runner.test()
    modules = runner.model.modules()
    assert sum(len(module._forward_hooks) for module in modules) == 1


def test_hooks_write_what_the_maps_say(tmp_path):
    hooks = [dict(type='EnergyMapHook'), dict(type='AngleStatsHook')]
    runner = make_runner(tmp_path, hooks)
    runner.train()
    energies, angles = EnergyAccumulator(), AngleAccumulator(10)
    in_image = AngleAccumulator(10)
    data = Pictures()
    runner.model.eval()
    with torch.no_grad():
        # The batches of the loop, for equal rounding.
        for start in range(0, 23, 5):
            inputs = (data.inputs[start : start + 5] * 255 - 127.5) / 127.5
            labels = torch.arange(start, min(start + 5, 23)) % 10
            (maps,) = runner.model.backbone(inputs)
            plane = runner.model.u1.neck.feature_planes[0]
            intensity = maps.relu()
            energies.update(energy(intensity))
            angles.update(plane(pooled_vector(intensity)), labels)
            in_image.update(image_moment(energy(intensity)), labels)
    found = summary_file(runner, 'energy_val_epoch_1')['layers']['backbone']
    assert found['n'] == 23 and found['skipped'] == 0
    expected = energies.summary()
    np.testing.assert_allclose(found['profile'], expected.profile, rtol=1e-6)
    sources = summary_file(runner, 'angles_val_epoch_1')['sources']
    for plane, total in (('feature', angles), ('image', in_image)):
        own, expected = sources[f'backbone/{plane}'], total.summary()
        np.testing.assert_allclose(own['mean'], expected.mean, atol=1e-5)
        np.testing.assert_allclose(own['length'], expected.length, atol=1e-5)
        assert own['count'] == [3] * 3 + [2] * 7
        assert own['classes'] == list('abcdefghij')
        assert own['drift'] is None


def test_drift_goes_on_after_resuming(tmp_path):
    hooks = [dict(type='AngleStatsHook', plane='feature')]
    make_runner(tmp_path, hooks, epochs=2).train()
    runner = make_runner(tmp_path, hooks, epochs=3, resume=True)
    runner.train()
    found = summary_file(runner, 'angles_val_epoch_3')['sources']
    drift = found['backbone/feature']['drift']
    # epoch_2.pth is written before the validation of epoch 2.
    # The checkpoint is from before the validation of its own epoch.
    assert drift['since'] == 1
    assert not [n for n in runner.message_hub.log_scalars if 'drift' in n]
    before = next(
        json.loads(file.read_text())['sources']['backbone/feature']
        for file in tmp_path.glob('*/u1/angles_val_epoch_1/summary.json')
    )
    now = found['backbone/feature']
    for k in range(10):
        turned = now['mean'][k] - before['mean'][k]
        turned = (turned + np.pi) % (2 * np.pi) - np.pi
        assert abs(drift['angle'][k] - turned) < 1e-9
        grown = now['length'][k] - before['length'][k]
        assert abs(drift['length'][k] - grown) < 1e-9
    expected = np.mean(np.abs(drift['angle']))
    assert abs(drift['mean_angle'] - expected) < 1e-9


def test_results_are_never_overwritten(tmp_path):
    runner = make_runner(tmp_path, [dict(type='EnergyMapHook')])
    runner.test()
    runner.test()
    names = {path.name for path in (Path(runner.log_dir) / 'u1').iterdir()}
    assert names == {'energy_test_epoch_0', 'energy_test_epoch_0-2'}


@DATASETS.register_module(force=True)
class Piped(Pictures):
    """Pictures that need no pipeline, but are handed one."""

    def __init__(self, pipeline: list) -> None:
        assert pipeline == []
        super().__init__()


@pytest.mark.parametrize('given', [None, 'relu'])
def test_class_angles_are_measured_with_the_branch_s_orthant(given, tmp_path):
    dataset = dict(type='Piped', pipeline=[])
    test = dict(
        dataset=dataset, batch_size=23, collate_fn=dict(type='pseudo_collate')
    )
    runner = make_runner(
        tmp_path,
        [],
        neck=dict(orthant='softplus'),
        cfg=Config(
            dict(train_dataloader=dict(dataset=dataset), test_dataloader=test)
        ),
    )
    MeasureClassAnglesHook(given).after_train(runner)
    found = json.loads((tmp_path / 'class_angles.json').read_text())
    probe = Probe(runner.model, orthant=given)
    probe.attach()
    with torch.no_grad():
        runner.model((Pictures().inputs * 255 - 127.5) / 127.5)
    (intensity,) = probe.intensities().values()
    probe.detach()
    expected = class_angles_of(
        pooled_vector(intensity), torch.arange(23) % 10, 10
    )
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, abs=1e-5)


def test_angles_of_one_s_own_are_not_overwritten(tmp_path):
    """The name is the one that `class_angles.file` of a config would have."""
    dataset = dict(type='Piped', pipeline=[])
    test = dict(
        dataset=dataset, batch_size=23, collate_fn=dict(type='pseudo_collate')
    )
    cfg = Config(
        dict(train_dataloader=dict(dataset=dataset), test_dataloader=test)
    )
    runner = make_runner(tmp_path, [], cfg=cfg)
    file = tmp_path / 'class_angles.json'
    hook = MeasureClassAnglesHook()
    hook.before_train(runner)
    hook.after_train(runner)
    measured = file.read_text()
    hook.before_train(runner)  # the hook's own: a training that is repeated
    hook.after_train(runner)
    assert file.read_text() == measured
    angles = ClassAngles(10, mode='file', file=str(file)).angles
    expected = torch.tensor(json.loads(measured)['class_angles'])
    torch.testing.assert_close(angles.flatten().cos(), expected.cos())
    torch.testing.assert_close(angles.flatten().sin(), expected.sin())
    file.write_text('{"class_angles": [0.5]}')
    for call in (hook.before_train, hook.after_train):
        with pytest.raises(FileExistsError, match='class_angles.json'):
            call(runner)
    assert file.read_text() == '{"class_angles": [0.5]}'
