"""U1ImageClassifier: losses, targets, copies, errors."""

import copy
import math
import pickle
from functools import lru_cache
from logging import getLogger
from types import SimpleNamespace
from typing import Optional

import numpy as np
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
from mmengine.model import ExponentialMovingAverage
from mmpretrain.engine.hooks import SwitchRecipeHook
from mmpretrain.models import ImageClassifier
from mmpretrain.structures import DataSample
from torch import nn

from u1_plugin.nn import MapCollector

LINEAR = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS)
LAYER = 'backbone.layer4'
KAPPA = 2.0


def reference(
    model: nn.Module, a: torch.Tensor, p: torch.Tensor, plane: str, mode: str
) -> torch.Tensor:
    """``sum_c p_c loss_c`` of each image, from complex numbers."""
    a = a.double().clamp(min=0)
    if plane == 'feature':
        v = a.mean((2, 3))
        v = v / v.norm(dim=1, keepdim=True)
        phase = torch.arange(CHANNELS).double() * (2j * torch.pi / CHANNELS)
        z = (v * phase.exp()).sum(1)
    else:
        e, (height, width) = a.square().sum(1), a.shape[2:]
        x = torch.arange(width).double() - (width - 1) / 2
        y = (height - 1) / 2 - torch.arange(height).double()
        polar = torch.complex(*torch.meshgrid(x, y, indexing='xy'))
        z = (e * polar / polar.abs()).sum((1, 2)) / e.sum((1, 2))
    u = z / (z.abs() ** 2 + 1e-6).sqrt()
    t = (1j * model.u1.class_angles.angles.double()).exp()
    cosine = (u[:, None] * t.conj()).real
    if mode == 'cosine':
        each = 1 - cosine
    elif mode == 'mse':
        each = (u[:, None] - t).abs() ** 2
    else:
        bessel = torch.special.i0(torch.tensor(KAPPA).double())
        each = math.log(2 * math.pi * bessel) - KAPPA * cosine
    return (p.double() * each).sum(1)


def losses_and_map(model, inputs, data_samples) -> tuple:
    with MapCollector(model, [LAYER]) as collector:
        losses = model.loss(inputs, data_samples)
        return losses, collector.maps()[LAYER]


def one_hot(n: int = 4) -> torch.Tensor:
    return torch.eye(CLASSES)[torch.arange(n) % CLASSES]


def smoothed(p: torch.Tensor, mode: Optional[str]) -> torch.Tensor:
    """By hand, as the papers say."""
    if mode == 'original':
        return 0.9 * p + 0.1 / CLASSES
    if mode == 'classy_vision':
        return (p + 0.1 / CLASSES) / 1.1
    if mode == 'multi_label':
        return torch.where(p > 0, 0.9, 0.1)
    return p


def head_of(smoothing: Optional[str]) -> dict:
    if smoothing is None:
        return LINEAR
    loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode=smoothing)
    if smoothing == 'multi_label':
        loss['use_sigmoid'] = True
    return dict(LINEAR, loss=loss)


def switch(model: nn.Module, **recipe) -> None:
    """As MMPretrain's hook does in the midst of a training."""
    hook = SwitchRecipeHook([dict(action_epoch=2, **recipe)])
    runner = SimpleNamespace(model=model, epoch=1, logger=getLogger('switch'))
    hook.before_train_epoch(runner)


@pytest.mark.parametrize(
    'before, after', [('original', None), (None, 'original')]
)
def test_another_one_hot_loss_in_training_has_other_targets(before, after):
    model, expected = (build(u1_config(head_of(s))) for s in (before, after))
    model.loss(images(), samples())
    loss = head_of(after).get('loss', dict(type='CrossEntropyLoss'))
    switch(model, loss=loss)
    for name in ('loss', 'loss_u1'):
        losses = (m.loss(images(), samples())[name] for m in (model, expected))
        torch.testing.assert_close(*losses, rtol=0, atol=0)
    assert set(model.state_dict()) == set(expected.state_dict())


def test_mixing_that_begins_in_training_refuses_mirrored_moments():
    model = build(u1_config(neck=dict(plane='image', flip='follow')))
    notes = [s.set_metainfo(dict(flip=False)) or s for s in samples()]
    model.loss(images(), notes)
    augments = dict(augments=dict(type='Mixup', alpha=1.0))
    switch(model, batch_augments=augments)
    with pytest.raises(ValueError, match="augments mixes.*flip='ignore'"):
        model.loss(images(), notes)


def test_it_is_the_classifier():
    model, plain = build(u1_config()), build(plain_config())
    assert isinstance(model, ImageClassifier)
    losses, expected = (m.loss(images(), samples()) for m in (model, plain))
    assert torch.equal(losses['loss'], expected['loss'])
    assert set(losses) == {'loss', 'loss_u1'}
    total, logged = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['loss'] + losses['loss_u1'])
    assert {'loss', 'loss_u1'} <= set(logged)


@pytest.mark.parametrize('mixed', [None, 'Mixup', 'CutMix'])
@pytest.mark.parametrize(
    'smoothing', [None, 'original', 'classy_vision', 'multi_label']
)
@pytest.mark.parametrize('precision', ['float32', 'bfloat16'])
def test_targets_are_those_of_the_one_hot_loss(smoothing, mixed, precision):
    config = u1_config(head_of(smoothing), neck=dict(plane='joint'))
    if mixed:
        config.train_cfg = dict(augments=dict(type=mixed, alpha=1.0))
        config.data_preprocessor = dict(num_classes=CLASSES)
    model = build(config)
    np.random.seed(0)  # of the box and the share, which may be all or nothing
    data = dict(inputs=list(images() * 255), data_samples=samples())
    data = model.data_preprocessor(data, training=True)
    p = one_hot()
    if mixed:
        p = torch.stack([own.gt_score for own in data['data_samples']])
        assert ((p > 0).sum(1) > 1).any()
    with torch.autocast('cpu', torch.bfloat16, precision == 'bfloat16'):
        losses, a = losses_and_map(model, **data)
    assert a.dtype == getattr(torch, precision)
    planes = [
        reference(model, a, smoothed(p, smoothing), plane, 'cosine').mean()
        for plane in ('feature', 'image')
    ]
    found = losses['loss_u1']
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), 0.1 * sum(planes) / 2, atol=1e-6, rtol=1e-6
    )


@pytest.mark.parametrize('mode', ['cosine', 'von_mises', 'mse'])
@pytest.mark.parametrize('plane', ['feature', 'image'])
def test_soft_targets_are_exact_in_every_mode(mode, plane):
    loss = dict(mode=mode, kappa=KAPPA, loss_weight=1.0)
    model = build(u1_config(neck=dict(plane=plane), loss=loss))
    p = torch.rand(4, CLASSES, generator=torch.Generator().manual_seed(2))
    losses, a = losses_and_map(model, images(), soft_samples(p))
    torch.testing.assert_close(
        losses['loss_u1'].double(),
        reference(model, a, p, plane, mode).mean(),
        atol=1e-6,
        rtol=1e-6,
    )


@pytest.mark.parametrize('scores', [False, True])
def test_several_labels_an_image(scores):
    head = dict(LINEAR, type='MultiLabelLinearClsHead')
    model, plain = build(u1_config(head)), build(plain_config(head))
    own = [[1, 4], [], [7], [0, 2, 3]]
    p = torch.zeros(4, CLASSES)
    for image, labels in enumerate(own):
        p[image, labels] = 1
    data_samples = [DataSample().set_gt_label(labels) for labels in own]
    if scores:
        data_samples = soft_samples(p)
    losses, a = losses_and_map(model, images(), data_samples)
    expected = plain.loss(images(), data_samples)['loss']
    assert torch.equal(losses['loss'], expected)
    shares = p / p.sum(1, keepdim=True).clamp(min=1)
    each = reference(model, a, shares, 'feature', 'cosine')
    # The image without a label does not count in the divisor either.
    torch.testing.assert_close(
        losses['loss_u1'].double(), 0.1 * each.sum() / 3, atol=1e-6, rtol=1e-6
    )


@lru_cache
def of_mirrors(windings: tuple) -> nn.Module:
    """A network with kernels that are their own mirror images."""
    model = build(u1_config(neck=dict(plane='image', windings=windings)))
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            w = module.weight.data
            w = w + w.flip(-1) + w.flip(-2) + w.flip((-1, -2))
            module.weight.data = w / 4
    return model.double()


DIRECTIONS = {'horizontal': [-1], 'vertical': [-2], 'diagonal': [-1, -2]}


@pytest.mark.parametrize('windings', [(1,), (2,), (1, 2, 3)])
@pytest.mark.parametrize('direction', DIRECTIONS)
def test_mirrored_batches(direction, windings):
    inputs = images(size=33).double()  # odd, so that strides meet themselves
    inputs[0] = inputs[0].sort(dim=-1).values.sort(dim=-2).values
    turned = inputs.clone()
    flips = [True, False, True, True]
    mirrored = samples()
    for image, flip in enumerate(flips):
        if flip:
            turned[image] = turned[image].flip(DIRECTIONS[direction])
        meta = dict(flip=flip, flip_direction=direction if flip else None)
        mirrored[image].set_metainfo(meta)
    plain = samples()
    for own in plain:
        own.set_metainfo(dict(flip=False, flip_direction=None))

    def loss(flip, x, data_samples):
        model = of_mirrors(windings)
        model.u1.neck.flip = flip
        return model.loss(x, data_samples)['loss_u1']

    expected = loss('follow', inputs, plain)
    torch.testing.assert_close(loss('follow', turned, mirrored), expected)
    torch.testing.assert_close(loss('ignore', inputs, plain), expected)
    ignored = loss('ignore', turned, mirrored)
    if (direction, windings) != ('diagonal', (2,)):  # turned by 360 degrees
        assert (ignored - expected).abs() > 1e-4
    with pytest.raises(ValueError, match="flip='follow'.*meta_keys"):
        loss('follow', turned, samples())


@pytest.mark.parametrize(
    'duplicate',
    [
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: ExponentialMovingAverage(model).module,
    ],
)
def test_copies(duplicate):
    model = build(u1_config(neck=dict(plane='joint'))).train()
    state = copy.deepcopy(model.state_dict())
    model.loss(images(), samples())  # fills every cache
    model.load_state_dict(state)
    other = duplicate(model).requires_grad_()
    losses = [m.loss(images(), samples()) for m in (model, other)]
    assert torch.equal(losses[0]['loss_u1'], losses[1]['loss_u1'])
    sum(losses[1].values()).backward()
    model.eval(), other.eval()
    assert torch.equal(other(images()), model(images()))
