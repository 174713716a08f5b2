"""Drawings are centred on white and divided by kind, none in two splits."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from u1_plugin.lab.image_folders import common_classes, on_white, split_kinds


def test_a_drawing_lies_in_the_middle_of_a_white_square():
    image = Image.new('RGBA', (40, 20), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))  # left half: nothing
    found = np.asarray(on_white(image, 64))
    assert found.shape == (64, 64, 3)
    assert (found[:14] == 255).all() and (found[-14:] == 255).all()
    assert (found[20:44, :28] == 255).all()
    assert (found[20:44, 36:] == (255, 0, 0)).all()


def test_splits_divide_no_kind_and_keep_the_shares():
    rng = np.random.default_rng(0)
    classes = {n: f'class{n % 7}' for n in range(2000)}
    kinds = {n: (classes[n], int(rng.integers(60))) for n in classes}
    shares = dict(train=0.5, val=0.2, test=0.3)
    splits = split_kinds(classes, kinds, shares, seed=3)
    assert sorted(sum(splits.values(), [])) == sorted(classes)
    held = {s: {kinds[n] for n in keys} for s, keys in splits.items()}
    assert not held['train'] & held['val'] and not held['train'] & held['test']
    assert not held['val'] & held['test']
    for split, keys in splits.items():
        for name, count in Counter(classes[n] for n in keys).items():
            total = list(classes.values()).count(name)
            assert count / total == pytest.approx(shares[split], abs=0.06)
    assert splits == split_kinds(classes, kinds, shares, seed=3)
    assert splits != split_kinds(classes, kinds, shares, seed=4)


def test_a_kind_of_two_classes_goes_one_way():
    classes = {0: 'a', 1: 'a', 2: 'b', 3: 'b'}
    splits = split_kinds(
        classes, {n: n % 2 for n in classes}, dict(x=0.5, y=0.5)
    )
    assert {frozenset(keys) for keys in splits.values()} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }


def test_classes_need_drawings_in_every_split():
    classes = dict(enumerate('aabbbc'))
    splits = dict(train=[0, 2, 5], test=[1, 3, 4])
    assert common_classes(classes, splits, 1) == ['a', 'b']
    assert common_classes(classes, splits, 2) == []
