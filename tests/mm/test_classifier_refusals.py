"""What a classifier refuses, and what data sets say of their classes."""

import numpy as np
import pytest
import torch
from helpers import (
    CHANNELS,
    CLASSES,
    build,
    images,
    samples,
    u1_config,
)
from mmengine.logging import MessageHub
from mmpretrain.models import ImageClassifier

from u1_plugin import U1ClassifierMixin
from u1_plugin.mm.classifiers import class_names


class Renamed(ImageClassifier):
    """A classifier of one's own, whose head goes by another name."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.cls_head = self.head
        del self.head


class U1Renamed(U1ClassifierMixin, Renamed):
    pass


def test_a_head_of_another_name_is_refused():
    """Its loss, whose smoothing the targets follow, would not be found."""
    config = u1_config(class_angles=dict(num_classes=CLASSES))
    del config['type']
    with pytest.raises(ValueError, match='model.cls_head is a LinearClsHead'):
        U1Renamed(**config)


def test_class_names_may_be_an_array():
    model = build(u1_config())
    names = np.array([f'class {number}' for number in range(CLASSES)])
    assert class_names(model, dict(classes=names)) == names.tolist()
    assert class_names(model, dict(classes=names[:0]))[0] == '0'


LINEAR = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS)


def loss_of(config, x=None, data_samples=None):
    return build(config).loss(
        images() if x is None else x, data_samples or samples()
    )


TASKS = dict(type='MultiTaskHead', task_heads=dict(a=LINEAR, b=LINEAR))


AUGMENTS = dict(augments=dict(type='Mixup', alpha=1.0))


FOLLOW = dict(neck=dict(plane='image', flip='follow'))


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(u1=dict(head=1)), ("model.u1 has no 'head'", 'class_angles')),
        (dict(u1=dict(class_angles=dict(num_classes=7))), ('=7', '=10')),
        (dict(head=TASKS), ('MultiTaskHead', 'several tasks')),
        (dict(head=dict(type='ClsHead')), ('num_classes',)),
        (dict(u1=FOLLOW, train_cfg=AUGMENTS), ("'follow'", 'train_cfg')),
        (dict(u1=dict(loss=dict(type='L1'))), ("u1.loss.type='L1'",)),
    ],
)
def test_bad_configs_are_refused_when_built(change, words):
    config = u1_config()
    config.update(change)
    with pytest.raises((ValueError, TypeError, KeyError)) as caught:
        build(config)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize('label', [-1, CLASSES])
def test_a_label_out_of_range_is_named(label):
    bad = samples()
    bad[2].set_gt_label(label)
    low, high = min(label, 0), max(label, 3)
    with pytest.raises(ValueError, match=rf'{low}\.\.{high}.*num_classes=10'):
        loss_of(u1_config(), data_samples=bad)


def test_nan_activations_are_named():
    broken = images()
    broken[0] = torch.nan
    with pytest.raises(ValueError, match='not finite.*learning rate'):
        loss_of(u1_config(), broken)


def test_another_number_of_classes_in_the_data_set_is_named():
    # What MMEngine's RuntimeInfoHook writes before the first iteration.
    hub = MessageHub.get_current_instance()
    hub.update_info('loop_stage', 'train')
    hub.update_info('dataset_meta', dict(classes=('cat', 'dog')))
    try:
        with pytest.raises(
            ValueError,
            match=r'num_classes=10.*has 2 classes.*pop_info\(.loop_stage',
        ):
            loss_of(u1_config())
    finally:
        hub.pop_info('loop_stage')
        hub.pop_info('dataset_meta')
    loss_of(u1_config())  # no runner trains: nothing to compare with
