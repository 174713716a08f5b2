"""Maps of named modules: the right one, with the model left as it is."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from helpers import (
    CLASSES,
    build,
    images,
    plain_config,
    samples,
    u1_config,
)
from mmpretrain.registry import MODELS
from torch import nn

from u1_plugin.nn import MapCollector, MapReader, U1Branch, find_maps
from u1_plugin.nn.maps import Layout, as_map, output_tensors


def losses_of(model, seed=1):
    return model.loss(images(seed=seed), samples())


def network(**config) -> nn.Module:
    torch.manual_seed(0)
    parent = nn.Module()
    parent.backbone = MODELS.build(config)
    parent.forward = parent.backbone.forward
    parent.backbone.eval()  # returns nothing: some backbones override `train`
    return parent


def collected(model: nn.Module, inputs, layer: str, grid=None) -> torch.Tensor:
    with torch.no_grad(), MapCollector(model, [layer], grid) as collector:
        model(inputs)
        return collector.maps()[layer]


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_names_positions_and_auto_give_the_same_loss():
    found = [
        losses_of(build(u1_config(neck=dict(layers=layers, plane='joint'))))
        for layers in ('backbone.layer4', -1, 0, 'backbone', 'auto')
    ]
    for losses in found[1:]:
        assert torch.equal(losses['loss_u1'], found[0]['loss_u1'])
        assert torch.equal(losses['loss'], found[0]['loss'])


def test_an_inner_layer_needs_no_change_to_the_backbone():
    named = build(u1_config(neck=dict(layers=['backbone.layer2'])))
    placed = build(u1_config(neck=dict(layers=[0]), out_indices=(1, 3)))
    a, b = (losses_of(model)['loss_u1'] for model in (named, placed))
    assert torch.equal(a, b)
    a.backward()
    assert named.backbone.layer3[0].conv1.weight.grad is None
    assert (named.backbone.conv1.weight.grad != 0).any()


class ReadThrice(nn.Module):
    """Two readers of a map, whose gradients cancel, beside the branch."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, CLASSES)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        feats = self.stem(inputs)
        up, down = ((feats * s).mean((2, 3)) for s in (1e6, -1e6))
        return self.head(up + down)


def test_the_first_pass_has_the_gradients_of_later_ones():
    """Or a run that is resumed in the midst would be another one.

    The order in which the gradients add up decides how much of the branch's
    is left beside the two.
    """
    torch.manual_seed(0)
    model, labels = ReadThrice(), torch.arange(4)
    branch = U1Branch(model, CLASSES, neck=dict(layers=['stem']))
    gradients = []
    for _ in range(3):
        model.zero_grad()
        with branch.reading():
            loss = nn.functional.cross_entropy(model(images()), labels)
        (loss + branch(labels)['loss_u1']).backward()
        gradients.append(model.stem.weight.grad.clone())
    for later in gradients[1:]:
        assert torch.equal(gradients[0], later)


@pytest.mark.parametrize('grid', [None, 'backbone.patch_embed'])
def test_vision_transformer_tokens_are_its_feature_map(grid):
    config = dict(type='VisionTransformer', arch='deit-tiny', img_size=64)
    tokens = network(**config)
    featmap = network(**config, out_type='featmap')
    inputs = torch.rand(2, 3, 48, 80)
    expected = featmap(inputs)[0].detach()
    assert expected.shape == (2, 192, 3, 5)
    found = collected(tokens, inputs, 'backbone.ln1', grid)
    assert torch.equal(found, expected)


def test_swin_stages_are_its_feature_maps():
    arch = dict(embed_dims=24, depths=[1, 1], num_heads=[2, 4])
    swin = network(
        type='SwinTransformer', arch=arch, out_indices=(0, 1), window_size=2
    )
    inputs = torch.rand(2, 3, 48, 80)
    found = collected(swin, inputs, 'backbone.stages.1')
    assert found.shape == swin(inputs)[1].shape == (2, 48, 6, 10)
    norm = swin.backbone.norm1(found.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm, swin(inputs)[1])


def test_convnext_pools_the_map_that_is_read():
    model = network(type='ConvNeXt', arch='atto')
    inputs = torch.rand(2, 3, 64, 96)
    found = collected(model, inputs, 'backbone.stages.3')
    assert found.shape == (2, 320, 2, 3)
    pooled = model.backbone.norm3(found.mean((2, 3), keepdim=True)).flatten(1)
    torch.testing.assert_close(pooled, model(inputs)[0])


def test_as_map_leaves_out_what_precedes_the_patches():
    tokens = torch.arange(2 * 8 * 3.0).view(2, 8, 3)
    found = as_map(tokens, Layout('NLC', 2), (2, 3))
    assert found.shape == (2, 3, 2, 3)
    assert torch.equal(found[:, :, 0, 0], tokens[:, 2])
    assert torch.equal(found[:, :, 1, 2], tokens[:, 7])
    rows = tokens.transpose(1, 2)[..., 2:]
    assert torch.equal(as_map(rows, Layout('NCL'), (2, 3)), found)
    last = found.permute(0, 2, 3, 1)
    assert torch.equal(as_map(last, Layout('NHWC'), None), found)
    assert torch.equal(as_map(found, Layout(), None), found)


def test_parts_of_outputs():
    tokens, pair = torch.rand(2, 6, 3), (torch.rand(2, 4), torch.rand(2, 5))
    (part,) = output_tensors((tokens, (2, 3)))
    assert part.value is tokens and part.grid == (2, 3)
    assert [p.index for p in output_tensors(pair)] == [-2, -1]
    assert [p.value for p in output_tensors(dict(a=1, b=tokens))] == [tokens]
    assert output_tensors(None) == [] and output_tensors((None, 3)) == []


@pytest.mark.parametrize(
    'value, layout, grid, words',
    [
        (torch.rand(2, 5), Layout(), None, 'shape (2, 5)'),
        (torch.rand(2, 8, 3), Layout('NLC'), None, '8 tokens'),
        (torch.rand(2, 8, 3), Layout('NLC'), (3, 3), 'token_grid'),
    ],
)
def test_what_is_no_map_is_refused(value, layout, grid, words):
    with pytest.raises(ValueError) as caught:
        as_map(value, layout, grid)
    assert words in str(caught.value)


def test_copies_read_themselves():
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    state = copy.deepcopy(model.state_dict())
    expected = losses_of(model)['loss_u1']
    for duplicate in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))):
        twin = duplicate(model)
        twin.load_state_dict(state)
        for parameter in model.parameters():
            parameter.data.zero_()
        assert torch.equal(losses_of(twin)['loss_u1'], expected)
        model.load_state_dict(state)


def test_a_copy_made_in_a_pass_keeps_nothing_of_it():
    """As EMA makes one of a network that was left in the middle of a pass."""
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    with model.u1.reading() as reader:
        model(images())
        assert reader.outputs
        twin = copy.deepcopy(model)
    assert not twin.u1.reading().outputs
    twin(images())
    assert not twin.u1.reading().outputs


def test_nothing_is_kept_between_steps_or_in_evaluation():
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    reader = model.u1.reading()
    losses_of(model)
    assert not reader.outputs
    model.eval()
    model(images())
    assert not reader.outputs
    with pytest.raises(RuntimeError, match='shapes'), reader:
        model.backbone(images(size=8))
        model.head.fc(torch.zeros(1, 1))
    assert not reader.outputs and not reader.listening


def test_names_add_no_parameter_and_no_key():
    model = build(u1_config(neck=dict(layers=['backbone.layer3'])))
    plain = build(plain_config())
    added = set(model.state_dict()) - set(plain.state_dict())
    assert added == {'u1.class_angles.angles'}
    assert len([*model.parameters()]) == len([*plain.parameters()])


def test_a_collector_leaves_the_network_as_it_was():
    model = build(plain_config())
    with MapCollector(model, ['backbone.layer3', 'backbone.layer4']) as maps:
        assert hooks_of(model) == 2
        model(images())
        shapes = {name: a.shape[1:] for name, a in maps.maps().items()}
    assert shapes == {
        'backbone.layer3': (64, 8, 8),
        'backbone.layer4': (128, 4, 4),
    }
    assert hooks_of(model) == 0
    reader = MapReader(model)
    assert hooks_of(model) == 0
    reader.attach()
    assert hooks_of(model) == 1
    reader.attach()  # again
    assert hooks_of(model) == 1
    reader.detach()
    assert hooks_of(model) == 0


@pytest.mark.parametrize(
    'neck, words',
    [
        (dict(layers='backbone.layer9'), ("no module 'layer9'", 'layer4')),
        (dict(layers='layer4'), ("no module 'layer4'", 'backbone, neck')),
        (
            dict(layers='backbone.layer4', token_grid='backbone.patches'),
            ('u1.neck.token_grid', "no module 'patches'"),
        ),
        (dict(layers=[3]), ('3', '1 output(s)', 'backbone.out_indices')),
        (dict(layers='neck'), ("'neck' gives [(128,)]", 'not a map')),
        (dict(layers='head.fc'), ("'head.fc' gives [(10,)]", 'not a map')),
    ],
)
def test_a_layer_that_cannot_be_read_is_refused_when_built(neck, words):
    with pytest.raises(ValueError) as caught:
        build(u1_config(neck=neck))
    for word in ('u1.neck.', *words):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    'layers', [None, 3.5, True, [None], ['a', {}], {}, np.ones(2)], ids=str
)
def test_layers_are_names_and_positions(layers):
    with pytest.raises(ValueError, match='^layers=.* an integer or a string'):
        find_maps(nn.Conv2d(3, 4, 3), layers)


@pytest.mark.parametrize(
    'layers',
    [
        ['backbone', -1],
        ['backbone.layer4', 'backbone'],
        [-1, 'backbone.layer3', 'backbone.layer4.1'],
    ],
)
def test_one_map_by_two_names_is_refused(layers):
    """It would count twice, as another layer."""
    words = f'{layers[0]!r} and {layers[-1]!r} are one map'
    with pytest.raises(ValueError, match=re.escape(words)):
        build(u1_config(neck=dict(layers=layers)))


@pytest.mark.parametrize('after', [nn.Dropout(), nn.ReLU(inplace=True)])
def test_what_training_changes_is_another_map(after):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), after, nn.Identity())
    first, second = find_maps(model, ['0', '1'])
    assert first.origin == ('0', 0, 0) and second.origin == ('1', 0, 0)
    assert find_maps(model, '2')[0].origin == second.origin


def test_one_layer_needs_no_list():
    model = build(plain_config())
    for layer in ('backbone.layer4', -1, np.int64(-1)):
        assert find_maps(model, layer) == find_maps(model, [layer])
    for options in (dict(token_grid=3), dict(model=None)):
        with pytest.raises(ValueError, match='token_grid=3|model=None'):
            find_maps(**dict(dict(model=model, layers='auto'), **options))
