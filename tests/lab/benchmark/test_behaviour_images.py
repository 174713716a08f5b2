"""The tool on tiny runs that look at images of several data sets."""

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark_results import make_table
from helpers import build, plain_config, u1_config
from mmengine.config import Config
from PIL import Image

from u1_plugin.lab.benchmark.behaviour import accuracy, load_run, signals
from u1_plugin.lab.benchmark.behaviour_features import collapse_values
from u1_plugin.lab.benchmark.evaluated_images import (
    all_splits,
    class_folder,
    split_images,
    trained_classes,
)
from u1_plugin.lab.benchmark.transfer import transfer

CLASSES = ('food.fruit', 'food.sweet', 'sky.moon', 'sky.sun')
EACH = dict(train=6, val=3, test=4, drawer=2)
KEYS = ['quantity', 'detail']
FIRST = 'results/tiny_digits/one-hot/seed0'


def write_pictures(folder: Path, classes, each: dict, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for split, count in each.items():
        for k, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                noise = rng.normal(60 * k, 40, (8, 8, 3)).clip(0, 255)
                picture = Image.fromarray(noise.astype(np.uint8))
                picture.save(folder / split / name / f'{i}.png')


def config_of(root: Path, folder: Path) -> Config:
    """Digits' loaders, on another folder."""
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].dataset.data_root = str(folder)
    return config


@pytest.fixture(scope='module')
def place(root, tmp_path_factory):
    """Two runs with untrained weights, and the images of two data sets."""
    out = tmp_path_factory.mktemp('place')
    write_pictures(out / 'own', CLASSES, EACH, 0)
    write_pictures(out / 'other', 'abc', dict(EACH, drawer=0), 1)
    config_of(root, out / 'other').dump(out / 'other.py')
    table = make_table({}, seeds=1)
    table = table[table.arm.isin(['one-hot', 'u1-feature'])]
    head = dict(type='LinearClsHead', num_classes=4, in_channels=128)
    labels = np.repeat(np.arange(4), EACH['test'])
    rng = np.random.default_rng(2)
    for run, model in zip(
        table.itertuples(), (plain_config(head), u1_config(head))
    ):
        folder = out / 'results' / run.folder
        folder.mkdir(parents=True)
        config = config_of(root, out / 'own')
        config.model = model
        config.dump(folder / 'config.py')
        state = build(model, len(run.arm)).state_dict()
        meta = dict(dataset_meta=dict(classes=CLASSES))
        torch.save(dict(state_dict=state, meta=meta), folder / 'epoch_8.pth')
        logits = rng.normal(size=(len(labels), 4)).astype(np.float32)
        np.savez(folder / 'test_outputs.npz', logits=logits, labels=labels)
    table.to_csv(out / 'results/results.csv', index=False)
    return out


@pytest.fixture
def tool(root, tmp_path, monkeypatch):
    def run(*args) -> pd.DataFrame:
        monkeypatch.chdir(tmp_path)
        command = ['tools/behaviour.py', *map(str, args)]
        monkeypatch.setattr(sys, 'argv', command)
        runpy.run_path(str(root / 'tools/behaviour.py'), run_name='__main__')
        found = pd.read_csv(tmp_path / 'out/behaviour.csv')
        return found.assign(detail=found.detail.astype(object).fillna(''))

    return run


def test_all_that_looks_at_images(tool, place):
    values = tool(
        *(place / 'results', 'out', '--collapse'),
        *('--also', f'drawer={place / "own/drawer"}'),
        *('--transfer', f'letters={place / "other.py"}'),
    )
    assert not values.duplicated(['arm', *KEYS]).any()
    splits = all_splits(Config.fromfile(place / 'other.py'), '--transfer')
    assert [len(s.labels) for s in splits] == [18, 9, 12]
    config = Config.fromfile(place / FIRST / 'config.py')
    drawer = class_folder(config, place / 'own/drawer')
    assert drawer.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    parts = {s: split_images(config, split=s) for s in ('train', 'test')}
    assert len(parts['train'].labels) == 24
    for arm in ('one-hot', 'u1-feature'):
        model = load_run((place / FIRST).parents[1] / arm / 'seed0', 8)
        own = values[values.arm == arm].set_index(KEYS).value
        top1 = accuracy(signals(model, drawer.inputs).logits, drawer.labels)
        assert own['top-1 on drawer, %', ''] == pytest.approx(top1)
        found, strength = transfer(model, splits)
        for method, value in found.items():
            quantity = f'transfer to letters: {method}, %'
            assert own[quantity, ''] == pytest.approx(value)
        chosen = own['transfer to letters: C of the linear probe', 'chosen']
        assert chosen == strength
        for split, images in parts.items():
            for quantity, value in collapse_values(model, images).items():
                assert own[f'{split}: {quantity}', ''] == pytest.approx(
                    value, rel=1e-3, nan_ok=True
                )
    # Not what every network of such a size would give.
    compared = values[values.quantity.str.contains('NC1|CDNV')]
    assert compared.value.nunique() == len(compared) == 8


def test_severity_needs_records_alone(tool, place):
    values = tool(place / 'results', 'out', '--mistake-severity')
    share = 'mistakes that leave the category, %'
    shares = values[values.quantity == share].value
    heights = values[values.quantity.str.startswith('mistake severity')].value
    assert len(shares) == len(heights) == 2
    assert heights.to_numpy() == pytest.approx(1 + shares.to_numpy() / 100)
    for arm, own in zip(('one-hot', 'u1-feature'), shares):
        file = place / f'results/tiny_digits/{arm}/seed0/test_outputs.npz'
        with np.load(file) as npz:
            predicted, labels = npz['logits'].argmax(1), npz['labels']
        wrong = predicted != labels
        leaves = predicted[wrong] // 2 != labels[wrong] // 2
        assert own == pytest.approx(100 * leaves.mean())


def test_what_is_not_asked_is_not_measured(tool, place):
    quantities = tool(place / 'results', 'out').quantity
    assert len(quantities) == 4
    assert quantities.str.contains('epochs|ECE').all()


def test_few_images_are_of_all_classes(place, root):
    config = config_of(root, place / 'own')
    few = split_images(config, limit=8, split='train')
    assert sorted(set(few.labels)) == [0, 1, 2, 3]
    again = split_images(config, split='train')
    assert len(again.labels) == 24
    # As the test split is prepared: nothing of it is random.
    twice = split_images(config, split='train')
    assert torch.equal(again.inputs, twice.inputs)


def test_names_of_the_classes(place, root, tmp_path):
    config = config_of(root, place / 'own')
    checkpoint = place / FIRST / 'epoch_8.pth'
    assert trained_classes(config, checkpoint) == CLASSES
    assert trained_classes(config, tmp_path / 'none.pth') == CLASSES
    torch.save(dict(state_dict={}), tmp_path / 'bare.pth')
    assert trained_classes(config, tmp_path / 'bare.pth') == CLASSES


def test_a_folder_is_labelled_as_the_test_split(place, root, tmp_path):
    """Whose classes a file may number in another order."""
    config = config_of(root, place / 'own')
    test = config.test_dataloader.dataset
    lines = [f'{n}/0.png {k}' for k, n in enumerate(reversed(CLASSES))]
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    test.ann_file = str(tmp_path / 'list.txt')
    test.metainfo = dict(classes=tuple(reversed(CLASSES)))
    images = class_folder(config, place / 'own/drawer')
    assert images.labels.tolist() == [3, 3, 2, 2, 1, 1, 0, 0]


def spoilt(place: Path, tmp_path: Path) -> Path:
    """A config whose validation split lacks a class."""
    write_pictures(tmp_path / 'few', 'ab', dict(val=1), 0)
    config = Config.fromfile(place / 'other.py')
    config.val_dataloader.dataset.data_root = str(tmp_path / 'few')
    config.dump(tmp_path / 'spoilt.py')
    return tmp_path / 'spoilt.py'


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--also', 'x={place}/other/test'], "--also x: .*without .*'food"),
        (['--also', 'x={place}/own/test/sky.sun'], '--also x: .*Found 0 files'),
        (['--transfer', 'x={spoilt}'], r'--transfer x: the classes of the val'),
        (['--transfer', 'x={bgr}'], r'--transfer x: .*to_rgb=False, but True'),
        (['--transfer', 'x={bare}'], '--transfer x: .*no train_dataloader'),
    ],
)
def test_wrong_images_are_refused_before_the_work(
    tool, place, tmp_path, arguments, message
):
    config = Config.fromfile(place / 'other.py')
    config.data_preprocessor.to_rgb = False
    config.dump(tmp_path / 'bgr.py')
    config.pop('train_dataloader')
    config.dump(tmp_path / 'bare.py')
    places = dict(
        place=place,
        spoilt=spoilt(place, tmp_path),
        bgr=tmp_path / 'bgr.py',
        bare=tmp_path / 'bare.py',
    )
    arguments = [text.format(**places) for text in arguments]
    with pytest.raises(SystemExit, match=f'(?s){message}'):
        tool(place / 'results', 'out', *arguments)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['--also', 'x'], "'x' must be NAME=FOLDER that exists"),
        (['--also', 'x=none'], "'x=none' must be NAME=FOLDER"),
        (['--transfer', 'x=none.py'], 'NAME=CONFIG that exists'),
        (['--also', 'x=.', 'x=.'], '--also: x is there twice'),
    ],
)
def test_wrong_words(tool, place, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool(place / 'results', 'out', *arguments)
    assert message in capsys.readouterr().err


def test_digits_have_no_severity(tool, place, root, tmp_path):
    folder = tmp_path / 'digits'
    write_pictures(folder, '0123', dict(test=1), 0)
    results = tmp_path / 'results'
    table = pd.read_csv(place / 'results/results.csv')
    for run in table.itertuples():
        own = results / run.folder
        own.mkdir(parents=True)
        config_of(root, folder).dump(own / 'config.py')
        np.savez(own / 'test_outputs.npz', logits=np.eye(4), labels=range(4))
    table.to_csv(results / 'results.csv', index=False)
    with pytest.raises(
        SystemExit,
        match="--mistake-severity: tiny_digits: the class '0' is not named",
    ):
        tool(results, 'out', '--mistake-severity')
    # The classes are read of the data where no checkpoint tells them.
    for name, new in zip('0123', CLASSES):
        (folder / 'test' / name).rename(folder / 'test' / new)
    values = tool(results, 'out', '--mistake-severity')
    severe = values[values.quantity.str.startswith('mistake')]
    assert len(severe) == 4 and severe.value.isna().all()


def test_runs_of_different_images_are_not_measured_together(
    tool, place, root, tmp_path
):
    results = tmp_path / 'results'
    shutil.copytree(place / 'results', results)
    file = results / 'tiny_digits/u1-feature/seed0/config.py'
    config = Config.fromfile(file)
    config.train_dataloader.dataset.data_prefix = 'val'
    config.dump(file)
    with pytest.raises(SystemExit, match='train_dataloader.dataset differs'):
        tool(results, 'out', '--collapse')
    drawer = f'drawer={place / "own/drawer"}'
    tool(results, 'out', '--also', drawer, '--images', '4')
    (results / 'tiny_digits/one-hot/seed0/epoch_8.pth').unlink()
    with pytest.raises(SystemExit, match='epoch_8.pth is missing.*--also'):
        tool(results, 'again', '--also', drawer)


def test_classes_without_images_are_found_before_the_work(tool, place):
    with pytest.raises(SystemExit, match='2 of 4 classes.*train split.*2,'):
        tool(place / 'results', 'out', '--collapse', '--images', '2')
