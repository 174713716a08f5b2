"""BottleneckAngleNeck: the moments of maps, in both planes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.registry import MODELS

from u1_plugin.geometry import (
    ORTHANT_MAPS,
    energy,
    feature_moment,
    fourier_basis,
    image_moment,
)
from u1_plugin.nn import BottleneckAngleNeck, ClassAngles, U1Loss

PLANES = ('feature', 'image', 'joint')
READINGS = [(plane, 'pooled') for plane in PLANES]
READINGS += [('feature', 'pixel'), ('joint', 'pixel')]
every_reading = pytest.mark.parametrize('plane, of', READINGS)


def maps(*channels: int, size: int = 4, n: int = 3) -> tuple:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(n, c, size, size, generator=generator) for c in channels
    )


def by_hand(a: torch.Tensor, plane: str, winding: int = 1) -> torch.Tensor:
    positive = a.clamp(min=0)
    if plane == 'image':
        return image_moment(energy(positive), winding)
    v = positive.mean((2, 3))
    v = v / v.norm(dim=1, keepdim=True)
    return feature_moment(v, fourier_basis(a.size(1), winding=winding))


@pytest.mark.parametrize('plane', PLANES)
def test_moments_equal_the_formulas(plane):
    inputs = maps(8, 16)
    neck = BottleneckAngleNeck(plane=plane, layers=[0, 1])
    planes = ['feature', 'image'] if plane == 'joint' else [plane]
    for _ in range(2):  # the first call builds what depends on the channels
        moments = neck(inputs)
        assert [(m.layer, m.plane) for m in moments] == [
            (layer, p) for layer in (0, 1) for p in planes
        ]
        for m in moments:
            expected = by_hand(inputs[m.layer], m.plane)
            torch.testing.assert_close(m.value, expected)
            assert m.weight == pytest.approx(0.5 / len(planes))


def test_without_layers_the_last_map_is_read():
    neck = BottleneckAngleNeck()
    (moment,) = neck(maps(8))
    assert moment.layer == -1 and moment.weight == 1
    torch.testing.assert_close(moment.value, by_hand(*maps(8), 'feature'))


@pytest.mark.parametrize('plane', PLANES)
def test_windings(plane):
    (a,) = maps(12)
    for m in BottleneckAngleNeck(plane=plane, windings=(1, 2, 5))((a,)):
        assert m.value.shape == (3, 3, 2)
        for place, winding in enumerate((1, 2, 5)):
            expected = by_hand(a, m.plane, winding)
            torch.testing.assert_close(m.value[:, place], expected)


@pytest.mark.parametrize('windings', [(1,), (1, 3)])
def test_pixels(windings):
    (a,) = maps(8)
    neck = BottleneckAngleNeck(of='pixel', windings=windings)
    (moment,) = neck((a,))
    e = a.clamp(min=0).square().sum(1).flatten(1)
    torch.testing.assert_close(moment.pixel_share, e / e.sum(1, keepdim=True))
    value = moment.value.view(3, 4, 4, len(windings), 2)
    for place, winding in enumerate(windings):
        for y in range(4):
            for x in range(4):
                pixel = a[:, :, y : y + 1, x : x + 1]
                expected = by_hand(pixel, 'feature', winding)
                torch.testing.assert_close(value[:, y, x, place], expected)


def test_layer_weights():
    neck = BottleneckAngleNeck(layers=[2, 0], layer_weights=[0.7, 0.2])
    moments = neck(maps(8, 12))
    assert [(m.layer, m.weight) for m in moments] == [(2, 0.7), (0, 0.2)]
    assert [m.value.shape for m in moments] == [(3, 2)] * 2


def test_non_square_maps():
    neck = BottleneckAngleNeck(plane='joint')
    wide = torch.rand(2, 8, 3, 7)
    for m in neck((wide,)):
        torch.testing.assert_close(m.value, by_hand(wide, m.plane))


@every_reading
def test_autocast_keeps_angles_in_float32(plane, of):
    neck = BottleneckAngleNeck(plane=plane, of=of)
    a = maps(8)[0].bfloat16()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        moments = neck((a,))
    for m, expected in zip(moments, neck((a.float(),))):
        assert m.value.dtype == torch.float32
        torch.testing.assert_close(m.value, expected.value)


@every_reading
def test_half_precision_keeps_the_planes_exact(plane, of):
    neck = BottleneckAngleNeck(plane=plane, of=of, in_channels=8)
    expected = [m.value for m in neck(maps(8))]
    for m, value in zip(neck.half()(maps(8)), expected):
        assert torch.equal(m.value, value)


@pytest.mark.parametrize('windings', [(1,), (1, 2)])
@every_reading
def test_gradcheck(plane, of, windings):
    neck = BottleneckAngleNeck(
        plane=plane, of=of, orthant='softplus', windings=windings
    )
    a = maps(5, size=3, n=2)[0].double().requires_grad_()

    def values(a):
        found = neck((a,))
        shares = [m.pixel_share for m in found if m.pixel_share is not None]
        return *[m.value for m in found], *shares

    assert torch.autograd.gradcheck(values, a)


@pytest.mark.parametrize('mode', ['cosine', 'von_mises', 'mse'])
@pytest.mark.parametrize('orthant', ORTHANT_MAPS)
@every_reading
def test_zero_maps_train(plane, of, orthant, mode):
    neck = BottleneckAngleNeck(plane=plane, of=of, orthant=orthant)
    loss, target = U1Loss(mode), torch.tensor([0, 1, 2])
    some = maps(8)[0].clone()
    some[1] = 0
    for a in (torch.zeros(3, 8, 4, 4), some):
        a.requires_grad_()
        total = sum(
            loss(m.value, target, ClassAngles(3)(), pixel_share=m.pixel_share)
            for m in neck((a,))
        )
        total.backward()
        assert total.isfinite() and a.grad.isfinite().all()


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0.01, 100),
    shift=st.floats(0, 10),
    roll=st.integers(-20, 20),
    turns=st.integers(0, 3),
)
def test_laws(seed, scale, shift, roll, turns):
    """In one loss: what leaves it alone, and what class angles follow."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(2, 9, 5, 5, generator=generator).double()
    neck = BottleneckAngleNeck(plane='joint', windings=(1, 2, 3))
    before = {m.plane: m.value for m in neck((a,))}

    def after(changed):
        return {m.plane: m.value for m in neck((changed,))}

    def turned(moments, angle):
        angle = torch.tensor([1, 2, 3]).double() * angle
        z = torch.view_as_complex(moments) * torch.polar(
            torch.ones(3).double(), angle
        )
        return torch.view_as_real(z)

    for plane, value in after(a * scale).items():
        torch.testing.assert_close(value, before[plane])
    unit = [  # grey changes the length, by which a vector is divided
        moments / moments.norm(dim=-1, keepdim=True)
        for moments in (after(a + shift)['feature'], before['feature'])
    ]
    torch.testing.assert_close(*unit)
    torch.testing.assert_close(
        after(a.roll(roll, 1))['feature'],
        turned(before['feature'], 2 * torch.pi * roll / 9),
    )
    torch.testing.assert_close(
        after(torch.rot90(a, turns, (-2, -1)))['image'],
        turned(before['image'], turns * torch.pi / 2),
    )


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(plane='hue'), ("plane='hue'", 'joint')),
        (dict(of='patch'), ("of='patch'", 'pixel')),
        (dict(of='pixel', plane='image'), ("of='pixel'", "plane='image'")),
        (dict(flip='both'), ("flip='both'", 'follow')),
        (dict(flip='follow'), ("flip='follow'", "plane='feature'")),
        (dict(orthant='exp'), ("orthant='exp'", 'relu')),
        (dict(layers=[]), ('layers=[]', '-1')),
        (dict(layers=[1, 1]), ('layers=[1, 1]', 'different')),
        (dict(layers=[1.5]), ('layers=[1.5]', 'an integer or a string')),
        (dict(layers=['auto', 1]), ("['auto', 1]", 'positions')),
        (dict(layer_weights=[1.0, 2.0]), ('layer_weights=[1.0, 2.0]', '1')),
        (dict(layer_weights=0.0), ('layer_weights=0.0', 'all 0')),
        (
            dict(plane='image', feature_plane=dict(basiss='pca')),
            ("neck.feature_plane={'basiss': 'pca'}", 'not read'),
        ),
        (dict(layer_weights=-1.0), ('layer_weights=-1.0', '>= 0')),
        (dict(layer_weights=math.nan), ('layer_weights=nan', 'finite')),
        (dict(layer_weights=[math.inf]), ('layer_weights=[inf]', 'finite')),
        (dict(in_channels=[8, 9]), ('in_channels=[8, 9]', 'neck.layers')),
        (dict(windings=()), ('windings=()', '>= 1')),
        (dict(windings=(0, 1)), ('windings=(0, 1)', '>= 1')),
        (dict(windings=(2, 2)), ('windings=(2, 2)', 'different')),
        (dict(windings=(1.0,)), ('windings=(1.0,)', 'an integer')),
        (
            dict(windings=(1, 4), in_channels=8),
            ('u1.neck.windings=(1, 4)', '8 channels', '1..3'),
        ),
        (dict(token_grid=3), ('token_grid=3', 'a string')),
        (dict(in_channels=0), ('in_channels=0', '>= 1')),
        (dict(feature_plane='pca'), ("feature_plane='pca'", 'a dict')),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises(ValueError) as caught:
        MODELS.build(dict(type='BottleneckAngleNeck', **options))
    for word in ('neck.', *words):
        assert word in str(caught.value)


@pytest.mark.parametrize('plane', ['image', 'joint'])
def test_an_extent_of_one_pixel_has_no_image_angle(plane):
    neck = BottleneckAngleNeck(plane=plane)
    with pytest.raises(ValueError, match='-1 is 1x1.*spatial extent.*feature'):
        neck(maps(8, size=1))


def test_other_channels_are_named():
    neck = BottleneckAngleNeck(in_channels=8)
    with pytest.raises(ValueError, match=r'in_channels=\[8\].*\[9\] channels'):
        neck.connect([9])


@pytest.mark.parametrize(
    'given, words',
    [
        (None, ('a list of 1', 'NoneType')),
        (maps(8)[0], ('a list of 1', 'Tensor')),
        ([], ('a list of 1', 'not 0')),
        (maps(8, 8), ('a list of 1', 'not 2')),
        ([None], ('maps[0]', 'tensor', 'None')),
        ([maps(8)[0].int()], ('maps[0]', 'int32', 'floating point')),
        ([maps(8)[0].cfloat()], ('maps[0]', 'real', 'complex64')),
        ([torch.ones(2, 8)], ('maps[0]', '(2, 8)', 'dim=2')),
        ([torch.ones(2, 8, 0, 3)], ('maps[0]', '(2, 8, 0, 3)', 'dim=2')),
        ([torch.ones(2, 8, 3, 3, 3)], ('maps[0]', '(2, 8, 3, 3, 3)')),
    ],
)
def test_what_are_no_maps_is_named(given, words):
    with pytest.raises(ValueError) as caught:
        BottleneckAngleNeck()(given)
    assert all(word in str(caught.value) for word in words), caught.value


@every_reading
@pytest.mark.parametrize('orthant', ORTHANT_MAPS)
def test_no_images_have_no_moments(plane, of, orthant):
    neck = BottleneckAngleNeck(plane=plane, of=of, orthant=orthant)
    for moment in neck([torch.zeros(0, 8, 3, 3)]):
        assert moment.value.shape[0] == 0 and moment.value.shape[-1] == 2


def test_numbers_of_numpy_are_numbers():
    neck = BottleneckAngleNeck(
        layers=[np.int64(-1)],
        windings=[np.int64(1), np.int32(2)],
        in_channels=np.int64(8),
        layer_weights=[np.float32(0.5)],
    )
    (moment,) = neck(maps(8))
    assert moment.layer == -1 and moment.weight == 0.5
    (wanted,) = BottleneckAngleNeck(windings=[1, 2])(maps(8))
    assert torch.equal(moment.value, wanted.value)
