"""U1Branch: what it refuses, and in which words."""

import pytest
import torch
from helpers import build, images, samples, u1_config
from plain_network import K, labels, network, step
from torch import nn

from u1_plugin.nn import U1Branch, U1Loss, base


class InEvaluationOnly(nn.Identity):
    """Runs where a network is tried, and is silent where it trains."""

    def __call__(self, x):
        return None if self.training else super().__call__(x)


class Changing(nn.Module):
    """A map in evaluation and something else in training."""

    def __init__(self, trained) -> None:
        super().__init__()
        self.trained = trained

    def forward(self, x):
        return self.trained(x) if self.training else x


@pytest.mark.parametrize(
    'target, words',
    [
        (labels() - 1, ('labels -1..2', 'num_classes=10')),
        (labels() + 7, ('labels 7..10', 'num_classes=10')),
        (labels().float(), ('torch.float32', 'whole numbers')),
        (labels(3), ('3 images', 'maps of 4')),
        (torch.rand(4, 7), ('7 classes', 'num_classes=10')),
        (torch.rand(1, 10), ('1 images', 'maps of 4')),
        (torch.full((4, 10), torch.nan), ('not finite',)),
        (torch.full((4, 10), -0.1), ('-0.1', 'negative')),
        (torch.full((4, 10), torch.inf).half(), ('not finite',)),
    ],
)
@pytest.mark.parametrize('first', [True, False])
def test_targets_that_do_not_fit_are_refused_at_every_step(
    target, words, first
):
    model = network()
    branch = U1Branch(model, K)
    if not first:
        step(model, branch)
    with pytest.raises(ValueError) as caught:
        step(model, branch, target)
    assert all(word in str(caught.value) for word in words), caught.value
    assert not branch.reading().outputs
    step(model, branch)  # and the branch goes on


CHECKPOINTED = dict(neck=dict(layers='backbone.layer4.0.conv2'), with_cp=True)
FROZEN = dict(neck=dict(layers='backbone.layer3'), frozen_stages=3)


@pytest.mark.parametrize('options', [CHECKPOINTED, FROZEN])
def test_a_map_without_gradient_is_refused(options):
    model = build(u1_config(**options)).train()
    layer = options['neck']['layers']
    with pytest.raises(ValueError, match=f"'{layer}' gives a map without gra"):
        model.loss(images(), samples())
    with torch.no_grad():  # a loss that trains nothing on purpose
        assert model.loss(images(), samples())['loss_u1'] > 0


@pytest.mark.parametrize(
    'extra, words',
    [
        (Changing(lambda x: None), ("'extra' gives NoneType", 'not a map')),
        (
            Changing(lambda x: x.mean((2, 3))),
            ("'extra' gives a tensor (4, 8)",),
        ),
        (
            Changing(lambda x: (x.mean((2, 3)), [None])),
            ("'extra' gives (a tensor (4, 8), (NoneType))",),
        ),
        (InEvaluationOnly(), ("'extra' did not run", 'every forward pass')),
    ],
)
def test_a_layer_without_a_map_in_training_is_named(extra, words):
    model = network(extra)
    branch = U1Branch(model, K, dict(layers='extra'))
    with pytest.raises(ValueError) as caught:
        step(model, branch)
    for word in ('u1.neck.layers', *words):
        assert word in str(caught.value)


class Silent(nn.Module):
    def forward(self, x):
        return None


@pytest.mark.parametrize(
    'layer, words',
    [
        ('extra', ("'extra' gives no tensor", 'another module')),
        ('fc', ("'fc' gives [(10,)]", 'not a map')),
        ('extra.proj', ("extra has no module 'proj'", 'none')),
        ('stage', ("Network has no module 'stage'", 'stem, norm, extra')),
        (-1, ('u1.neck.layers=-1', 'name a module')),
    ],
)
def test_a_layer_without_a_map_is_refused_when_built(layer, words):
    with pytest.raises(ValueError) as caught:
        U1Branch(network(Silent()), K, dict(layers=layer))
    for word in ('u1.neck.layers', *words):
        assert word in str(caught.value)


def test_a_network_without_a_map_is_refused():
    model = nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, K)
    )
    with pytest.raises(ValueError, match=r"'auto' found no.*0 \(3, 1, 1\)"):
        U1Branch(model, K)


@pytest.mark.parametrize(
    'options, words',
    [
        (
            dict(neck=dict(plan='image')),
            ('u1.neck', "plan='image'", 'plane?'),
        ),
        (dict(neck='image'), ("u1.neck='image'", 'dict')),
        (dict(neck=dict(type='Neck')), ("u1.neck.type='Neck'", 'registered')),
        (dict(neck=dict(plane='hue')), ("u1.neck.plane='hue'",)),
        (dict(neck=dict(in_channels=8)), ('u1.neck.in_channels', '[12]')),
        (dict(neck=dict(windings=(1, 6))), ('u1.neck.windings', '1..5')),
        (
            dict(neck=dict(feature_plane=dict(basis='hue'))),
            ("u1.neck.feature_plane.basis='hue'",),
        ),
        (
            dict(neck=dict(windings=(2,), feature_plane=dict(basis='random'))),
            ('u1.neck.feature_plane.windings=(2,)', "basis='random'"),
        ),
        (dict(loss=dict(loss_weight=-1)), ('u1.loss.loss_weight=-1',)),
        (dict(class_angles=dict(mode='x')), ("u1.class_angles.mode='x'",)),
        (dict(class_angles=dict(num_classes=7)), ('=7', 'num_classes=10')),
        (dict(class_angles=dict(mode='file')), ('u1.class_angles.file=None',)),
    ],
)
def test_bad_options_are_named_as_they_are_written(options, words):
    with pytest.raises((ValueError, TypeError)) as caught:
        U1Branch(network(), K, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    'part, wrong, words',
    [
        ('neck', nn.ReLU(), 'windings, plane, flip, connect'),
        ('neck', dict(type=nn.ReLU), 'is no module with layers, token_grid'),
        ('class_angles', nn.ReLU(), 'is no module with num_classes, table;'),
        ('class_angles', dict(type=dict), 'is no module with num_classes'),
        ('loss', dict(type=dict), 'is no module; use U1Loss or'),
    ],
)
def test_parts_of_another_kind_are_refused(part, wrong, words):
    with pytest.raises(ValueError, match=rf'^u1\.{part}=.* {words}'):
        U1Branch(network(), K, **{part: wrong})


@pytest.mark.parametrize('wrong', ['mse', 0.1, [('mode', 'mse')]])
def test_a_part_is_a_dict_or_a_module(wrong):
    with pytest.raises(ValueError, match=r'^a\.loss=.* must be a dict of opt'):
        base.build('a.loss', wrong, U1Loss)


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        raise error


def test_errors_of_parts_get_the_path_to_their_name_alone():
    own = dict(loss_weight=-1)
    for field, words in (('loss', '^loss'), ('a.loss', r'^a\.loss')):
        with pytest.raises(ValueError, match=rf'{words}\.loss_weight=-1'):
            base.build(field, own, U1Loss)
    for error in (ValueError('eps'), FileNotFoundError('eps')):
        other = dict(type=Failing, error=error)
        for field in ('loss', 'a.loss'):
            with pytest.raises(type(error), match='^eps$'):
                base.build(field, other, U1Loss)


def test_what_is_not_finite_is_named():
    model = network()
    with torch.no_grad():
        model.last.weight[0] = torch.nan
    with pytest.raises(ValueError, match="'last' is not finite.*learning rate"):
        step(model, U1Branch(model, K))


def test_follow_needs_to_know_the_flips():
    model = network()
    branch = U1Branch(model, K, dict(plane='image', flip='follow'))
    with pytest.raises(ValueError, match="flip='follow'.*flips"):
        step(model, branch)
    flips = torch.zeros(4, 2, dtype=torch.bool)
    assert step(model, branch, flips=flips)['loss_u1'] > 0
    for bad in (flips[:1], flips[:, :1], flips[:, 0], flips.float()):
        with pytest.raises(ValueError, match=r'flips has .*\(B, 2\), bool'):
            step(model, branch, flips=bad)


def test_a_map_that_is_not_finite_later_gives_a_loss_of_nan():
    model = network()
    branch = U1Branch(model, K, dict(plane='joint'))
    step(model, branch)
    with torch.no_grad():
        model.last.weight[0] = torch.nan
    assert step(model, branch)['loss_u1'].isnan()


def test_gradients_of_gradients_are_refused():
    model = network()
    loss = step(model, U1Branch(model, K, dict(plane='joint')))['loss_u1']
    weight = model.stem.weight
    (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
    with pytest.raises(RuntimeError, match='gradients of gradients'):
        gradient.square().sum().backward()
