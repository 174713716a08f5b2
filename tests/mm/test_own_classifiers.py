"""Classifiers of one's own, and what data sets say of their classes."""

import numpy as np
import pytest
from helpers import CLASSES, build, u1_config
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
