"""Hooks and metric agree in a real training, of one process and of two."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import printed
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

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
    command = [sys.executable, *prefix, root / f'tools/{name}.py']
    command += ['config.py', *arguments]
    return printed(command, cwd=folder, env=environment)


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
