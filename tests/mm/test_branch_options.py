"""What every framework's classifier asks of the options of its branch."""

import math

import pytest
import timm_ranks
import torch
from helpers import build, images, plain_config, u1_config
from torch import nn

from u1_plugin.nn import ClassAngles
from u1_plugin.nn.branch import build_branch
from u1_plugin.timm import U1ClassificationTask


def of_mmpretrain(**u1) -> nn.Module:
    """Without a head, which would say how many classes there are."""
    config = u1_config()
    config.head, config.u1 = None, u1
    return build(config)


def of_timm(**u1) -> nn.Module:
    """With a network that has no classifier."""
    network = timm_ranks.network('resnet')
    network.reset_classifier(0)
    return U1ClassificationTask(network, u1=u1)


BOTH = [(of_mmpretrain, 'model.u1'), (of_timm, 'u1')]


@pytest.mark.parametrize('make, field', BOTH)
def test_an_unknown_option_is_named(make, field):
    words = f"^{field} has no 'head'; it takes neck, class_angles, loss"
    with pytest.raises(ValueError, match=words):
        make(head=1)


@pytest.mark.parametrize('make, field', BOTH)
@pytest.mark.parametrize('angles', [None, dict(), dict(mode='uniform')])
def test_an_unknown_number_of_classes_is_asked_for(make, field, angles):
    words = rf'\(num_classes\); set {field}\.class_angles\.num_classes'
    with pytest.raises(ValueError, match=words):
        make(class_angles=angles)


@pytest.mark.parametrize('make, field', BOTH)
def test_class_angles_say_how_many_classes_there_are(make, field):
    module = ClassAngles(7, mode='uniform')
    assert make(class_angles=module).u1.class_angles is module
    angles = make(class_angles=dict(num_classes=7)).u1.class_angles
    assert angles.num_classes == 7


@pytest.mark.parametrize('make, field', BOTH)
@pytest.mark.parametrize(
    'options, words',
    [
        (dict(loss=dict(loss_weight=math.nan)), 'loss.loss_weight=nan must'),
        (dict(loss=dict(eps=math.inf)), 'loss.eps=inf must'),
        (dict(loss=dict(kappa='2')), "loss.kappa='2' must"),
        (dict(loss=0.1), 'loss=0.1 must'),
        (dict(neck=dict(layer_weights=math.nan)), 'neck.layer_weights=nan'),
        (dict(neck=dict(plane=None)), 'neck.plane=None must'),
        (dict(neck=dict(windings=[1.5])), r'neck.windings=\[1.5\] must'),
        (dict(neck=dict(layers='nowhere')), "neck.layers='nowhere'"),
    ],
)
def test_options_are_named_as_they_are_written(make, field, options, words):
    options = dict(dict(class_angles=dict(num_classes=3)), **options)
    with pytest.raises(ValueError, match=rf'(^|: ){field}\.{words}'):
        make(**options)


@pytest.mark.parametrize('make, field', BOTH)
@pytest.mark.parametrize('kind', ['', 'a..b', 'Nonsense', 3, None, [1, 2]])
def test_types_that_are_none_are_named(make, field, kind):
    neck = dict(type=kind)
    with pytest.raises(
        ValueError, match=rf'{field}\.neck\.type=.* is not known'
    ):
        make(neck=neck, class_angles=dict(num_classes=3))


def test_names_of_several_kinds_are_refused():
    with pytest.raises(ValueError, match='^u1 has no 1; it takes neck'):
        build_branch('u1', build(plain_config()), {1: 2, 'a': 3}, 3, 'it')


@pytest.mark.parametrize('u1', ['image', 3, [dict()]])
def test_options_are_a_dict(u1):
    words = r'model\.u1=.* must be a dict with any of neck, class_angles, loss'
    with pytest.raises(ValueError, match=words):
        build(dict(u1_config(), u1=u1))


@pytest.mark.parametrize('make, field', BOTH)
def test_class_angles_of_another_kind_are_refused(make, field):
    with pytest.raises(ValueError, match="u1.class_angles='uniform' must be"):
        make(class_angles='uniform')


@pytest.mark.parametrize('make, field', BOTH)
@pytest.mark.parametrize(
    'part, wrong',
    [
        ('neck', dict(type=nn.ReLU)),
        ('neck', nn.ReLU()),
        ('class_angles', nn.ReLU()),
        ('loss', dict(type=int)),
    ],
    ids=str,
)
def test_parts_of_another_kind_are_refused(make, field, part, wrong):
    with pytest.raises(ValueError, match=rf'{field}\.{part}=.* is no module'):
        make(**dict(dict(class_angles=dict(num_classes=3)), **{part: wrong}))


def test_a_refused_branch_leaves_no_hook():
    model = build(plain_config()).eval()
    neck = dict(plane='image', flip='follow')
    with pytest.raises(ValueError, match="^u1.neck.flip='follow', but no"):
        build_branch('u1', model, dict(neck=neck), 10, 'it', 'no')
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        model(images())
