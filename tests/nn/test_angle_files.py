"""Class angles that lie in a file: what is read, and what is refused."""

import json
import math
import os
import pickle
from pathlib import Path

import pytest
import torch

from u1_plugin.nn import ClassAngles


@pytest.mark.parametrize('suffix', ['json', 'yml'])
def test_file(tmp_path, suffix):
    file = tmp_path / f'angles.{suffix}'
    file.write_text(json.dumps(dict(class_angles=[0.5, -0.5, 7.0])))
    angles = ClassAngles(mode='file', file=str(file))
    assert angles.num_classes == 3
    expected = torch.tensor([0.5, 2 * math.pi - 0.5, 7 - 2 * math.pi])
    torch.testing.assert_close(angles.angles, expected)


def test_a_file_of_several_windings(tmp_path):
    file = tmp_path / 'angles.json'
    rows = [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]]
    file.write_text(json.dumps(dict(class_angles=rows)))
    angles = ClassAngles(mode='file', file=str(file), windings=2)
    torch.testing.assert_close(angles.angles, torch.tensor(rows))
    with pytest.raises(ValueError, match=r'2 winding\(s\).*1 winding'):
        ClassAngles(mode='file', file=str(file))


@pytest.mark.parametrize('key', ['', 'class_angles: '])
def test_a_file_runs_no_code(tmp_path, key):
    trace = tmp_path / 'trace'
    file = tmp_path / 'angles.yml'
    file.write_text(f'{key}!!python/object/apply:os.mkdir ["{trace}"]')
    with pytest.raises(ValueError, match='angles.yml.*plain YAML'):
        ClassAngles(3, mode='file', file=str(file))
    assert not trace.exists()


@pytest.mark.parametrize('name', ['angles.pkl', 'angles.json', 'angles.yml'])
def test_a_pickle_is_refused(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(pickle.dumps(dict(class_angles=[1.0, 2.0, 3.0])))
    with pytest.raises(ValueError, match=f'file=.*{name}.*neither JSON nor'):
        ClassAngles(3, mode='file', file=str(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match='class_angles.file=.*angles.js'
    ):
        ClassAngles(3, mode='file', file=str(tmp_path / 'angles.json'))


@pytest.mark.parametrize(
    'content, words',
    [
        (dict(class_angles=[1.0, 2.0]), ('2 angles', 'num_classes=3')),
        (dict(angles=[1.0]), ('class_angles', 'radians')),
        (dict(class_angles=[1.0, math.nan, 0]), ('finite', 'nan')),
        (dict(class_angles=[[[1.0]], [[2.0]]]), ('(2, 1, 1)',)),
        (dict(class_angles=[[1.0], [2.0, 3.0]]), ('list of radians',)),
        ([1.0, 2.0, 3.0], ('class_angles', 'list')),
    ],
)
def test_bad_files_are_refused(tmp_path, content, words):
    file = tmp_path / 'angles.json'
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError) as caught:
        ClassAngles(3, mode='file', file=str(file))
    assert all(word in str(caught.value) for word in (*words, 'file'))


BOMB = 'a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n'
for before, after in zip('abcdefghij', 'bcdefghijk'):
    BOMB += f'{after}: &{after} [{", ".join([f"*{before}"] * 10)}]\n'
BOMB += 'class_angles: *k\n'


@pytest.mark.parametrize(
    'suffix, text, words',
    [
        ('json', '{"class_angles": [1, 2, "3"]}', "'3'"),
        ('json', '{"class_angles": [1, 2, true]}', 'True'),
        ('json', '{"class_angles": [1, 2, null]}', 'None'),
        ('json', '{"class_angles": [1, 2, [3]]}', 'list of radians'),
        ('json', '{"class_angles": [1, 2, {"3": 3}]}', 'list of radians'),
        ('json', '{"class_angles": {"0": 1, "1": 2, "2": 3}}', 'radians'),
        ('json', '{"class_angles": "123"}', "'123'"),
        ('json', '{"class_angles": 3}', 'list of radians'),
        ('json', '{"class_angles": []}', 'is empty'),
        ('json', '{"class_angles": [[], [], []]}', 'is empty'),
        ('json', '{"class_angles": [1, 2, NaN]}', 'finite'),
        ('json', '{"class_angles": [1, 2, -Infinity]}', 'finite'),
        ('json', '{"class_angles": [1, 2, 1e999]}', 'finite'),
        ('json', '{"class_angles": [1, 2, 1e300]}', 'less than 1e'),
        (
            'json',
            '{"class_angles": [1, 2, 1' + '0' * 400 + ']}',
            'list of radians',
        ),
        ('json', '{"class_angles": [1, 2, 1' + '0' * 9999 + ']}', 'file='),
        (
            'json',
            '{"class_angles": [1, 2, 3], "class_angles": [3, 2, 1]}',
            "'class_angles' is there twice",
        ),
        ('json', '{"class_angles": ' + '[' * 10**5 + ']' * 10**5, 'neither'),
        ('json', '{"class_angles": ' + '[' * 50 + ']' * 50 + '}', 'radians'),
        ('json', '{"class_angles": [1, 2, 3]', 'neither JSON'),
        ('json', '', 'neither JSON'),
        ('json', '\x00\x01', 'neither JSON'),
        ('yml', BOMB, 'it has aliases'),
        ('yml', 'class_angles: &a [*a, *a, *a]', 'it has aliases'),
        ('yml', 'class_angles: ' + '[' * 10**4 + ']' * 10**4, 'neither'),
        ('yml', 'class_angles: [1, 2, .nan]', 'finite'),
        ('yml', 'class_angles: [1, 2, 2001-01-01]', 'list of radians'),
        ('yml', 'class_angles: [1, 2, yes]', 'True'),
        ('yml', 'class_angles: [1]\nclass_angles: [1, 2, 3]', 'twice'),
        ('yml', 'class_angles: !!python/tuple [1, 2, 3]', 'neither'),
        ('yml', 'a: 1\n---\nclass_angles: [1, 2, 3]', 'neither'),
        ('yml', '? [1]\n: 2', 'neither'),
    ],
)
def test_crafted_files_are_refused_by_name(tmp_path, suffix, text, words):
    file = tmp_path / f'angles.{suffix}'
    file.write_text(text)
    with pytest.raises(ValueError) as caught:
        ClassAngles(3, mode='file', file=str(file))
    assert 'class_angles.file=' in str(caught.value)
    assert words in str(caught.value) and len(str(caught.value)) < 1000


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / 'pipe')
    for file in (tmp_path, tmp_path / 'pipe', '/dev/zero', 3, ['a.json']):
        file = str(file) if isinstance(file, Path) else file
        with pytest.raises(ValueError, match='class_angles.file='):
            ClassAngles(3, mode='file', file=file)


def test_a_file_too_large_for_angles_is_not_read(tmp_path):
    file = tmp_path / 'angles.json'
    with open(file, 'wb') as stream:
        stream.truncate(2**40)  # takes no space
    with pytest.raises(ValueError, match='class_angles.file=.*more than'):
        ClassAngles(3, mode='file', file=str(file))


def test_how_large_angles_of_a_file_may_be(tmp_path):
    file = tmp_path / 'angles.json'
    file.write_text(json.dumps(dict(class_angles=[0, 999999.5, -999999.5])))
    angles = ClassAngles(mode='file', file=str(file)).angles
    expected = math.fmod(999999.5, 2 * math.pi)
    wanted = torch.tensor([0, expected, 2 * math.pi - expected])
    torch.testing.assert_close(angles, wanted)
    for large in (1e6, -1e6):
        file.write_text(json.dumps(dict(class_angles=[0, 1, large])))
        with pytest.raises(ValueError, match='less than 1e'):
            ClassAngles(mode='file', file=str(file))


@pytest.mark.parametrize('mode', ['random', 'uniform'])
def test_a_file_that_would_not_be_read_is_refused(tmp_path, mode):
    file = tmp_path / 'angles.json'
    file.write_text('{"class_angles": [0, 1, 2]}')
    with pytest.raises(ValueError, match=r'class_angles\.file=.*is not read'):
        ClassAngles(3, mode=mode, file=str(file))
    assert ClassAngles(3, mode='file', file=file).num_classes == 3
