"""BottleneckAngleNeck: half precision, and what it spares or repeats."""

import pytest
import torch

from u1_plugin.nn import BottleneckAngleNeck

READINGS = [('feature', 'pooled'), ('feature', 'pixel'), ('image', 'pooled')]
every_reading = pytest.mark.parametrize('plane, of', READINGS)


def maps(*size: int) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(0)) + 0.1


@pytest.mark.parametrize('orthant', ['relu', 'abs', 'identity'])
@every_reading
def test_zeros_of_half_precision_have_finite_gradients(plane, of, orthant):
    a = maps(2, 8, 3, 3).half()
    a[1] = 0
    a.requires_grad_()
    neck = BottleneckAngleNeck(plane=plane, of=of, orthant=orthant)
    (moment,) = neck([a])
    moment.value.sum().backward()
    assert a.grad.isfinite().all() and (a.grad[0] != 0).any()


def test_the_defaults():
    neck = BottleneckAngleNeck()
    found = (neck.layers, neck.plane, neck.of, neck.flip, neck.windings)
    assert found == ('auto', 'feature', 'pooled', 'ignore', (1,))
    assert (neck.orthant, neck.layer_weights) == ('relu', [1.0])
    assert neck.in_channels == [None] and neck.token_grid is None


@pytest.mark.parametrize(
    'plane, planes', [('feature', 2), ('image', 0), ('joint', 2)]
)
def test_planes_of_features_are_built_once(plane, planes):
    neck = BottleneckAngleNeck(plane=plane, layers=[0, 1])
    for _ in range(2):
        neck.connect([8, 9])
        neck([maps(2, 8, 3, 3), maps(2, 9, 2, 2)])
    assert len(neck.feature_planes) == planes
    assert neck.layers == [0, 1] and neck.in_channels == [8, 9]


def test_windings_end_before_half_the_channels():
    for channels, most in ((7, 3), (8, 3), (9, 4)):
        own = dict(in_channels=channels, plane='joint')
        BottleneckAngleNeck(windings=(1, most), **own)
        words = f'{channels} channels, whose .* 1..{most};'
        with pytest.raises(ValueError, match=words):
            BottleneckAngleNeck(windings=(1, most + 1), **own)


def test_each_layer_is_read_in_a_plane_of_its_own():
    neck = BottleneckAngleNeck(
        layers=[0, 1], feature_plane=dict(basis='learned'), in_channels=[8, 8]
    )
    first, second = neck.feature_planes
    assert first.rows is not second.rows
    with torch.no_grad():
        second.rows.copy_(first.rows.flip(0))
    a = maps(2, 8, 3, 3)
    one, other = (moment.value for moment in neck([a, a]))
    assert not torch.allclose(one, other)
