"""What the runs of a benchmark are shown comes as their own images come."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS
from own_pictures import LOAD, PACK, save

from u1_plugin.lab.analysis.preparation import holds_rgb
from u1_plugin.lab.benchmark.evaluated_images import (
    class_folder,
    folder_images,
    split_images,
)

RED = np.full((8, 8, 3), (200, 0, 0), np.uint8)  # Pillow's order is RGB


@DATASETS.register_module(force=True)
class RedArrays(CIFAR10):
    """Two red images, as CIFAR holds them."""

    METAINFO = dict(classes=('a', 'b'))

    def load_data_list(self) -> list:
        return [dict(img=RED.copy(), gt_label=label) for label in (0, 1)]


def config_of(dataset: dict) -> Config:
    return Config(dict(test_dataloader=dict(dataset=dataset)))


def arrays() -> dict:
    return dict(type='RedArrays', data_root='memory', pipeline=[PACK])


VIEWS = dict(type='TestTimeAug', transforms=[[PACK]])
SETS = dict(
    plain=arrays(),
    subset=dict(arrays(), type='SubsetDataset', of='RedArrays'),
    repeat=dict(type='RepeatDataset', times=3, dataset=arrays()),
    views=dict(arrays(), pipeline=[VIEWS]),
)


@pytest.fixture(autouse=True)
def _scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize('kind', SETS)
def test_pictures_have_the_colours_of_arrays(kind, tmp_path):
    save(RED, tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    config = config_of(SETS[kind])
    assert holds_rgb(config)
    test = split_images(config)
    assert test.labels.tolist() == [0, 1]  # a repetition is no image
    assert torch.equal(test.inputs[0], torch.from_numpy(RED).permute(2, 0, 1))
    for shown in (
        folder_images(config, tmp_path),
        class_folder(config, tmp_path),
    ):
        assert torch.equal(shown.inputs, test.inputs)


def test_pictures_have_the_channels_of_the_test_images(tmp_path):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save(grey, tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    load = dict(LOAD, color_type='grayscale')
    files = dict(
        type='CustomDataset', data_root=str(tmp_path), pipeline=[load, PACK]
    )
    config = config_of(files)
    assert split_images(config).inputs.shape == (2, 1, 8, 8)
    assert torch.equal(
        folder_images(config, tmp_path).inputs, split_images(config).inputs
    )


@pytest.mark.parametrize('kind', ['plain', 'repeat'])
def test_corruptions_know_the_order_of_colours(kind, tmp_path):
    """Frost has colours of its own: as on files, which come as BGR."""
    save(RED, tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    files = dict(
        type='CustomDataset', data_root=str(tmp_path), pipeline=[LOAD, PACK]
    )
    rgb, bgr = (
        split_images(config_of(dataset), corruption='frost', severity=5).inputs
        for dataset in (SETS[kind], files)
    )
    assert torch.equal(rgb, bgr.flip(1))
    assert not torch.equal(rgb, bgr)
