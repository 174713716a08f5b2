"""ClassAngles: modes, files, checkpoints."""

import json
import math
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from u1_plugin.geometry import random_basis
from u1_plugin.nn import ClassAngles, FeaturePlane, U1Loss


def test_uniform():
    angles = ClassAngles(4, mode='uniform').angles
    expected = torch.tensor([0, 0.5, 1, 1.5]) * math.pi
    torch.testing.assert_close(angles, expected)


def test_random_is_seeded_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    first = ClassAngles(1000, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.angles, ClassAngles(1000, seed=3).angles)
    assert torch.equal(ClassAngles(9).angles, ClassAngles(9, seed=0).angles)
    assert not torch.equal(first.angles, ClassAngles(1000, seed=4).angles)
    assert first.angles.min() >= 0 and first.angles.max() < 2 * math.pi
    # Uniform on the circle: the resultant of 1,000 angles is short.
    assert first().mean(0).norm() < 0.1


def built_parts() -> list:
    """Constants that are made when a branch is built."""
    return [
        ClassAngles(4).angles,
        ClassAngles(4, 'uniform', windings=2).angles,
        FeaturePlane(16, 'learned').rows,
        random_basis(16),
        U1Loss('von_mises', kappa=2.0).log_norm,
    ]


def test_another_default_device_spoils_nothing_later():
    """Accelerate and FSDP build on the meta device, compilers on fakes."""
    expected = built_parts()
    with torch.device('meta'):
        for value in built_parts()[:-1]:
            assert value.is_meta
    with FakeTensorMode():
        random_basis(16)
    for value, other in zip(built_parts(), expected):
        torch.testing.assert_close(value, other, rtol=0, atol=0)


def test_points_lie_on_the_unit_circle():
    angles = ClassAngles(7)
    points = angles()
    torch.testing.assert_close(points.norm(dim=1), torch.ones(7))
    theta = torch.atan2(points[:, 1], points[:, 0]).remainder(2 * math.pi)
    torch.testing.assert_close(theta, angles.angles)


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


@pytest.mark.parametrize('mode', ['random', 'uniform'])
def test_windings_have_angles_of_their_own(mode):
    one, three = (ClassAngles(9, mode, windings=n).angles for n in (1, 3))
    assert one.shape == (9,) and three.shape == (9, 3)
    assert torch.equal(three[:, 0], one)
    assert [ClassAngles(9, windings=n).windings for n in (1, 3)] == [1, 3]
    assert not torch.equal(three[:, 1], three[:, 2])
    if mode == 'uniform':
        for column in three.T:
            assert torch.equal(column.sort().values, one)


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


def written_by_copy(angles, new):
    angles.angles.copy_(new)


def written_past_the_version(angles, new):
    # As MMEngine's EMA writes, before the training loop goes on.
    angles.angles.data.copy_(new)
    angles.train()


def loaded(angles, new):
    angles.load_state_dict(dict(angles=new))


def replaced(angles, new):
    angles.angles = new.clone()


@pytest.mark.parametrize(
    'change', [written_by_copy, written_past_the_version, loaded, replaced]
)
def test_changed_angles_change_the_points(change):
    angles, like = ClassAngles(5, seed=1), torch.zeros(1)
    assert angles.table(like).rows is angles.table(like).rows
    new = ClassAngles(5, seed=2)
    change(angles, new.angles)
    assert torch.equal(angles.table(like).rows, new.table(like).rows)
    torch.testing.assert_close(angles.table(like).rows, new())


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


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(mode='file'), ('file=None', 'radians')),
        (dict(mode='gaussian', num_classes=3), ('gaussian', 'uniform')),
        (dict(), ('num_classes=None', 'number of classes')),
        (dict(num_classes=0), ('class_angles.num_classes=0', '>= 1')),
        (dict(num_classes='3'), ("num_classes='3'", 'an integer')),
        (dict(num_classes=True), ('num_classes=True', 'an integer')),
        (dict(num_classes=3.0), ('num_classes=3.0', 'an integer')),
        (dict(num_classes=3, seed=-1), ('class_angles.seed=-1', '>= 0')),
        (dict(num_classes=3, seed=math.nan), ('seed=nan', 'an integer')),
        (dict(num_classes=3, windings=0), ('windings=0', '>= 1')),
        (dict(num_classes=3, mode=None), ('mode=None', "'random'")),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError) as caught:
        ClassAngles(**options)
    assert all(word in str(caught.value) for word in words)


def test_a_checkpoint_carries_the_angles():
    saved, loaded = ClassAngles(5, seed=1), ClassAngles(5, seed=2)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded.angles, saved.angles)


def test_a_checkpoint_without_angles_keeps_the_built_ones():
    angles = ClassAngles(5, seed=1)
    before = angles.angles.clone()
    assert not angles.load_state_dict({}, strict=True).missing_keys
    assert torch.equal(angles.angles, before)


def test_numbers_of_numpy_are_numbers():
    found = ClassAngles(np.int64(3), seed=np.int64(7), windings=np.int64(2))
    assert torch.equal(found.angles, ClassAngles(3, seed=7, windings=2).angles)
    with pytest.raises(ValueError, match='class_angles.seed=None must be an'):
        ClassAngles(3, seed=None)


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


def test_a_checkpoint_without_finite_angles_is_refused():
    state = ClassAngles(3).state_dict()
    state['angles'][1] = math.nan
    with pytest.raises(ValueError, match='angles of the checkpoint'):
        ClassAngles(3).load_state_dict(state)
