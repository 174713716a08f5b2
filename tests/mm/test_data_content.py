"""Labels, content and types of data sets are read, whatever holds them."""

import functools

import numpy as np
import pytest
from helpers import Pictures
from mmengine.dataset import BaseDataset
from mmpretrain.datasets import CenterCrop, PackInputs, Resize
from torchvision import transforms

from u1_plugin.mm import data
from u1_plugin.mm.data_content import content_digests, gt_labels


def test_labels_of_items_alone():
    assert gt_labels(Pictures(12)).tolist() == [i % 10 for i in range(12)]
    first, again = content_digests(Pictures(3), range(3)), Pictures(3)
    assert content_digests(again, range(3)) == first
    again.inputs[1, 0, 0, 0] += 0.5
    changed = content_digests(again, range(3))
    assert changed['images'] != first['images']
    assert changed['labels'] == first['labels']


class Arrays(BaseDataset):
    """As CIFAR: pictures in memory, before the pipeline."""

    def load_data_list(self):
        return [dict(img=picture, gt_label=y) for picture, y in self.rows]


def arrays(rows) -> Arrays:
    Arrays.rows = rows
    return Arrays(serialize_data=False)


def test_content_of_arrays_and_order_of_labels():
    one, two = (np.full((4, 4, 3), v, np.uint8) for v in (1, 2))
    first = content_digests(arrays([(one, 0), (two, 1)]), [0, 1])
    turned = content_digests(arrays([(two, 0), (one, 1)]), [0, 1])
    assert turned['images'] != first['images']
    assert turned['labels'] == first['labels']
    other = content_digests(arrays([(one, 0), (two, 0)]), [0, 1])
    assert other['images'] == first['images']
    assert other['labels'] != first['labels']
    # Equal bytes, another shape.
    flat = content_digests(arrays([(one.reshape(2, 8, 3), 0)]), [0])
    assert flat['images'] != content_digests(arrays([(one, 0)]), [0])['images']


@pytest.mark.parametrize('label', [[0, 1], None])
def test_images_without_one_label_are_named(label):
    row = dict(img=np.zeros((2, 2, 3)))
    if label is not None:
        row['gt_label'] = label

    class Odd(Arrays):
        def load_data_list(self):
            return [dict(row), dict(row)]

        def get_gt_labels(self):
            infos = [self.get_data_info(i) for i in range(2)]
            return np.array([info['gt_label'] for info in infos])

    with pytest.raises(ValueError, match=r"train\.dataset\.type='Odd'.*one"):
        gt_labels(Odd(serialize_data=False), 'train.dataset')


def test_a_type_is_a_name_or_a_class():
    names = ('Resize', 'mmpretrain.Resize', 'mmpretrain.datasets.Resize')
    assert {data.type_name(dict(type=n)) for n in (*names, Resize)} == {
        'Resize'
    }
    assert data.type_name(CenterCrop) == 'CenterCrop'
    assert data.type_name(dict(scale=3)) == ''
    text = [dict(type='Resize', scale=(8, 8)), dict(type='PackInputs')]
    lazy = (dict(scale=[8, 8], type=Resize), dict(type=PackInputs))
    assert data.described(text) == data.described(lazy)
    assert data.described(text) != data.described(text[::-1])
    built = [Resize(8), PackInputs()]
    assert data.described(built) == data.described([Resize(8), PackInputs()])
    assert data.described(built) != data.described([Resize(9), PackInputs()])


def test_what_a_name_leads_to_is_described():
    resize = dict(type='Resize', scale=8)
    assert data.described(resize) == data.described(dict(resize, type=Resize))
    for other in (transforms.Resize, 'torchvision/Resize', 'Unknown'):
        others = data.described(dict(resize, type=other))
        assert others != data.described(resize)
    name = 'mmpretrain.Unknown'
    assert data.described(dict(type=name)) == data.described(
        dict(type='Unknown')
    )
    assert data.type_name(functools.partial(len)) == ''
