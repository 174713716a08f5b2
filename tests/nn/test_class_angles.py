"""ClassAngles: modes, files, checkpoints."""

import math

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


def test_a_checkpoint_without_finite_angles_is_refused():
    state = ClassAngles(3).state_dict()
    state['angles'][1] = math.nan
    with pytest.raises(ValueError, match='angles of the checkpoint'):
        ClassAngles(3).load_state_dict(state)


def test_a_branch_may_be_built_for_inference_alone():
    """Tensors of inference mode count no changes of theirs."""
    with torch.inference_mode():
        angles = ClassAngles(4, seed=3)
        rows = angles.table(torch.zeros(1)).rows
        angles.angles += 1
        moved = angles.table(torch.zeros(1)).rows
    expected = ClassAngles(4, seed=3).table(torch.zeros(1)).rows
    assert torch.equal(rows, expected) and not torch.equal(rows, moved)
