"""Drawings are centred on white and divided by kind, none in two splits."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import mmcv
import numpy as np
import pytest
from PIL import Image

from u1_plugin.lab.image_folders import (
    RECORD,
    as_rgba,
    common_classes,
    on_white,
    run_converter,
    split_kinds,
)


def test_a_drawing_lies_in_the_middle_of_a_white_square():
    image = Image.new('RGBA', (40, 20), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))  # left half: nothing
    found = np.asarray(on_white(image, 64))
    assert found.shape == (64, 64, 3)
    assert (found[:14] == 255).all() and (found[-14:] == 255).all()
    assert (found[20:44, :28] == 255).all()
    assert (found[20:44, 36:] == (255, 0, 0)).all()


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
def test_pictures_are_upright(suffix, tmp_path):
    """As MMCV reads them: the turn that a camera notes is taken."""
    exif = Image.Exif()
    exif[274] = 6  # turned by a quarter
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    file = tmp_path / f'turned.{suffix}'
    Image.fromarray(pixels).save(file, exif=exif)
    with Image.open(file) as image:
        found = np.asarray(as_rgba(image))[..., :3]
    assert found.shape == (32, 16, 3)
    assert found[:12].max() < 9 and found[20:].min() > 246
    if suffix == 'jpg':  # of PNG files, versions of OpenCV differ
        seen = mmcv.imread(str(file)).astype(int)
        assert np.abs(found - seen).max() < 9


def test_grey_values_of_16_bits_keep_their_shades(tmp_path):
    values = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16) + 255
    file = tmp_path / 'deep.png'
    Image.fromarray(values).save(file)
    with Image.open(file) as image:
        assert image.mode.startswith('I')
        found = np.asarray(as_rgba(image))
        drawn = np.asarray(on_white(image, 16))
    assert (found[..., 3] == 255).all()
    np.testing.assert_array_equal(found[..., :3], mmcv.imread(str(file)))
    assert len(np.unique(found[..., 0])) == 256
    np.testing.assert_array_equal(drawn, found[..., :3])


def made(out, monkeypatch, *options) -> list:
    """What a converter was called with, if it was."""
    calls = []

    def convert(args):
        assert not list(args.out.iterdir())
        calls.append(args)
        return 'done'

    parser = argparse.ArgumentParser(prog='converter.py')
    parser.add_argument('folder', type=Path)
    parser.add_argument('out', type=Path)
    parser.add_argument('--size', type=float, default=0.5)
    monkeypatch.setattr(sys, 'argv', ['', *map(str, options), str(out)])
    run_converter(parser, convert)
    return calls


def test_a_folder_made_with_other_options_is_refused(
    tmp_path, monkeypatch, capsys
):
    out = tmp_path / 'out'
    assert made(out, monkeypatch, '--size', '0.25', 'a/in')
    capsys.readouterr()
    # What was read may have been moved.
    for folder in ('a/in', tmp_path / 'in'):
        assert not made(out, monkeypatch, '--size', '0.25', folder)
        assert 'exists, nothing to do' in capsys.readouterr().out
    for options, words in (
        (['a/in'], 'size=0.25, and not 0.5'),
        (['--size', '0.25', '--seed', '1', 'a/in'], 'seed=0, and not 1'),
        (['--size', '0.25', 'a/other'], "folder='in', and not 'other'"),
    ):
        with pytest.raises(SystemExit):
            made(out, monkeypatch, *options)
        assert words in capsys.readouterr().err


def test_a_folder_appears_with_its_record_or_not_at_all(
    tmp_path, monkeypatch, capsys
):
    out = tmp_path / 'out'
    with pytest.raises(SystemExit):  # an option that JSON cannot record
        made(out, monkeypatch, '--size', 'nan', 'in')
    assert 'not JSON compliant' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert made(out, monkeypatch, 'in')
    assert [file.name for file in out.iterdir()] == [RECORD]


def test_a_folder_without_a_record_is_left_alone(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'
    out.mkdir()
    assert not made(out, monkeypatch, '--seed', '3', 'in')
    assert 'exists, nothing to do' in capsys.readouterr().out
    (out / RECORD).write_text('{"mine": 1}')
    with pytest.raises(SystemExit):
        made(out, monkeypatch, 'in')
    assert 'no record of a converter' in capsys.readouterr().err


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
