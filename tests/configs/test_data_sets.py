"""Each data set's own layout, class and metric, with a handful of images."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import mat4py
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.evaluator import Evaluator
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CIFAR10, CIFAR100
from mmpretrain.datasets.categories import FOOD101_CATEGORIES
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image
from sklearn.datasets import load_sample_image

import u1_plugin  # noqa: F401  (registers the components)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
PHOTOGRAPH = load_sample_image('china.jpg')
COUNT = 2  # images of each split


def write_image(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PHOTOGRAPH[:320, :320]).save(file)


def cub(folder: Path) -> None:
    names = [f'00{i}.Bird/bird_{i}.jpg' for i in range(2 * COUNT)]
    for name in names:
        write_image(folder / 'images' / name)
    lines = dict(
        images=names,
        image_class_labels=[1, 200, 1, 200],
        train_test_split=[1, 1, 0, 0],
    )
    for file, values in lines.items():
        text = ''.join(f'{i + 1} {value}\n' for i, value in enumerate(values))
        (folder / f'{file}.txt').write_text(text)


def stanford_cars(folder: Path) -> None:
    names = [f'car_ims/0{i}.jpg' for i in range(2 * COUNT)]
    for name in names:
        write_image(folder / name)
    annotations = {
        'relative_im_path': names,
        'class': [1, 196, 1, 196],
        'test': [0, 0, 1, 1],
    }
    file = str(folder / 'cars_annos.mat')
    mat4py.savemat(file, dict(annotations=annotations))


def flowers102(folder: Path) -> None:
    for i in range(1, 2 * COUNT + 1):
        write_image(folder / f'jpg/image_{i:05d}.jpg')
    labels = dict(labels=[1, 102, 1, 102])
    mat4py.savemat(str(folder / 'imagelabels.mat'), labels)
    ids = dict(trnid=[1, 2], valid=[2, 1], tstid=[3, 4])
    mat4py.savemat(str(folder / 'setid.mat'), ids)


def food101(folder: Path) -> None:
    (folder / 'meta').mkdir()
    for split in ('train', 'test'):
        names = [
            f'{FOOD101_CATEGORIES[label]}/{split}_{label}' for label in (0, -1)
        ]
        for name in names:
            write_image(folder / f'images/{name}.jpg')
        (folder / f'meta/{split}.txt').write_text('\n'.join(names))


def inaturalist2018(folder: Path) -> None:
    categories = [dict(id=i) for i in range(8142)]
    for split in ('train2018', 'val2018'):
        images = [
            dict(id=10 + i, file_name=f'train_val2018/Aves/{split}_{i}.jpg')
            for i in range(COUNT)
        ]
        labels = [dict(image_id=11, category_id=8141)]
        labels += [dict(image_id=10, category_id=0)]
        for image in images:
            write_image(folder / image['file_name'])
        annotations = dict(
            images=images, annotations=labels, categories=categories
        )
        (folder / f'{split}.json').write_text(json.dumps(annotations))
    tool = CONFIGS.parent / 'tools/dataset_converters/inaturalist.py'
    subprocess.run([sys.executable, str(tool), str(folder)], check=True)


def custom(folder: Path) -> None:
    for split in ('train', 'val'):
        for name in ('cat', 'dog'):
            write_image(folder / split / name / '1.png')


def cifar(kind: type, folder: Path, monkeypatch) -> None:
    """CIFAR's pickles; MMPretrain compares the checksums of the real ones."""
    monkeypatch.setattr(kind, '_check_integrity', lambda self: True)
    base = folder / kind.base_folder
    base.mkdir()
    classes = 100 if kind is CIFAR100 else 10
    key = 'fine_labels' if kind is CIFAR100 else 'labels'
    for split in ('train_list', 'test_list'):
        first = getattr(kind, split)[:1]
        monkeypatch.setattr(kind, split, first)
        pixels = PHOTOGRAPH[:32, : 32 * COUNT].reshape(32, COUNT, 32, 3)
        data = pixels.transpose(1, 3, 0, 2).reshape(COUNT, -1)
        content = {'data': data, key: [0, classes - 1]}
        (base / first[0][0]).write_bytes(pickle.dumps(content))
    meta = {kind.meta['key']: [str(i) for i in range(classes)]}
    (base / kind.meta['filename']).write_bytes(pickle.dumps(meta))


def cifar10(folder: Path, monkeypatch) -> None:
    cifar(CIFAR10, folder, monkeypatch)


def cifar100(folder: Path, monkeypatch) -> None:
    # CIFAR100 inherits from CIFAR10.
    cifar(CIFAR100, folder, monkeypatch)


CASES = {
    'resnet/resnet18_8xb16_cifar10_u1.py': cifar10,
    'resnet/resnet18_8xb16_cifar100_u1.py': cifar100,
    'finegrained/resnet50_8xb8_cub_u1.py': cub,
    'finegrained/resnet50_8xb8_stanfordcars_u1.py': stanford_cars,
    'finegrained/resnet50_8xb8_flowers102_u1.py': flowers102,
    'finegrained/resnet50_8xb8_food101_u1.py': food101,
    'finegrained/resnet50_8xb32_inat2018_u1.py': inaturalist2018,
    'custom/resnet50_1xb32_custom_u1.py': custom,
}


def data_of(loader: Config, folder: Path):
    loader.dataset.data_root = str(folder)
    return DATASETS.build(loader.dataset)


@pytest.mark.parametrize('name', CASES)
def test_layout_labels_loss_and_metric(name, tmp_path, monkeypatch):
    init_default_scope('mmpretrain')
    layout = CASES[name]
    extra = (monkeypatch,) if layout in (cifar10, cifar100) else ()
    layout(tmp_path, *extra)
    config = Config.fromfile(CONFIGS / name)
    classes = config.model.head.num_classes
    train = data_of(config.train_dataloader, tmp_path)
    test = data_of(config.test_dataloader, tmp_path)
    for data in (train, test):
        labels = {data.get_data_info(i)['gt_label'] for i in range(len(data))}
        assert labels == {0, classes - 1}
    assert classes in {len(train.metainfo.get('classes') or [])} | {
        config.data_preprocessor.num_classes
    }

    torch.manual_seed(0)
    config.model.data_preprocessor = config.data_preprocessor
    config.model.backbone.pop('init_cfg', None)  # a download
    model = MODELS.build(config.model)
    batch = model.data_preprocessor(pseudo_collate([train[0], train[1]]), True)
    losses = model(**batch, mode='loss')
    assert all(value.isfinite() for value in losses.values())

    evaluator = Evaluator(config.test_evaluator)
    evaluator.dataset_meta = test.metainfo
    model.eval()
    for item in (test[0], test[1]):
        with torch.no_grad():
            samples = model.val_step(pseudo_collate([item]))
        evaluator.process(samples, pseudo_collate([item]))
    scores = evaluator.evaluate(len(test))
    assert scores['accuracy/top1'] in (0, 50, 100)


def test_an_image_without_a_label_is_named(tmp_path):
    inaturalist2018(tmp_path)
    file = tmp_path / 'val2018.json'
    annotations = json.loads(file.read_text())
    annotations['annotations'].pop()
    file.write_text(json.dumps(annotations))
    tool = CONFIGS.parent / 'tools/dataset_converters/inaturalist.py'
    command = [sys.executable, str(tool), str(tmp_path)]
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode and 'exists; remove it' in again.stderr
    for list_file in (tmp_path / 'meta').iterdir():
        list_file.unlink()
    (tmp_path / 'meta').rmdir()
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode and 'val2018_0.jpg' in failed.stderr
    assert not (tmp_path / 'meta').exists()


def test_both_lists_of_inaturalist_have_the_training_labels(tmp_path):
    inaturalist2018(tmp_path)
    file = tmp_path / 'val2018.json'
    annotations = json.loads(file.read_text())
    # A file of some categories: ranks of its own would be 0 and 1.
    annotations['categories'] = [dict(id=0), dict(id=8141)]
    file.write_text(json.dumps(annotations))
    shutil.rmtree(tmp_path / 'meta')
    tool = CONFIGS.parent / 'tools/dataset_converters/inaturalist.py'
    command = [sys.executable, str(tool), str(tmp_path)]
    subprocess.run(command, check=True)
    lines = (tmp_path / 'meta/val2018.txt').read_text().splitlines()
    assert sorted(line.split()[1] for line in lines) == ['0', '8141']
    annotations['annotations'][0]['category_id'] = 9000
    file.write_text(json.dumps(annotations))
    shutil.rmtree(tmp_path / 'meta')
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode and 'is of category 9000' in failed.stderr


def test_the_imagenet_sample_is_read_by_its_lists(root, tmp_path):
    tool = str(root / 'tools/dataset_converters/imagenet_sample.py')
    command = [sys.executable, tool, 'sample', '--images', '3']
    subprocess.run(command, check=True, cwd=tmp_path)
    for option, wrong in (('images', '0'), ('seed', '-1')):
        failed = subprocess.run(
            [sys.executable, tool, 'other', f'--{option}={wrong}'],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert failed.returncode == 2
        assert f'--{option}={wrong} must be' in failed.stderr
    init_default_scope('mmpretrain')
    config = Config.fromfile(CONFIGS / 'resnet/resnet18_8xb32_in1k_u1.py')
    for loader in (config.train_dataloader, config.val_dataloader):
        data = data_of(loader, tmp_path / 'sample')
        assert len(data) == 12 and len(data.metainfo['classes']) == 1000
        labels = [data.get_data_info(i)['gt_label'] for i in range(12)]
        assert np.array_equal(np.bincount(labels), [3, 3, 3, 3])
        assert data[0]['inputs'].shape == (3, 224, 224)
