"""Maps of named modules: the right one, with the model left as it is."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from helpers import build, images, plain_config, samples, u1_config
from mmpretrain.registry import MODELS
from torch import nn

from u1_plugin.nn.bottleneck_angle_neck import BottleneckAngleNeck
from u1_plugin.nn.bottleneck_angle_neck import _AWAITING
from u1_plugin.nn.taps import MapCollector, as_map, read_grid


def losses_of(model, seed=1):
    return model.loss(images(seed=seed), samples())


def backbone(**config) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.eval()  # returns nothing: some backbones override `train`
    return model


def tapped(model: nn.Module, inputs, layer: str, grid=None) -> torch.Tensor:
    parent = nn.Module()
    parent.backbone = model
    with torch.no_grad(), MapCollector(parent, [layer], grid) as collector:
        model(inputs)
        return collector.maps()[layer]


def test_a_name_and_a_position_give_the_same_loss():
    named = build(u1_config(neck=dict(layers='backbone.layer4', plane='joint')))
    placed = build(u1_config(neck=dict(layers=-1, plane='joint')))
    named, placed = (losses_of(model) for model in (named, placed))
    assert torch.equal(named['loss_u1'], placed['loss_u1'])
    assert torch.equal(named['loss'], placed['loss'])


def test_an_inner_layer_needs_no_change_to_the_backbone():
    named = build(u1_config(neck=dict(layers=['backbone.layer2'])))
    placed = build(u1_config(neck=dict(layers=[0]), out_indices=(1, 3)))
    a, b = (losses_of(model)['loss_u1'] for model in (named, placed))
    assert torch.equal(a, b)
    a.backward()
    assert named.backbone.layer3[0].conv1.weight.grad is None
    assert (named.backbone.conv1.weight.grad != 0).any()


def test_vision_transformer_tokens_are_its_feature_map():
    config = dict(type='VisionTransformer', arch='deit-tiny', img_size=64)
    tokens = backbone(**config)
    featmap = backbone(**config, out_type='featmap')
    inputs = torch.rand(2, 3, 48, 80)
    expected = featmap(inputs)[0].detach()
    assert expected.shape == (2, 192, 3, 5)
    found = tapped(tokens, inputs, 'backbone.ln1', 'backbone.patch_embed')
    assert torch.equal(found, expected)


def test_swin_stages_are_its_feature_maps():
    arch = dict(embed_dims=24, depths=[1, 1], num_heads=[2, 4])
    swin = backbone(
        type='SwinTransformer', arch=arch, out_indices=(0, 1), window_size=2
    )
    inputs = torch.rand(2, 3, 48, 80)
    found = tapped(swin, inputs, 'backbone.stages.1')
    assert found.shape == swin(inputs)[1].shape == (2, 48, 6, 10)
    norm = swin.norm1(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm, swin(inputs)[1])


def test_convnext_pools_the_map_that_is_tapped():
    model = backbone(type='ConvNeXt', arch='atto')
    inputs = torch.rand(2, 3, 64, 96)
    found = tapped(model, inputs, 'backbone.stages.3')
    assert found.shape == (2, 320, 2, 3)
    pooled = model.norm3(found.mean((2, 3), keepdim=True)).flatten(1)
    torch.testing.assert_close(pooled, model(inputs)[0])


def test_as_map_leaves_out_what_precedes_the_patches():
    tokens = torch.arange(2 * 8 * 3.0).view(2, 8, 3)
    found = as_map(tokens, (2, 3))
    assert found.shape == (2, 3, 2, 3)
    assert torch.equal(found[:, :, 0, 0], tokens[:, 2])
    assert torch.equal(found[:, :, 1, 2], tokens[:, 7])
    assert as_map((tokens[:, 2:], (3, 2))).shape == (2, 3, 3, 2)
    assert as_map([torch.rand(1, 2, 8, 8), torch.rand(1, 4, 4, 4)]).size(1) == 4
    assert as_map(torch.rand(1, 9, 5)).shape == (1, 5, 3, 3)


@pytest.mark.parametrize(
    'output, grid, words',
    [
        (torch.rand(2, 5), None, 'shape (2, 5)'),
        (torch.rand(2, 8, 3), None, '8 tokens'),
        (torch.rand(2, 8, 3), (3, 3), 'token_grid'),
        ({'a': 1}, None, 'dict'),
    ],
)
def test_what_is_no_map_is_refused(output, grid, words):
    with pytest.raises(ValueError) as caught:
        as_map(output, grid)
    assert words in str(caught.value)


@pytest.mark.parametrize('output', [torch.rand(2, 3), (1, 2, 3), None])
def test_what_has_no_grid_is_refused(output):
    with pytest.raises(ValueError, match='patch_embed'):
        read_grid(output)


def test_copies_tap_themselves():
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    expected = losses_of(model)['loss_u1']
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for parameter in model.parameters():
            parameter.data.zero_()
        assert torch.equal(losses_of(twin)['loss_u1'], expected)
        model.load_state_dict(twin.state_dict())


def test_nothing_is_kept_between_steps_or_in_evaluation():
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    (tap,) = model.neck._taps.values()
    losses_of(model)
    assert tap.output is None
    model.eval()
    model(images())
    assert tap.output is None


def test_names_add_no_parameter_and_no_key():
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    plain = build(plain_config())
    added = set(model.state_dict()) - set(plain.state_dict())
    assert added == {'head.class_angles.angles'}


@pytest.mark.parametrize(
    'neck, words',
    [
        (dict(layers='backbone.layer9'), ("no module 'layer9'", 'layer4')),
        (dict(layers='layer4'), ('ImageClassifier', "no module 'layer4'")),
        (
            dict(layers='backbone.layer4', token_grid='backbone.patches'),
            ('neck.token_grid', "no module 'patches'"),
        ),
    ],
)
def test_a_wrong_name_is_refused_when_the_model_is_built(neck, words):
    with pytest.raises(ValueError) as caught:
        build(u1_config(neck=neck))
    assert all(word in str(caught.value) for word in ('neck.', *words))


def test_a_module_that_does_not_run_is_named():
    model = build(u1_config())
    model.backbone.fc = nn.Identity()
    neck = BottleneckAngleNeck(layers='backbone.fc', neck=model.neck.neck)
    model.neck = neck
    with pytest.raises(ValueError, match="'backbone.fc' did not run"):
        losses_of(model)


def test_a_layer_without_a_map_is_named():
    config = u1_config(neck=dict(layers='backbone.ln1', neck=None))
    config.backbone = dict(
        type='VisionTransformer', arch='deit-tiny', img_size=32
    )
    config.head.cls_head = dict(
        type='VisionTransformerClsHead', num_classes=10, in_channels=192
    )
    with pytest.raises(ValueError, match="'backbone.ln1' gives 5 tokens"):
        losses_of(build(config))


def test_a_neck_that_is_thrown_away_is_not_kept():
    neck = BottleneckAngleNeck(layers='backbone.layer4')
    assert neck in _AWAITING
    reference = weakref.ref(neck)
    del neck
    gc.collect()
    assert reference() is None
    model = build(u1_config(neck=dict(layers='backbone.layer4')))
    assert model.neck not in _AWAITING
