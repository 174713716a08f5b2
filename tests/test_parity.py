"""The U(1) model is the plain model wherever nothing is measured."""

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

HEADS = [
    dict(type='LinearClsHead', num_classes=CLASSES, in_channels=CHANNELS),
    dict(
        type='mmpretrain.LinearClsHead',
        num_classes=CLASSES,
        in_channels=CHANNELS,
    ),
    dict(
        type='StackedLinearClsHead',
        num_classes=CLASSES,
        in_channels=CHANNELS,
        mid_channels=[32],
    ),
    dict(type='ArcFaceClsHead', num_classes=CLASSES, in_channels=CHANNELS),
]
PLANES = [
    dict(),
    dict(basis='random'),
    dict(basis='learned', center='running'),
]


def twins(head=None, feature_plane=None, **u1_head) -> tuple:
    neck = dict(in_channels=CHANNELS, feature_plane=feature_plane or {})
    u1 = u1_config(head, neck, u1_head)
    return build(plain_config(head)), build(u1)


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
def test_initial_weights_are_those_of_the_plain_twin(plane):
    plain, u1 = twins(None, plane)
    for name, value in plain.state_dict().items():
        assert torch.equal(u1.state_dict()[name], value), name


def test_lambda_zero_trains_like_the_plain_twin():
    plain, u1 = twins(loss_u1=dict(loss_weight=0.0))
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


def test_the_head_answers_in_training_mode_too():
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


def test_compiled_training_losses_equal_eager_ones():
    _, u1 = twins()
    eager = u1.loss(images(), samples())
    _, u1 = twins()
    compiled = torch.compile(u1.loss, backend='aot_eager')(images(), samples())
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value)
