"""Behaviour of trained models: closed forms, and the tool on a tiny run."""

import json
import math
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark_results import make_table
from helpers import build, plain_config, u1_config
from mmengine.config import Config
from PIL import Image

from u1_plugin.geometry import off_axis_angle
from u1_plugin.lab.benchmark import behaviour
from u1_plugin.lab.benchmark.behaviour import (
    Signals,
    accuracy,
    calibration_error,
    detection,
    epochs_to,
    load_run,
    recorded,
    signals,
)
from u1_plugin.lab.benchmark.behaviour_features import collapse_values
from u1_plugin.lab.benchmark.behaviour_runs import check_arms, select
from u1_plugin.lab.benchmark.evaluated_images import (
    LabelledImages,
    check_colours,
    split_images,
)


def test_epochs_to_an_accuracy():
    curve = [
        {'epoch': e, 'accuracy/top1': a} for e, a in ((2, 50), (4, 90), (6, 80))
    ]
    assert epochs_to(curve, 80) == 4
    assert epochs_to(curve, 50) == 2
    # Never: as slow as one validation more.
    assert epochs_to(curve, 91) == 8 and epochs_to(curve[:1], 91) == 4
    assert math.isnan(epochs_to([], 91))


def test_one_validation_has_no_epochs_to_an_accuracy(tmp_path):
    np.savez(
        tmp_path / 'test_outputs.npz',
        logits=np.eye(2, dtype=np.float32),
        labels=np.arange(2),
    )
    curve = [{'epoch': 5, 'accuracy/top1': 50}]
    assert list(recorded(tmp_path, json.dumps(curve), 50)) == [
        'calibration error (ECE), %'
    ]
    curve.append({'epoch': 10, 'accuracy/top1': 60})
    values = recorded(tmp_path, json.dumps(curve), 55)
    assert values['epochs to 55.00 %'] == 10


def logits_of(confidence: float, n: int) -> np.ndarray:
    """Two classes, the first with that probability."""
    return np.tile([np.log(confidence / (1 - confidence)), 0.0], (n, 1))


def test_calibration_error_by_hand():
    # 80 % sure, and right in 8 of 10: calibrated.
    labels = np.array([0] * 8 + [1] * 2)
    assert calibration_error(logits_of(0.8, 10), labels) < 1e-9
    # 80 % sure and always right: 20 points too modest.
    always = np.zeros(10, int)
    assert calibration_error(logits_of(0.8, 10), always) == pytest.approx(20)
    # Two bins of equal weight: (20 + 90 - 50) / 2 for 0.8/1.0 and 0.9/0.5.
    both = np.concatenate([logits_of(0.8, 10), logits_of(0.9, 10)])
    mixed = np.concatenate([always, [0] * 5 + [1] * 5])
    assert calibration_error(both, mixed) == pytest.approx((20 + 40) / 2)
    assert calibration_error(np.array([[800.0, 0.0]]), np.array([0])) == 0


def test_detection_by_hand():
    known = Signals(logits_of(0.9, 4), np.ones(4), np.arange(4.0))
    unknown = Signals(logits_of(0.6, 4), np.ones(4), np.arange(4.0) + 10)
    found = detection(known, unknown)
    assert found == dict(softmax=100, angle=50, energy=0)
    assert accuracy(known.logits, np.array([0, 0, 1, 1])) == 50


def test_signals_are_those_of_the_last_map(monkeypatch):
    model = build(plain_config()).eval()
    images = torch.randint(0, 255, (5, 3, 32, 32), dtype=torch.uint8)
    monkeypatch.setattr(behaviour, 'BATCH', 2)
    found = signals(model, images)
    with torch.no_grad():
        data = model.data_preprocessor(dict(inputs=images))
        activation = model.backbone(data['inputs'])[-1].relu()
        logits = model(data['inputs'])
    pooled = activation.mean((2, 3))
    expected = off_axis_angle(pooled).numpy()
    assert found.angle == pytest.approx(expected, rel=1e-4)
    whole = activation.square().sum(1).mean((1, 2)).numpy()
    assert found.energy == pytest.approx(whole, rel=1e-4)
    assert np.allclose(found.logits, logits.numpy(), atol=1e-4)
    early = signals(model, images, 'backbone.layer1')
    assert not np.allclose(early.energy, found.energy)


@pytest.fixture(scope='module')
def results(root, tmp_path_factory):
    """Two runs as a benchmark leaves them, with untrained weights."""
    out = tmp_path_factory.mktemp('results')
    images = out / 'images'
    rng = np.random.default_rng(0)
    for label in range(10):
        (images / str(label)).mkdir(parents=True)
        for i in range(2):
            grey = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(grey).save(images / str(label) / f'{i}.png')
    table = make_table({}, seeds=1)
    table = table[table.arm.isin(['one-hot', 'u1-feature'])]
    base = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    base.test_dataloader.dataset.update(data_root=str(images), data_prefix='')
    for run, model in zip(table.itertuples(), (plain_config(), u1_config())):
        folder = out / run.folder
        folder.mkdir(parents=True)
        config = base.copy()
        config.model = model
        config.dump(folder / 'config.py')
        state = dict(state_dict=build(model).state_dict(), meta={})
        torch.save(state, folder / 'epoch_8.pth')
        np.savez(
            folder / 'test_outputs.npz',
            logits=logits_of(0.8, 10).astype(np.float16),
            labels=np.zeros(10, int),
        )
    table.to_csv(out / 'results.csv', index=False)
    return out


@pytest.fixture
def tool(run_tool):
    return partial(run_tool, 'tools/behaviour.py')


def test_tool(tool, results, tmp_path):
    tool(
        *(str(results), 'out', '--images', '8', '--severities', '1', '5'),
        *('--corruptions', 'contrast', 'fog'),
        *('--ood', f'noise={results / "images"}'),
    )
    values = pd.read_csv(tmp_path / 'out/behaviour.csv')
    assert set(values.arm) == {'one-hot', 'u1-feature'}
    own = values[values.arm == 'one-hot'].set_index(['quantity', 'detail'])
    own = own.value
    corrupted = own['corrupted top-1, %']
    assert set(corrupted.index.dropna()) == {
        *('contrast/1', 'contrast/5', 'fog/1', 'fog/5')
    }
    mean = corrupted[corrupted.index.isna()].iloc[0]
    rest = corrupted[corrupted.index.notna()]
    assert mean == pytest.approx(rest.mean())
    errors = values[values.quantity.str.startswith('calibration')].value
    assert errors.to_numpy() == pytest.approx(20, abs=0.1)
    # The same images against themselves: chance, by every detector.
    against = values[values.quantity.str.startswith('AUROC')].value
    assert len(against) == 6 and against.to_numpy() == pytest.approx(50)
    command = (tmp_path / 'out/command.txt').read_text()
    assert command.startswith('python ') and '--severities 1 5' in command


def test_tool_says_what_is_wrong(tool, results, tmp_path):
    with pytest.raises(SystemExit, match=r"no finished run of \['none'\]"):
        tool(str(results), 'out', '--arms', 'none')
    assert not (tmp_path / 'out').exists()


def test_what_is_named_twice_counts_once(tool, results, tmp_path):
    command = (str(results), 'out', '--corruptions', 'fog', 'contrast', 'fog')
    tool(*command, '--severities', '3', '1', '3', '--images', '2')
    values = pd.read_csv(tmp_path / 'out/behaviour.csv')
    assert not values.duplicated(['arm', 'quantity', 'detail']).any()
    assert values.detail.nunique() == 4


def test_a_layer_is_named_as_it_was_asked_for(tool, results, tmp_path):
    folder = f'noise={results / "images"}'
    command = (str(results), 'out', '--images', '2', '--ood', folder)
    with pytest.raises(SystemExit, match='error: --layer.*nolayer'):
        tool(*command, '--layer', 'backbone.nolayer')
    assert not (tmp_path / 'out').exists()


def test_missing_checkpoint(results):
    with pytest.raises(FileNotFoundError, match='train again'):
        load_run(results / 'tiny_digits/one-hot/seed0', 99)


def test_curves_are_those_of_the_table():
    run = make_table({}, seeds=1).iloc[0]
    assert epochs_to(json.loads(run.val_curve), run.test_top1 - 5) == 4


LOGITS = np.eye(3)


@pytest.mark.parametrize(
    'logits, labels, bins, message',
    [
        (LOGITS, np.array([0, 1, 3]), 15, 'classes'),
        (LOGITS, np.array([0, 1, -1]), 15, 'classes'),
        (LOGITS, np.array([0, 1]), 15, r'labels of shape \(2,\)'),
        (LOGITS * math.nan, np.arange(3), 15, 'finite numbers'),
        (LOGITS[:0], np.arange(0), 15, r'\(0, 3\)'),
        (LOGITS, np.arange(3), 0, 'bins=0'),
    ],
)
def test_outputs_that_tell_nothing(logits, labels, bins, message):
    with pytest.raises(ValueError, match=message):
        calibration_error(logits, labels, bins)
    if bins:
        with pytest.raises(ValueError, match=message):
            accuracy(logits, labels)


def test_what_no_detector_tells_apart():
    some = Signals(LOGITS, np.ones(3), np.ones(3))
    nothing = Signals(LOGITS[:0], np.ones(0), np.ones(0))
    for known, unknown, name in (
        (nothing, some, 'known has 0 images'),
        (some, nothing, 'unknown has 0 images'),
        (some, some._replace(angle=np.full(3, math.nan)), 'unknown .* finite'),
    ):
        with pytest.raises(ValueError, match=name):
            detection(known, unknown)


def test_options_of_what_is_measured():
    with pytest.raises(ValueError, match='limit=0'):
        split_images(Config(), limit=0)
    with pytest.raises(ValueError, match='accuracy=nan'):
        epochs_to([], math.nan)
    with pytest.raises(ValueError, match='numbers of epoch and accuracy/top1'):
        epochs_to([dict(epoch=1)], 50)


def test_no_baseline_gives_no_target(tool, results, tmp_path):
    folder = tmp_path / 'results'
    shutil.copytree(results, folder)
    table = pd.read_csv(folder / 'results.csv')
    table[table.role != 'baseline'].to_csv(folder / 'results.csv', index=False)
    with pytest.raises(SystemExit, match='--accuracy: .* no baseline'):
        tool(str(folder), 'out')
    tool(str(folder), 'out', '--accuracy', '50')


def test_the_first_seeds_are_those_of_each_config():
    table = make_table({}, seeds=4)
    later = table.assign(config='later', seed=table.seed + 1000)
    both = pd.concat([table, later])
    found = select(both, arms=['one-hot'], seeds=2)
    assert found.seed.tolist() == [0, 1, 1000, 1001]


def test_a_config_need_not_have_every_arm():
    table = make_table({'u1-image': 1.0}, seeds=2)
    anchor = make_table({}, seeds=2).assign(config='anchor')
    both = pd.concat([table, anchor[anchor.arm == 'one-hot']])
    check_arms(both, ['u1-image', 'one-hot'])
    found = [select(g, ['u1-image']) for _, g in both.groupby('config')]
    assert sorted(map(len, found)) == [0, 2]
    with pytest.raises(
        ValueError, match=r"^--arms: no finished run of \['x'\]"
    ):
        check_arms(both, ['x', 'one-hot'])


def test_orders_of_colours():
    own = dict(data_preprocessor=dict(to_rgb=True))
    check_colours(Config(own), Config(dict(model=own)), '--transfer x')
    with pytest.raises(ValueError, match='to_rgb=False, but True'):
        check_colours(Config(own), Config(), '--transfer x')


def test_undefined_values_are_empty():
    """A network whose features are all alike has no collapse to speak of."""
    head = dict(type='LinearClsHead', num_classes=4, in_channels=128)
    model = build(plain_config(head)).eval()
    for parameter in model.backbone.parameters():
        torch.nn.init.zeros_(parameter)
    rng = np.random.default_rng(0)
    inputs = torch.from_numpy(rng.integers(0, 255, (8, 3, 16, 16), np.uint8))
    found = collapse_values(model, LabelledImages(inputs, np.arange(8) % 4))
    assert len(found) == 5 and all(map(math.isnan, found.values()))
