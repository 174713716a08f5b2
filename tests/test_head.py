"""U1ClsHead: losses, targets, checkpoints, errors."""

import copy
import pickle

import pytest
import torch
from helpers import (
    CHANNELS,
    CLASSES,
    build,
    images,
    plain_config,
    samples,
    soft_samples,
    u1_config,
)
from mmengine.logging import MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.runner import load_checkpoint
from mmpretrain.models import LinearClsHead
from mmpretrain.registry import MODELS

from u1_plugin.mm.u1_cls_head import U1ClsHead

LINEAR = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS)
SMOOTH = dict(
    LINEAR,
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
)


def expected_u1(model, x, target: torch.Tensor, weight: float = 0.1):
    """1 - Re(u conj(sum_c p_c t_c)), from complex numbers."""
    v = model.backbone(x)[-1].relu().mean((2, 3)).double()
    v = v / v.norm(dim=1, keepdim=True)
    phase = torch.arange(CHANNELS).double() * (2j * torch.pi / CHANNELS)
    z = (v * phase.exp()).sum(1)
    u = z / (z.abs() ** 2 + 1e-6).sqrt()
    t = (1j * model.head.class_angles.angles.double()).exp()
    pull = target.to(t) @ t
    return weight * (target.double().sum(1) - (u * pull.conj()).real).mean()


def one_hot(n: int = 4) -> torch.Tensor:
    return torch.eye(CLASSES)[torch.arange(n) % CLASSES]


def test_it_is_the_wrapped_head():
    head = build(u1_config()).head
    assert isinstance(head, U1ClsHead) and isinstance(head, LinearClsHead)
    assert set(head.state_dict()) == {
        'fc.weight',
        'fc.bias',
        'class_angles.angles',
    }


def test_losses_are_those_of_the_formulas():
    model, plain = build(u1_config()), build(plain_config())
    losses = model.loss(images(), samples())
    reference = plain.loss(images(), samples())
    assert torch.equal(losses['loss'], reference['loss'])
    # BatchNorm has moved on by a step, so measure on the twin's next step.
    losses = model.loss(images(), samples())
    expected = expected_u1(model, images(), one_hot())
    torch.testing.assert_close(
        losses['loss_u1'].double(), expected, atol=1e-6, rtol=0
    )
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss'] + losses['loss_u1'])
    assert {'loss', 'loss_u1'} <= set(logged)


def test_several_layers_and_planes():
    neck = dict(layers=[0, 1], plane='joint', layer_weights=[0.3, 0.7])
    model = build(u1_config(neck=neck, out_indices=(2, 3)))
    losses = model.loss(images(), samples())
    parts = [
        losses[f'u1_{plane}_{layer}'] * weight / 2
        for layer, weight in ((0, 0.3), (1, 0.7))
        for plane in ('feature', 'image')
    ]
    torch.testing.assert_close(losses['loss_u1'], sum(parts))
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss'] + losses['loss_u1'])


@pytest.mark.parametrize('mixed', [False, True])
@pytest.mark.parametrize('head', [LINEAR, SMOOTH])
def test_targets_are_those_of_the_one_hot_loss(head, mixed):
    model = build(u1_config(head))
    scores = one_hot()
    data_samples = samples()
    if mixed:
        scores = 0.7 * scores + 0.3 * scores.flip(0)
        data_samples = soft_samples(scores)
    if head is SMOOTH:
        scores = scores * 0.9 + 0.1 / CLASSES
    losses = model.loss(images(), data_samples)
    torch.testing.assert_close(
        losses['loss_u1'].double(),
        expected_u1(model, images(), scores),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize('basis', ['fourier', 'learned'])
def test_checkpoints_go_both_ways(tmp_path, basis):
    neck = dict(in_channels=CHANNELS, feature_plane=dict(basis=basis))
    u1, plain = build(u1_config(neck=neck), 1), build(plain_config(), 2)
    u1.load_state_dict(plain.state_dict(), strict=True)
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value)

    file = str(tmp_path / 'u1.pth')
    torch.save(
        dict(state_dict=build(u1_config(neck=neck), 3).state_dict()), file
    )
    extra = set(u1.state_dict()) - set(plain.state_dict())
    assert extra <= {
        'head.class_angles.angles',
        'neck.feature_planes.0.rows',
    }
    loaded = load_checkpoint(plain, file)
    for name, value in plain.state_dict().items():
        assert torch.equal(loaded['state_dict'][name], value)


@pytest.mark.parametrize(
    'duplicate',
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: ExponentialMovingAverage(model).module,
    ],
)
def test_copies(duplicate):
    model = build(u1_config()).eval()
    other = duplicate(model).eval()
    assert isinstance(other.head, U1ClsHead)
    assert isinstance(other.head, LinearClsHead)
    assert torch.equal(other(images()), model(images()))


def loss_of(config, x=None, data_samples=None):
    return build(config).loss(
        images() if x is None else x, data_samples or samples()
    )


def without_u1_neck():
    config = u1_config()
    config.neck = dict(type='GlobalAveragePooling')
    return config


@pytest.mark.parametrize(
    'head, words',
    [
        (
            dict(cls_head=LINEAR, class_angles=dict(num_classes=7)),
            ('num_classes=7', f'num_classes={CLASSES}'),
        ),
        (dict(cls_head=dict(type='ClsHead')), ('num_classes=None',)),
        (dict(cls_head='LinearClsHead'), ('head.cls_head', 'config')),
        (dict(), ('head.cls_head=None', 'config')),
        (
            dict(cls_head=dict(type='U1ClsHead', cls_head=LINEAR)),
            ('already', 'override'),
        ),
        (dict(cls_head=dict(type='NoHead')), ('NoHead', 'custom_imports')),
        (
            dict(cls_head=dict(type='GlobalAveragePooling')),
            ('GlobalAveragePooling', 'loss'),
        ),
        (
            dict(cls_head=LINEAR, loss_u1=dict(loss_weight=-1)),
            ('loss_weight=-1', '>= 0'),
        ),
    ],
)
def test_bad_configs_are_refused_when_built(head, words):
    with pytest.raises((ValueError, TypeError, KeyError)) as caught:
        MODELS.build(dict(type='U1ClsHead', **head))
    assert all(word in str(caught.value) for word in words)


def test_a_missing_neck_is_named():
    with pytest.raises(TypeError, match='model.neck.*BottleneckAngleNeck'):
        loss_of(without_u1_neck())


def test_a_label_out_of_range_is_named():
    bad = samples()
    bad[2].set_gt_label(CLASSES)
    with pytest.raises(ValueError, match=r'labels 0..10.*num_classes=10'):
        loss_of(u1_config(), data_samples=bad)


def test_nan_activations_are_named():
    broken = images()
    broken[0] = torch.nan
    with pytest.raises(ValueError, match='not finite.*learning rate'):
        loss_of(u1_config(), broken)


def test_another_number_of_classes_in_the_data_set_is_named():
    # What MMEngine's RuntimeInfoHook writes before the first iteration.
    hub = MessageHub.get_current_instance()
    hub.update_info('loop_stage', 'train')
    hub.update_info('dataset_meta', dict(classes=('cat', 'dog')))
    try:
        with pytest.raises(ValueError, match='num_classes=10.*has 2 classes'):
            loss_of(u1_config())
    finally:
        hub.pop_info('loop_stage')
        hub.pop_info('dataset_meta')
    loss_of(u1_config())  # no runner trains: nothing to compare with
