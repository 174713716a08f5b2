"""Hooks and metric of the analysis in real runs, of one process and of two."""

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import (
    Pictures,
    build,
    images,
    plain_config,
    samples,
    u1_config,
)
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpretrain.registry import DATASETS
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from u1_plugin.geometry import energy, image_moment, pooled_vector
from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.probe import Probe, Source
from u1_plugin.measure.probe_options import class_labels
from u1_plugin.mm.hooks.angle_stats_hook import AngleStatsHook
from u1_plugin.mm.hooks.energy_map_hook import EnergyMapHook
from u1_plugin.mm.hooks.measure_class_angles_hook import (
    MeasureClassAnglesHook,
    class_angles_of,
)
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking
from u1_plugin.nn import FeaturePlane

CONFIG = """
_base_ = [{base!r}]
custom_hooks = [
    dict(type='EnergyMapHook', layers=['backbone.layer2', 'backbone']),
    dict(type='AngleStatsHook'),
]
val_evaluator = [dict(type='Accuracy'), dict(type='SymmetryBreaking')]
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(
    interval=1, save_best='u1/class_information', rule='greater'))
visualizer = dict(type='UniversalVisualizer', vis_backends=[
    dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
train_cfg = dict(max_epochs=2, val_interval=1)
# 51 images of all classes: two ranks see one of them twice.
some = dict(dataset=dict(indices=list(range(0, 357, 7))))
train_dataloader = dict(batch_size=16, dataset=dict(
    indices=list(range(0, 1078, 20))))
val_dataloader = dict(batch_size=8, **some)
test_dataloader = dict(batch_size=8, dataset=dict(
    data_prefix='val', **some['dataset']))
"""

# Runs a tool, and notes whether its process group outlives it.
WATCHED = """
import atexit, os, runpy, sys, torch

def note():
    with open('group-' + os.environ['RANK'], 'w') as file:
        file.write(str(torch.distributed.is_initialized()))

atexit.register(note)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


@pytest.fixture(scope='module')
def trained(root, environment, tmp_path_factory):
    """A folder where the real tool has trained two epochs, and its log."""
    folder = tmp_path_factory.mktemp('analysis')
    converter = root / 'tools/dataset_converters/digits.py'
    subprocess.run([sys.executable, str(converter)], cwd=folder, check=True)
    base = root / 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'
    (folder / 'config.py').write_text(CONFIG.format(base=str(base)))
    log = tool(root, environment, folder, 'train', '--work-dir=train')
    return folder, log


def tool(root, environment, folder, name, *arguments, prefix=()) -> str:
    command = [sys.executable, *prefix, str(root / f'tools/{name}.py')]
    done = subprocess.run(
        [*command, 'config.py', *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def test_a_real_training_logs_scalars_pictures_and_files(trained):
    folder, log = trained
    work = folder / 'train'
    values = re.findall(r'u1/class_information: (\S+)', log)
    assert len(values) == 2 and float(values[0]) <= 1
    assert (work / 'best_u1_class_information_epoch_2.pth').exists() == (
        float(values[1]) > float(values[0])
    )
    run = only(work, '2*')
    names = {path.name for path in (run / 'u1').iterdir()}
    assert names == {
        f'{kind}_val_epoch_{epoch}'
        for kind in ('energy', 'angles')
        for epoch in (1, 2)
    }
    events = EventAccumulator(str(run / 'vis_data')).Reload()
    scalars = events.Tags()['scalars']
    for name in ('u1/class_information', 'u1/backbone/feature/shared_length'):
        assert [event.step for event in events.Scalars(name)] == [1, 2]
    drift = events.Scalars('u1/backbone/image/drift_angle')
    assert [event.step for event in drift] == [2]
    assert 'u1/backbone.layer2/sombrero_a' in scalars
    assert len(events.Tags()['images']) == 4
    lines = (run / 'vis_data/scalars.json').read_text().splitlines()
    local = [json.loads(line) for line in lines if 'energy_share' in line]
    assert len(local) == 4
    pictures = list((run / 'vis_data/vis_image').glob('u1_*.png'))
    assert len(pictures) == 8
    assert all(cv2.imread(str(picture)).std() > 10 for picture in pictures)


def test_metric_and_hook_agree(trained):
    folder, log = trained
    run = only(folder / 'train', '2*')
    logged = dict(re.findall(r'u1/(\w+): ([-\d.]+)', log))  # the last
    file = run / 'u1/angles_val_epoch_2/summary.json'
    summary = json.loads(file.read_text())
    found = summary['sources']['backbone/feature']
    assert found['n'] == 51
    expected = dict(
        summary['layers']['backbone'],
        resultant_length=found['resultant_length'],
        shared_length=found['shared_length'],
        between_share=found['between_share']['value'],
        class_information=found['class_information']['value'],
        class_information_p=found['class_information']['pvalue'],
    )
    assert expected.pop('n') == 51
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        assert float(logged[name]) == pytest.approx(value, abs=1e-4), name


def test_two_ranks_test_as_one(root, environment, trained):
    folder, _ = trained
    checkpoint = 'train/epoch_2.pth'
    arguments = (checkpoint, '--work-dir')
    tool(root, environment, folder, 'test', *arguments, 'one')
    (folder / 'watched.py').write_text(WATCHED)
    launch = ('-m', 'torch.distributed.run', '--nproc_per_node=2')
    tool(
        root,
        environment,
        folder,
        'test',
        *arguments,
        'two',
        '--launcher=pytorch',
        prefix=(*launch, '--standalone', 'watched.py'),
    )
    for rank in range(2):  # or a thread of it may abort the process
        assert (folder / f'group-{rank}').read_text() == 'False'
    states = []
    for name in ('one', 'two'):
        run = only(folder / name, '2*')
        summaries = [
            json.loads(file.read_text())
            for file in sorted(run.glob('u1/*_test_epoch_0/summary.json'))
        ]
        arrays: dict = {}
        for file in run.glob('u1/*_test_epoch_0/sums.npz'):
            with np.load(file) as npz:
                arrays.update(npz)
        log = only(run, '*.json')
        # MMEngine's LoggerHook writes it on both ranks at once, and a longer
        # version may leave its end behind a shorter one.
        metrics, _ = json.JSONDecoder().raw_decode(log.read_text())
        states.append((summaries, arrays, metrics))
    (one, sums, metrics), (two, sums_two, metrics_two) = states
    assert one[0]['sources']['backbone/image']['n'] == 51
    assert two[0]['sources']['backbone/image']['n'] == 51
    assert one[1]['layers']['backbone']['n'] == 51
    assert sums.keys() == sums_two.keys() and len(sums) == 20
    for name, value in sums.items():
        # Batches of other images: the convolutions round differently.
        if 'table' not in name:
            np.testing.assert_allclose(
                sums_two[name], value, rtol=1e-4, atol=1e-4, err_msg=name
            )
    assert metrics.keys() == metrics_two.keys()
    for name in ('u1/resultant_length', 'u1/shared_length', 'accuracy/top1'):
        assert abs(metrics[name] - metrics_two[name]) < 1e-4
    for name in ('u1/nc1', 'u1/cdnv', 'u1/class_separation'):
        assert metrics_two[name] == pytest.approx(metrics[name], rel=1e-3)
    # The test set is the validation set here.
    run = only(folder / 'train', '2*')
    with np.load(run / 'u1/energy_val_epoch_2/sums.npz') as npz:
        for name, value in npz.items():
            np.testing.assert_allclose(sums[name], value, rtol=1e-4, atol=1e-4)


# In this process


class Spy(Hook):
    """Counts the forward hooks that a training step and the end find."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.counts: list = []

    def _count(self, runner) -> None:
        self.counts.append(
            sum(len(m._forward_hooks) for m in runner.model.modules())
        )

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self._count(runner)

    def before_val_iter(self, runner, *args, **kwargs) -> None:
        self._count(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._count(runner)


def loader(count: int, batch: int, size: int = 32) -> dict:
    return dict(
        dataset=Pictures(count, size),
        batch_size=batch,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )


def make_runner(
    folder,
    hooks,
    metrics=(),
    epochs=1,
    neck=None,
    model=None,
    size=32,
    **settings,
) -> Runner:
    model = Config(model or u1_config(neck=neck))._cfg_dict
    model.data_preprocessor = dict(
        type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3
    )
    runner = Runner(
        model=model,
        work_dir=str(folder),
        experiment_name=f'{Path(folder).name}-{len(Visualizer._instance_dict)}',
        train_dataloader=loader(12, 12, size),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=loader(23, 5, size),
        val_cfg=dict(),
        val_evaluator=[dict(type='Accuracy'), *metrics],
        test_dataloader=loader(23, 5, size),
        test_cfg=dict(),
        test_evaluator=[dict(type='Accuracy'), *metrics],
        custom_hooks=list(hooks),
        default_scope='mmpretrain',
        log_level='ERROR',
        randomness=dict(seed=0),
        **settings,
    )
    runner.logger.setLevel(logging.ERROR)
    return runner


def summary_file(runner: Runner, name: str) -> dict:
    file = Path(runner.log_dir) / 'u1' / name / 'summary.json'
    return json.loads(file.read_text())


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
    assert drift['since'] == 1
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


def test_the_metric_names_several_sources(tmp_path):
    metric = dict(
        type='SymmetryBreaking',
        layers=['backbone', 'backbone.layer3'],
        plane='joint',
    )
    hooks = [dict(type='AngleStatsHook')]  # of the last map alone
    metrics = make_runner(tmp_path, hooks, [metric]).test()
    names = {name for name in metrics if name.startswith('u1/')}
    assert len(names) == 2 * (2 * 5 + 3)
    assert 'u1/backbone.layer3/image/between_share' in names
    assert 'u1/backbone.layer3/nc1' in names


@pytest.mark.parametrize(
    'options, hooked',
    [
        (dict(layers='backbone'), 3),  # read by the second hook anyway
        (dict(layers=['backbone'], plane='image'), 3),
        (dict(layers='backbone', orthant='abs'), 4),
        (dict(layers='backbone', bins=9), 4),
    ],
)
def test_what_a_hook_measures_is_not_measured_again(options, hooked, tmp_path):
    spy = Spy()
    hooks = [dict(type='AngleStatsHook', plane='feature', bins=8)]
    hooks += [dict(type='AngleStatsHook', layers='backbone'), spy]
    metric = dict(type='SymmetryBreaking', **options)
    runner = make_runner(tmp_path / 'a', hooks, [metric])
    runner.train()
    assert spy.counts == [1, *[hooked] * 5, 1]
    metrics = runner.test()
    alone = dict(options, type='AngleStatsHook')
    again = make_runner(tmp_path / 'b', [alone], [metric])
    again.model.load_state_dict(runner.model.state_dict())
    assert metrics == pytest.approx(again.test())


def test_two_runners_read_their_own_networks(tmp_path):
    """The latest model that was built is not the first runner's."""
    hooks = [dict(type='AngleStatsHook')]
    metric = [dict(type='SymmetryBreaking')]
    first = make_runner(tmp_path / 'a', hooks, metric)
    second = make_runner(tmp_path / 'b', hooks, metric)
    second.model.backbone.layer4[-1].conv2.weight.data.neg_()
    values = [runner.test() for runner in (first, second)]
    again = first.test()
    assert values[0] == again
    assert values[0]['u1/shared_length'] != values[1]['u1/shared_length']


def test_a_metric_without_a_network_says_so(tmp_path):
    runner = make_runner(tmp_path, [], [dict(type='SymmetryBreaking')])
    with pytest.raises(RuntimeError, match="type='AngleStatsHook'"):
        runner.test()
    metric = Evaluator(dict(type='SymmetryBreaking')).metrics[0]
    with pytest.raises(RuntimeError, match='attach'):
        metric.process(None, [sample.to_dict() for sample in samples()])
    model = build(plain_config()).eval()
    metric.attach(model)
    with torch.no_grad():
        model(images())
    metric.process(None, [sample.to_dict() for sample in samples()])
    found = metric.evaluate(4)
    assert found['u1/resultant_length'] == pytest.approx(1)
    # One image a class says all of it and more than chance does nothing.
    assert found['u1/nc1'] == pytest.approx(0, abs=1e-6)
    metric.process(None, [sample.to_dict() for sample in samples()])
    assert metric.evaluate(4) == pytest.approx(found, nan_ok=True)
    metric.process(None, [sample.to_dict() for sample in samples()])
    with pytest.raises(ValueError, match='seen 4 images of 3'):
        metric.evaluate(3)
    metric.detach()
    assert not any(module._forward_hooks for module in model.modules())


def test_the_probe_takes_the_neck_s_own_plane_and_settings():
    plane = dict(basis='learned', center='running')
    neck = dict(feature_plane=plane, orthant='abs')
    model = build(u1_config(neck=neck))
    model(images(), samples(), mode='loss')  # moves the centre
    model.eval()
    own, plain = Probe(model), Probe(model, feature_plane=dict())
    own.attach(), plain.attach()
    with torch.no_grad():
        model(images())
        (maps,) = model.backbone(images())
        vectors = pooled_vector(maps.abs())
        expected = model.u1.neck.feature_planes[0](vectors)
    source = Source('backbone', 'feature')
    torch.testing.assert_close(own.moments()[source], expected)
    assert not torch.allclose(plain.moments()[source], expected)
    own.detach(), plain.detach()


@pytest.mark.parametrize(
    'windings, winding', [((1, 2), 1), ((2, 1), 1), ((2, 3), 2), ((2,), 2)]
)
def test_one_angle_of_several_windings_is_measured(windings, winding, tmp_path):
    neck = dict(windings=windings)
    model = build(u1_config(neck=neck)).eval()
    probe = Probe(model, layers=['backbone', 'backbone.layer3'])
    probe.attach()
    with torch.no_grad():
        model(images())
    moments = probe.moments()
    for layer, intensity in probe.intensities().items():
        plane = FeaturePlane(windings=(winding,)).eval()
        feature = plane(pooled_vector(intensity))
        image = image_moment(energy(intensity), winding)
        for name, wanted in (('feature', feature), ('image', image)):
            found = moments[Source(layer, name)]
            torch.testing.assert_close(found, wanted)
    probe.detach()
    hooks = [dict(type='AngleStatsHook')]
    metrics = [dict(type='SymmetryBreaking')]
    runner = make_runner(tmp_path, hooks, metrics, neck=neck)
    found = runner.test()
    sources = summary_file(runner, 'angles_test_epoch_0')['sources']
    assert set(sources) == {'backbone/feature', 'backbone/image'}
    length = sources['backbone/feature']['resultant_length']
    name = 'u1/resultant_length'
    assert found[name] == pytest.approx(length, abs=1e-6)


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


@pytest.mark.parametrize(
    'act, words',
    [
        (lambda m: Probe(m, ['backbone.layer9']), "no module 'layer9'"),
        (lambda m: Probe(m, plane='both'), "plane='both'"),
        (lambda m: Probe(m, orthant='none'), "orthant='none'"),
        (
            lambda m: Probe(m, feature_plane=dict(center='running')),
            "feature_plane.center='running'",
        ),
        (
            lambda m: Probe(m, 'backbone', feature_plane=[{}, {}]),
            '2 configs, but layers has 1',
        ),
        (lambda m: EnergyMapHook(radial_bins=0), 'radial_bins=0'),
        (lambda m: AngleStatsHook(permutations=0), 'permutations=0'),
        (lambda m: SymmetryBreaking(bins=0), 'bins=0'),
        (lambda m: class_labels([dict()]), 'one gt_label each'),
        (
            lambda m: class_labels([dict(gt_label=torch.tensor([1, 2]))]),
            'single-label',
        ),
    ],
)
def test_wrong_options_are_refused(act, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        act(build(u1_config()))


def test_positions_that_have_no_name_ask_for_one():
    model = build(u1_config(neck=dict(layers=[0, 1]), out_indices=(1, 3)))
    with pytest.raises(ValueError, match='set layers to names'):
        Probe(model)
