"""The U(1) model is the plain model wherever nothing is measured."""

import copy
import logging
import random

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
    u1_config,
)
from mmengine.analysis import get_model_complexity_info
from mmengine.config import ConfigDict
from mmengine.runner import load_checkpoint
from mmpretrain.registry import MODELS
from torch import nn

OPTIONS = dict(num_classes=CLASSES, in_channels=CHANNELS)
LINEAR = dict(type='LinearClsHead', **OPTIONS)
HEADS = [
    LINEAR,
    dict(LINEAR, type='mmpretrain.LinearClsHead'),
    dict(type='StackedLinearClsHead', mid_channels=[32], **OPTIONS),
    dict(type='ArcFaceClsHead', **OPTIONS),
]
PLANES = [
    dict(),
    dict(basis='random'),
    dict(basis='learned', center='running'),
]
STATE = {
    'u1.class_angles.angles',
    'u1.neck.feature_planes.0.rows',
    'u1.neck.feature_planes.0.running_mean',
    'u1.neck.feature_planes.0.num_batches_tracked',
}


def twins(head=None, feature_plane=None, **u1) -> tuple:
    neck = dict(feature_plane=feature_plane) if feature_plane else None
    twin = u1_config(head, neck, **u1)
    return build(plain_config(head)), build(twin)


@pytest.fixture
def log():
    """What the branch logs, a line each."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(f'{record.levelname}: {record.getMessage()}')

    handler, logger = Handler(), logging.getLogger('u1_plugin')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize('head', HEADS, ids=lambda head: head['type'])
def test_logits_are_bit_identical(head):
    plain, u1 = twins(head)
    plain.eval(), u1.eval()
    assert torch.equal(u1(images()), plain(images()))
    for a, b in zip(u1.predict(images()), plain.predict(images())):
        assert torch.equal(a.pred_score, b.pred_score)
        assert torch.equal(a.pred_label, b.pred_label)
    pre_logits = [
        model.extract_feat(images(), stage='pre_logits')
        for model in (u1, plain)
    ]
    assert torch.equal(*pre_logits)


@pytest.mark.parametrize('plane', PLANES, ids=str)
def test_building_changes_nothing_but_adds_the_branch(plane):
    models, states = [], []
    for config in (
        plain_config(),
        u1_config(neck=dict(feature_plane=plane)),
    ):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        models.append(MODELS.build(ConfigDict(config)))
        states.append(
            (torch.get_rng_state(), np.random.get_state(), random.getstate())
        )
    assert torch.equal(states[0][0], states[1][0])
    assert (states[0][1][1] == states[1][1][1]).all()
    assert states[0][2] == states[1][2]
    plain, u1 = models
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value), name
    training = {name: module.training for name, module in u1.named_modules()}
    for name, module in plain.named_modules():
        assert module.training == training[name], name
    assert all(training.values())


@pytest.mark.parametrize('plane', PLANES, ids=str)
def test_initial_weights_are_those_of_the_plain_twin(plane):
    plain, u1 = twins(None, plane)
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value), name


@pytest.mark.parametrize('plane', PLANES, ids=str)
def test_checkpoints_go_both_ways(tmp_path, plane, log):
    plain, u1 = twins(None, plane)
    own = copy.deepcopy(u1.u1.state_dict())
    other = build(plain_config(), seed=2).state_dict()
    u1.load_state_dict(other, strict=True)
    for name, value in {**other, **own}.items():
        name = f'u1.{name}' if name in own else name
        assert torch.equal(u1.state_dict()[name], value)

    extra = set(u1.state_dict()) - set(plain.state_dict())
    assert 'u1.class_angles.angles' in extra and extra <= STATE
    file = str(tmp_path / 'u1.pth')
    torch.save(dict(state_dict=u1.state_dict()), file)
    load_checkpoint(plain, file)
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value)
    u1.load_state_dict(torch.load(file)['state_dict'], strict=True)
    assert not [line for line in log if line.startswith('WARNING')]


def test_other_class_angles_in_a_checkpoint_win_and_are_named(log):
    saved = build(u1_config(class_angles=dict(seed=5)))
    model = build(u1_config())
    model.load_state_dict(saved.state_dict(), strict=True)
    assert torch.equal(
        model.u1.class_angles.angles, saved.u1.class_angles.angles
    )
    (line,) = [line for line in log if line.startswith('WARNING')]
    for words in ("mode='random'", 'checkpoint wins', 'u1.class_angles.angles'):
        assert words in line


def test_angles_of_other_classes_in_a_checkpoint_are_left_alone(tmp_path, log):
    file = str(tmp_path / 'u1.pth')
    saved = build(u1_config(dict(LINEAR, num_classes=7)))
    torch.save(dict(state_dict=saved.state_dict()), file)
    model = build(u1_config())
    before = model.u1.class_angles.angles.clone()
    load_checkpoint(model, file)
    assert torch.equal(model.u1.class_angles.angles, before)
    stem = saved.backbone.conv1.weight
    assert torch.equal(model.backbone.conv1.weight, stem)
    (line,) = [line for line in log if line.startswith('WARNING')]
    for words in ('(7,)', '(10,)', 'leaves this model its own'):
        assert words in line


def test_the_log_says_what_was_chosen(log):
    build(u1_config())
    (line,) = log
    for words in ('automatically chosen', 'backbone', 'NCHW', '10 class'):
        assert words in line


def test_lambda_zero_trains_like_the_plain_twin():
    plain, u1 = twins(loss=dict(loss_weight=0.0))
    for model in (plain, u1):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for seed in range(3):
            optimizer.zero_grad()
            losses = model.loss(images(seed=seed), samples())
            model.parse_losses(losses)[0].backward()
            optimizer.step()
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value), name


def test_parameters_and_flops_are_equal():
    counts = []
    for model in twins():
        parameters = sum(p.numel() for p in model.parameters())
        model.eval()
        model.forward = model.extract_feat  # as MMPretrain's get_flops does
        info = get_model_complexity_info(model, (3, 32, 32), show_table=False)
        counts.append((parameters, info['flops'], info['params']))
    assert counts[0] == counts[1]
    assert counts[0][1] > 0


def test_the_model_answers_in_training_mode_too():
    _, u1 = twins()
    u1.train()
    assert u1(images()).shape == (4, CLASSES)
    assert u1.extract_feat(images(), stage='pre_logits').shape == (4, CHANNELS)


def test_export_and_compile_give_the_plain_outputs():
    plain, u1 = (model.eval() for model in twins())
    expected = plain(images())
    exported = torch.export.export(u1, (images(),)).module()
    torch.testing.assert_close(exported(images()), expected)
    compiled = torch.compile(u1, backend='aot_eager')
    torch.testing.assert_close(compiled(images()), expected)


@pytest.mark.parametrize('plane', ['feature', 'joint'])
def test_compiled_training_equals_eager_training(plane):
    found = []
    for backend in ('eager', 'aot_eager'):
        model = build(u1_config(neck=dict(plane=plane)))
        compiled = torch.compile(model.loss, backend=backend)
        loss = model.loss if backend == 'eager' else compiled
        losses = loss(images(), samples())
        model.parse_losses(losses)[0].backward()
        gradient = model.backbone.conv1.weight.grad
        found.append(dict(losses, gradient=gradient))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


def test_sync_batch_norm_in_place_of_the_layer_is_read():
    config = u1_config(neck=dict(layers='backbone.layer3.1.bn2'))
    model, expected = build(config), build(config).train()
    old = model.backbone.layer3[1].bn2
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model.train()
    assert isinstance(model.backbone.layer3[1].bn2, nn.SyncBatchNorm)
    assert len(model.backbone.layer3[1].bn2._forward_hooks) == 1
    assert not old._forward_hooks
    losses = [m.loss(images(), samples()) for m in (model, expected)]
    assert torch.equal(losses[0]['loss_u1'], losses[1]['loss_u1'])


def test_half_precision_models_keep_their_planes():
    model = build(u1_config(neck=dict(plane='joint')))
    maps = [torch.rand(2, CHANNELS, 4, 4)]
    before = model.u1.neck(maps)
    for a, b in zip(model.half().u1.neck(maps), before):
        assert torch.equal(a.value, b.value)
