"""Class angles and planes, and the files of others that hold them."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    JUNK,
    SEED,
    Kind,
    choice,
    close,
    options,
    smooth,
    turned,
    whole,
)

from u1_plugin.nn import (
    ClassAngles,
    FeaturePlane,
)

ANY = Kind(lambda v: True, JUNK)
WINDINGS = Kind(
    lambda v: (
        isinstance(v, (list, tuple))
        and len(v) > 0
        and all(type(n) is int and n >= 1 for n in v)
        and len(set(v)) == len(v)
    ),
    st.lists(st.integers(1, 3), min_size=1, max_size=3, unique=True),
)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    return tmp_path_factory.mktemp('files')


ANGLES = dict(
    num_classes=COUNT,
    mode=choice('random', 'uniform'),
    seed=SEED,
    windings=whole(1, 3),
)


@fuzz('nn.ClassAngles', case=options(ANGLES, ('num_classes',)))
def test_class_angles(case):
    given, wrong = case
    found = attempt(lambda: ClassAngles(**given), wrong)
    if found is REFUSED:
        return
    k, n = given['num_classes'], given.get('windings', 1)
    angles = found.angles.reshape(k, n)
    assert ((angles >= 0) & (angles < 2 * math.pi + 1e-6)).all()
    assert torch.equal(ClassAngles(**given).angles, found.angles)
    if given.get('mode') == 'uniform':
        wanted = 2 * np.pi * np.arange(k) / k
        assert turned(angles[:, 0], wanted)
        assert turned(angles.sort(0).values, np.tile(wanted[:, None], n))


NUMBERS = st.floats(-9, 9) | st.integers(-9, 9)
LEAVES = NUMBERS | st.sampled_from(
    [None, True, 'a', '1', math.nan, math.inf, 10**400, 1e300, [], {}, [[]]]
)


@fuzz(
    'nn.ClassAngles: files',
    rows=st.lists(NUMBERS, min_size=1, max_size=5)
    | st.lists(LEAVES, max_size=5)
    | st.lists(st.lists(LEAVES, max_size=3), max_size=4)
    | LEAVES,
    key=st.sampled_from(['class_angles'] * 5 + ['angles', '']),
    suffix=st.sampled_from(['json', 'yaml']),
    damage=st.sampled_from([None] * 4 + [b'{', b'\xff', b'!!python/object:x']),
)
def test_class_angle_files(files, rows, key, suffix, damage):
    file = files / f'angles.{suffix}'
    text = json.dumps({key: rows}).encode()
    file.write_bytes(text if damage is None else damage + text)
    flat = isinstance(rows, list) and all(type(r) in (int, float) for r in rows)
    right = (
        damage is None
        and key == 'class_angles'
        and flat
        and len(rows) > 0
        and all(abs(float(r)) < 1e6 for r in rows if abs(r) < 1e300)
        and all(abs(r) < 1e6 for r in rows)
    )
    nested = isinstance(rows, list) and any(isinstance(r, list) for r in rows)
    # To YAML 1.1, 1e-30 is text, for it has no point.
    is_text = suffix == 'yaml' and b'e-' in text
    found = attempt(
        lambda: ClassAngles(mode='file', file=str(file)),
        {} if right else dict(file=()),
        either=nested or is_text,  # one column for one winding
    )
    if found is not REFUSED and flat:
        assert turned(found.angles, np.array(rows, float))


@fuzz(
    'nn.ClassAngles: ordered',
    content=st.fixed_dictionaries(
        {},
        optional=dict(
            similarity=st.lists(st.lists(LEAVES, max_size=5), max_size=5)
            | smooth(4, 4).map(lambda m: m.abs().tolist())
            | LEAVES,
            hierarchy=st.lists(st.lists(st.text(max_size=3)), max_size=5)
            | LEAVES,
        ),
    ),
    classes=st.integers(1, 5),
)
def test_ordered(files, content, classes):
    file = files / 'order.json'
    file.write_text(json.dumps(content))
    found = attempt(
        lambda: ClassAngles(classes, 'ordered', file=str(file)),
        dict(similarity=content, hierarchy=content),
        either=True,
    )
    if found is not REFUSED:
        steps = found.angles.sort().values * classes / (2 * math.pi)
        assert close(steps, np.arange(classes), 1e-3)


ARRAYS = st.sampled_from(
    [
        *(np.ones((2, 4)), np.eye(2, 4), np.zeros((2, 4)), np.eye(3)),
        *(np.full((2, 4), np.nan), np.ones(4), np.full(4, 1e300), np.zeros(4)),
        *(np.array(['a', 'b']), np.ones((2, 4)) * 1j, np.eye(2, 4, dtype=int)),
        *(np.array([{}], object), np.zeros((2, 0)), np.eye(2, 5) * 1e-300),
    ]
)


@fuzz(
    'nn.FeaturePlane: files',
    basis=ARRAYS,
    center=ARRAYS,
    vectors=smooth(3, 4),
    cut=st.none() | st.integers(0, 300),
)
def test_feature_plane_files(files, basis, center, vectors, cut):
    file = files / 'plane.npz'
    np.savez(file, basis=basis, center=center)
    if cut is not None:
        file.write_bytes(file.read_bytes()[:cut])
    plane = attempt(
        lambda: FeaturePlane(basis='pca', center='file', file=str(file)),
        dict(file=basis),
        either=True,
    )
    if plane is not REFUSED:
        assert cut is None
        rows = plane.basis(vectors)
        assert close(rows @ rows.T, np.eye(2))
        assert close(rows.sum(1), np.zeros(2))
