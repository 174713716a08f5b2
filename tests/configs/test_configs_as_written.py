"""Wrappers, classes as types, test-time augmentation, hooks at any place."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import build as build_model
from helpers import samples, u1_config
from mmengine.config import Config, ConfigDict
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from sklearn.datasets import load_digits

import u1_plugin.lab  # noqa: F401  (registers SubsetDataset)
from u1_plugin.geometry import energy, image_moment
from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.lab.cost import twins
from u1_plugin.measure.probe import Probe
from u1_plugin.mm.hooks.measure_class_angles_hook import (
    MeasureClassAnglesHook,
    _loader_config,
)
from u1_plugin.networks import unwrapped

COUNTS = dict(train=4, val=3, test=3)
HOOKS = [dict(type='EnergyMapHook'), dict(type='AngleStatsHook')]
HOOKS[1]['permutations'] = 9


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> Path:
    """A few digits of every class and split, as class folders."""
    folder = tmp_path_factory.mktemp('digits')
    data = load_digits()
    for c in range(10):
        pictures = iter(data.images[data.target == c] * 15)
        for split, count in COUNTS.items():
            place = folder / split / str(c)
            place.mkdir(parents=True)
            for i in range(count):
                picture = next(pictures).astype('uint8')
                Image.fromarray(picture).save(place / f'{i}.png')
    return folder


@pytest.fixture
def config(root, digits, tmp_path) -> Config:
    """The digits config of the U(1) twin on these pictures, quiet."""
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'
    )
    for split in COUNTS:
        config[f'{split}_dataloader'].dataset.data_root = str(digits)
        config[f'{split}_dataloader'].batch_size = 8
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=1)
    config.param_scheduler = None
    config.update(log_level='ERROR', work_dir=str(tmp_path / 'work'))
    return config


def build(config: Config, hooks=()) -> Runner:
    config.custom_hooks = list(hooks)
    evaluator = [dict(type='Accuracy')]
    if any(hook['type'] == 'AngleStatsHook' for hook in hooks):
        evaluator.append(dict(type='SymmetryBreaking'))
    for loop in ('val', 'test'):
        if config.get(f'{loop}_dataloader'):
            config[f'{loop}_evaluator'] = evaluator
    # Runners of one name share what they log.
    config.experiment_name = f'run{len(Visualizer._instance_dict)}'
    runner = Runner.from_cfg(config)
    runner.logger.setLevel(logging.ERROR)
    return runner


def summaries(runner: Runner) -> dict:
    files = sorted(Path(runner.log_dir).glob('u1/*/summary.json'))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def class_angles(runner: Runner) -> dict:
    return json.loads((Path(runner.work_dir) / 'class_angles.json').read_text())


# Wrappers


def concat(inner: dict) -> dict:
    return dict(
        type='ConcatDataset',
        datasets=[dict(inner, indices=range(k, 30, 2)) for k in (0, 1)],
    )


#: And how many images each has for one of what it wraps.
WRAPPERS = dict(
    ClassBalancedDataset=(
        lambda d: dict(
            type='ClassBalancedDataset', oversample_thr=1e-3, dataset=d
        ),
        1,
    ),
    KFoldDataset=(
        lambda d: dict(type='KFoldDataset', num_splits=3, seed=0, dataset=d),
        2 / 3,
    ),
    nested=(
        lambda d: dict(type='RepeatDataset', times=2, dataset=concat(d)),
        2,
    ),
)


def test_hooks_and_metric_on_wrapped_sets(config):
    found = {}
    plain = config.test_dataloader.dataset
    for name, (wrap, times) in dict(plain=(dict, 1), **WRAPPERS).items():
        config.test_dataloader.dataset = wrap(plain)
        runner = build(config, HOOKS)
        torch.manual_seed(0)
        runner.model.init_weights()
        metrics = runner.test()
        own = summaries(runner)
        source = own['angles_test_epoch_0']['sources']['backbone/feature']
        energy = own['energy_test_epoch_0']['layers']['backbone']
        assert source['n'] == energy['n'] == round(30 * times), name
        assert source['classes'] == list('0123456789')
        found[name] = [source['mean'], metrics['u1/resultant_length']]
    for name in ('ClassBalancedDataset', 'nested'):
        for own, expected in zip(found[name], found['plain']):
            np.testing.assert_allclose(own, expected, atol=1e-5, err_msg=name)


def test_class_angles_of_a_wrapped_training_set(config):
    """Each image once, whatever repeats it, and without augmentation."""
    plain = config.train_dataloader.dataset
    # Images that the validation pipeline does not flip.
    plain.pipeline.insert(1, dict(type='RandomFlip', prob=1.0))
    for part in ('dataloader', 'cfg', 'evaluator'):
        config.pop(f'test_{part}')
    found = {}
    for name in ('plain', 'ClassBalancedDataset', 'nested'):
        wrap = dict if name == 'plain' else WRAPPERS[name][0]
        config.train_dataloader.dataset = ConfigDict(wrap(plain))
        if name == 'nested':
            parts = config.train_dataloader.dataset.dataset.datasets
            for start, part in enumerate(parts):
                part.indices = list(range(start, 40, 2))
        runner = build(config, [dict(type='MeasureClassAnglesHook')])
        torch.manual_seed(0)
        runner.model.init_weights()
        runner.call_hook('before_train')
        runner.call_hook('after_train')
        found[name] = class_angles(runner)['class_angles']
    for name, own in found.items():
        np.testing.assert_allclose(own, found['plain'], atol=1e-5, err_msg=name)


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
    for name in found:
        np.testing.assert_allclose(found[name], again[name], atol=1e-5)


def test_angles_are_of_all_training_images(config):
    """However little of the test split the config looks at."""
    config.test_dataloader.num_batch_per_epoch = 1
    runner = build(config, [dict(type='MeasureClassAnglesHook')])
    loader = runner.build_dataloader(_loader_config(runner))
    images = len(runner.train_dataloader.dataset)
    assert sum(len(batch['inputs']) for batch in loader) == images > 0


# Classes as types


LAZY = """
from mmengine.dataset import DefaultSampler
from mmpretrain.datasets import CustomDataset, LoadImageFromFile, PackInputs
from mmpretrain.datasets import ResizeEdge
from mmpretrain.evaluation import Accuracy
from mmpretrain.models import ImageClassifier, ResNet, GlobalAveragePooling
from mmpretrain.models import LinearClsHead
from mmengine.model import PretrainedInit
from u1_plugin.lab.subsets import subset_dataset
from u1_plugin.mm.hooks.angle_stats_hook import AngleStatsHook
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking

backbone = dict(
    type=ResNet, depth=18, base_channels=8, stem_channels=8,
    init_cfg=[dict(type=PretrainedInit, checkpoint='nowhere.pth')])
model = dict(
    type=ImageClassifier, backbone=backbone,
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=10, in_channels=64))
data_preprocessor = dict(num_classes=10, mean=[127.0] * 3, std=[60.0] * 3)
test_dataloader = dict(
    batch_size=8, num_workers=0, persistent_workers=False,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(
        type=subset_dataset, of=CustomDataset, shots=2,
        data_root={root!r}, data_prefix='test',
        pipeline=[dict(type=LoadImageFromFile),
                  dict(type=ResizeEdge, scale=16), dict(type=PackInputs)]))
test_cfg = dict()
test_evaluator = [dict(type=Accuracy), dict(type=SymmetryBreaking)]
custom_hooks = [dict(type=AngleStatsHook)]
default_scope = 'mmpretrain'
log_level = 'ERROR'
work_dir = {work!r}
"""


def test_a_config_whose_types_are_classes(digits, tmp_path):
    file = tmp_path / 'lazy.py'
    file.write_text(LAZY.format(root=str(digits), work=str(tmp_path / 'work')))
    network = load_network(
        str(file), seed=0, options={'model.type': 'U1ImageClassifier'}
    )
    assert type(network.model).__name__ == 'U1ImageClassifier'
    config = network.config
    assert [c.model.type for c in twins(config)] == [
        'ImageClassifier',
        'U1ImageClassifier',
    ]
    assert twins(Config.fromfile(file))[1].model.type == 'U1ImageClassifier'
    config.model.backbone.pop('init_cfg')
    runner = Runner.from_cfg(config)
    runner.test()
    found = summaries(runner)['angles_test_epoch_0']['sources']
    assert found['backbone/feature']['n'] == 20


def test_a_step_that_runs_first_may_be_a_class():
    from mmpretrain.datasets import ResizeEdge

    step = TRANSFORMS.build(
        dict(type='Corrupt', name='fog', severity=1, after=ResizeEdge, scale=40)
    )
    image = np.zeros((50, 60, 3), np.uint8)
    assert step(dict(img=image, sample_idx=0))['img'].shape == (40, 48, 3)


# Test-time augmentation


def test_the_tool_s_tta_measures_images_and_no_mirror_images(
    root, environment, config, tmp_path
):
    config.custom_hooks = HOOKS
    config.test_evaluator = [
        dict(type='Accuracy'),
        dict(type='SymmetryBreaking', plane='image'),
    ]
    runner = build(config, HOOKS)
    torch.manual_seed(0)
    runner.model.init_weights()
    plain = runner.test()
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=runner.model.state_dict()), weights)
    draw = dict(type='U1VisualizationHook', enable=True, interval=20)
    config.custom_hooks = [*HOOKS, draw]
    config.pop('experiment_name')
    config.dump(str(tmp_path / 'config.py'))
    command = [sys.executable, str(root / 'tools/test.py'), 'config.py']
    command += [str(weights), '--tta', '--work-dir', 'tta']
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = summaries(runner)
    for name, own in expected.items():
        (file,) = tmp_path.glob(f'tta/*/u1/{name}/summary.json')
        found = json.loads(file.read_text())
        for key in ('sources', 'layers'):
            for source, values in own.get(key, {}).items():
                for field in ('n', 'mean', 'length', 'profile'):
                    if field in values:
                        np.testing.assert_allclose(
                            found[key][source][field], values[field], atol=1e-5
                        )
    pictures = tmp_path.glob('tta/*/vis_data/vis_image/u1_hue_test_*.png')
    assert len(list(pictures)) == 2
    (log,) = tmp_path.glob('tta/*/*.json')
    metrics = json.loads(log.read_text())
    name = 'u1/resultant_length'
    assert metrics[name] == pytest.approx(plain[name], abs=1e-5)


@pytest.mark.parametrize(
    'flips, read',
    [
        ([[0, 0], [1, 1]], 0),
        ([[1, 1], [0, 0]], 1),
        ([[0, 1], [1, 0], [0, 0], [0, 0]], 2),
        ([[1, 1], [0, 1]], None),
    ],
)
def test_the_view_that_is_read(flips, read):
    """The first in which no image is mirrored, batch by batch."""
    module = u1_config(neck=dict(plane='image'))
    module.data_preprocessor = dict(type='ClsDataPreprocessor')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = build_model(dict(type='AverageClsScoreTTA', module=module))
    model.eval()
    assert unwrapped(model) is model.module
    before = sum(len(part._forward_hooks) for part in model.modules())
    views = torch.rand(len(flips), 2, 3, 32, 32) * 255
    probe = Probe(model, plane='image')
    probe.attach()
    for batch in (views, views.flip(1)):
        data_samples = [samples(2) for _ in flips]
        for view, own in zip(data_samples, flips):
            for sample, flip in zip(view, own):
                sample.set_metainfo(dict(flip=bool(flip)))
        data = dict(inputs=list(batch), data_samples=data_samples)
        with torch.no_grad():
            model.test_step(data)
        if read is None:
            with pytest.raises(ValueError, match='tta_pipeline mirrors'):
                probe.moments()
            continue
        (found,) = probe.moments().values()
        with torch.no_grad():
            maps = model.module.backbone(batch[read])[-1]
        expected = image_moment(energy(maps.relu()))
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(*probe.moments().values(), found)
    probe.detach()
    after = sum(len(part._forward_hooks) for part in model.modules())
    assert after == before


# Hooks at any place


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


def test_a_label_without_a_class_is_no_other_class(config):
    config.test_dataloader.dataset.update(
        type='SubsetDataset', of='CustomDataset', classes=list('0123456789')
    )
    runner = build(config, [dict(type='AngleStatsHook')])
    data = runner.test_dataloader.dataset
    info = data.get_data_info(0)
    data.serialize_data = False
    for label in (10, -1):
        data.data_list = [dict(info, gt_label=label)]
        with pytest.raises(ValueError, match=rf'test_dataloader.*{label}'):
            runner.test()
