"""BottleneckAngleNeck with MMPretrain's real backbones."""

import pytest
import torch
from helpers import build, images, samples, u1_config
from mmpretrain.registry import MODELS

from u1_plugin.geometry import (
    energy,
    feature_moment,
    fourier_basis,
    image_moment,
)
from u1_plugin.nn.bottleneck_angle_neck import BottleneckAngleNeck, U1Feats


def maps(*channels: int, size: int = 4) -> tuple:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(3, c, size, size, generator=generator) for c in channels
    )


def by_hand(a: torch.Tensor, plane: str) -> torch.Tensor:
    positive = a.clamp(min=0)
    if plane == 'image':
        return image_moment(energy(positive))
    v = positive.mean((2, 3))
    v = v / v.norm(dim=1, keepdim=True)
    return feature_moment(v, fourier_basis(a.size(1)))


@pytest.mark.parametrize(
    'inner',
    [
        dict(type='GlobalAveragePooling'),
        dict(type='GeneralizedMeanPooling'),
        None,
    ],
)
def test_the_inner_neck_is_handed_on_unchanged(inner):
    neck = BottleneckAngleNeck(neck=inner)
    inputs = maps(8, 16)
    expected = inputs if inner is None else MODELS.build(inner)(inputs)
    trained, evaluated = neck.train()(inputs), neck.eval()(inputs)
    assert isinstance(trained, U1Feats)
    assert type(evaluated) is type(expected)
    for feats in (trained.feats, evaluated):
        assert all(torch.equal(a, b) for a, b in zip(feats, expected))


@pytest.mark.parametrize('plane', ['feature', 'image', 'joint'])
def test_moments_equal_the_formulas(plane):
    inputs = maps(8, 16)
    neck = BottleneckAngleNeck(plane=plane, layers=[0, 1])
    moments = neck(inputs).moments
    planes = ['feature', 'image'] if plane == 'joint' else [plane]
    assert [(m.layer, m.plane) for m in moments] == [
        (layer, p) for layer in (0, 1) for p in planes
    ]
    for m in moments:
        expected = by_hand(inputs[m.layer], m.plane)
        torch.testing.assert_close(m.value, expected)
        assert m.weight == pytest.approx(0.5 / len(planes))


def test_layer_weights():
    neck = BottleneckAngleNeck(layers=[2, 0], layer_weights=[0.7, 0.2])
    moments = neck(maps(8, 12, 16)).moments
    assert [(m.layer, m.weight) for m in moments] == [(2, 0.7), (0, 0.2)]


def test_a_single_tensor_is_a_map():
    neck = BottleneckAngleNeck()
    (single,) = maps(8)
    torch.testing.assert_close(
        neck(single).moments[0].value, by_hand(single, 'feature')
    )


def test_non_square_maps():
    neck = BottleneckAngleNeck(plane='joint')
    wide = torch.rand(2, 8, 3, 7)
    for m in neck((wide,)).moments:
        torch.testing.assert_close(m.value, by_hand(wide, m.plane))


def test_autocast_keeps_angles_in_float32():
    neck = BottleneckAngleNeck(plane='joint')
    (a,) = maps(8)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        moments = neck((a.bfloat16(),)).moments
    for m in moments:
        assert m.value.dtype == torch.float32
        expected = by_hand(a.bfloat16().float(), m.plane)
        torch.testing.assert_close(m.value, expected, atol=1e-4, rtol=0)


def test_gradcheck():
    neck = BottleneckAngleNeck(plane='joint', orthant='softplus', neck=None)
    a = maps(5, size=3)[0].double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda a: tuple(m.value for m in neck.measure((a,))), a
    )


@pytest.mark.parametrize('orthant', ['relu', 'abs', 'softplus', 'identity'])
def test_a_zero_map_trains(orthant):
    config = u1_config(neck=dict(plane='joint', orthant=orthant))
    model = build(config)
    a = torch.zeros(4, 128, 4, 4, requires_grad=True)
    losses = model.head.loss(model.neck((a,)), samples())
    losses['loss_u1'].backward()
    assert losses['loss_u1'].isfinite() and a.grad.isfinite().all()


def test_gradients_reach_the_backbone_from_loss_u1_alone():
    model = build(u1_config(neck=dict(layers=[0, 1]), out_indices=(2, 3)))
    model.loss(images(), samples())['loss_u1'].backward()
    grad = model.backbone.conv1.weight.grad
    assert grad.isfinite().all() and (grad != 0).any()


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(plane='hue'), ("plane='hue'", 'joint')),
        (dict(orthant='exp'), ("orthant='exp'", 'relu')),
        (dict(layers=[]), ('layers=[]', '-1')),
        (dict(layers=[1, 1]), ('layers=[1, 1]', 'different')),
        (dict(layers=[1.5]), ('[1.5]', 'positions')),
        (dict(layer_weights=[1.0, 2.0]), ('layer_weights=[1.0, 2.0]', '1')),
        (dict(layer_weights=-1.0), ('layer_weights=[-1.0]', '>= 0')),
        (dict(in_channels=[8, 9]), ('in_channels=[8, 9]', 'neck.layers')),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises(ValueError) as caught:
        MODELS.build(dict(type='BottleneckAngleNeck', **options))
    assert all(word in str(caught.value) for word in ('neck.', *words))


def test_a_missing_layer_is_named():
    neck = BottleneckAngleNeck(layers=[3])
    with pytest.raises(ValueError, match='1 output.*position 3.*out_indices'):
        neck(maps(8))


def test_an_extent_of_one_pixel_has_no_image_angle():
    neck = BottleneckAngleNeck(plane='image')
    with pytest.raises(ValueError, match='1x1.*spatial extent.*feature'):
        neck(maps(8, size=1))


@pytest.mark.parametrize(
    'backbone, remedy',
    [
        (
            dict(type='ConvNeXt', arch='atto'),
            'backbone.stages.3',
        ),
        (
            dict(type='VisionTransformer', arch='deit-t', img_size=32),
            "token_grid='backbone.patch_embed'",
        ),
    ],
)
def test_outputs_without_extent_are_named(backbone, remedy):
    backbone = MODELS.build(backbone)
    neck = BottleneckAngleNeck(neck=None)
    with pytest.raises(ValueError, match='not a map') as caught:
        neck(backbone(images(1)))
    assert remedy in str(caught.value)
