"""Every head and neck trains beside the branch as it trains without it."""

import numpy as np
import pytest
import torch
from helpers import images
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor
from twins import build_untrained, check_same_network, one_hot_loss

CLASSES = 10
RESNET = dict(type='ResNet', depth=18, base_channels=8, stem_channels=8)
SMALL_VIT = dict(
    arch=dict(
        embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48
    ),
    img_size=32,
    patch_size=8,
)
GAP = dict(type='GlobalAveragePooling')
LINEAR = dict(type='LinearClsHead', num_classes=CLASSES, in_channels=64)


def model(neck=GAP, head=LINEAR, **backbone) -> dict:
    return dict(
        type='ImageClassifier',
        backbone=RESNET | backbone,
        neck=neck,
        head=dict(dict(num_classes=CLASSES, in_channels=64), **head),
    )


def smoothed(mode: str) -> dict:
    loss = dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode=mode)
    if mode != 'multi_label':
        loss['num_classes'] = CLASSES
    return model(head=dict(LINEAR, loss=loss))


NECKS = {
    'LinearNeck': model(
        neck=dict(
            type='LinearNeck', in_channels=64, out_channels=32, gap_dim=2
        ),
        head=dict(LINEAR, in_channels=32),
    ),
    'ClsBatchNormNeck': model(
        neck=[GAP, dict(type='ClsBatchNormNeck', input_features=64)]
    ),
    'HRFuseScales': model(
        neck=[dict(type='HRFuseScales', in_channels=(8, 16, 32, 64)), GAP],
        head=dict(LINEAR, in_channels=2048),
        out_indices=(0, 1, 2, 3),
    ),
    'GeneralizedMeanPooling': model(neck=dict(type='GeneralizedMeanPooling')),
}
SINGLE = {
    'ArcFace': model(head=dict(type='ArcFaceClsHead')),
    'ArcFace of subcenters': model(
        head=dict(type='ArcFaceClsHead', num_subcenters=3)
    ),
    'StackedLinear': model(
        head=dict(
            type='StackedLinearClsHead', mid_channels=[32], dropout_rate=0.5
        )
    ),
    'EfficientFormer': model(
        head=dict(type='EfficientFormerClsHead', distillation=False)
    ),
    'LeViT': model(head=dict(type='LeViTClsHead', distillation=False)),
    'Vig': model(head=dict(type='VigClsHead', hidden_dim=32)),
    'VisionTransformer': dict(
        type='ImageClassifier',
        backbone=dict(type='VisionTransformer', **SMALL_VIT),
        head=dict(
            type='VisionTransformerClsHead',
            num_classes=CLASSES,
            in_channels=24,
            hidden_dim=16,
        ),
    ),
    'DeiT': dict(
        type='ImageClassifier',
        backbone=dict(type='DistilledVisionTransformer', **SMALL_VIT),
        head=dict(type='DeiTClsHead', num_classes=CLASSES, in_channels=24),
    ),
    'Conformer': dict(
        type='ImageClassifier',
        backbone=dict(
            type='Conformer',
            arch=dict(embed_dims=24, channel_ratio=1, num_heads=2, depths=6),
            drop_path_rate=0.1,
        ),
        head=dict(
            type='ConformerHead', num_classes=CLASSES, in_channels=[256, 24]
        ),
    ),
    'original smoothing': smoothed('original'),
    'classy vision smoothing': smoothed('classy_vision'),
    'multi label smoothing': smoothed('multi_label'),
}
SEVERAL = {
    'MultiLabelLinear': model(head=dict(type='MultiLabelLinearClsHead')),
    'CSRA': model(
        neck=None, head=dict(type='CSRAClsHead', num_heads=2, lam=0.1)
    ),
    # Without a layer of its own: the neck gives the logits.
    'MultiLabelCls': dict(
        model(
            neck=dict(
                type='LinearNeck',
                in_channels=64,
                out_channels=CLASSES,
                gap_dim=2,
            )
        ),
        head=dict(type='MultiLabelClsHead'),
    ),
}


def samples_of(labels: list) -> list:
    return [DataSample().set_gt_label(label) for label in labels]


def multi_hot(labels: list) -> Tensor:
    """``(B, K)``, 1 where an image has the class."""
    scores = torch.zeros(len(labels), CLASSES)
    for row, own in zip(scores, labels):
        row[own] = 1
    return scores


def twins(config: dict, **u1) -> tuple:
    """The stock classifier and its twin with the same weights, training."""
    stock = build_untrained(config, seed=0)
    stock.init_weights()
    twin = dict(config, type='U1ImageClassifier', u1=u1)
    branch = build_untrained(twin, seed=1)
    check_same_network(stock, branch, images(2, 64))
    assert branch.u1.class_angles.num_classes == CLASSES
    return stock.train(), branch.train()


def loss_of(classifier, samples: list) -> dict:
    torch.manual_seed(3)
    return classifier.loss(images(len(samples), 64), samples)


def check_same_step(stock, branch, samples: list) -> None:
    """Equal one-hot losses and gradients, and the branch's reach the start."""
    wanted, found = loss_of(stock, samples), loss_of(branch, samples)
    assert set(found) - set(wanted) == {'loss_u1'}
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    one_hot_loss(wanted).backward()
    one_hot_loss(found).backward(retain_graph=True)
    named = dict(branch.named_parameters())
    for name, parameter in stock.named_parameters():
        mine = named[name].grad
        if parameter.grad is None:
            assert mine is None
        else:
            assert torch.equal(mine, parameter.grad), name
    branch.zero_grad()
    found['loss_u1'].backward()
    first = next(p for p in branch.backbone.parameters() if p.ndim == 4)
    assert first.grad.isfinite().all() and (first.grad != 0).any()


@pytest.mark.parametrize('name', [*NECKS, *SINGLE])
def test_one_label_an_image(name):
    config = (NECKS | SINGLE)[name]
    check_same_step(*twins(config), samples_of([3, 0, 9, 5]))


@pytest.mark.parametrize('name', SEVERAL)
@pytest.mark.parametrize('form', ['labels', 'scores'])
def test_several_labels_an_image(name, form):
    labels = [[0, 2], [1], [], [3, 4, 0]]
    samples = samples_of(labels)
    if form == 'scores':
        samples = [DataSample().set_gt_score(row) for row in multi_hot(labels)]
    check_same_step(*twins(SEVERAL[name]), samples)


@pytest.mark.parametrize('form', ['labels', 'scores'])
def test_the_target_is_the_mean_of_an_images_class_points(form):
    labels = [[0, 2], [1], [], [3, 4, 0]]
    samples = samples_of(labels)
    if form == 'scores':
        samples = [DataSample().set_gt_score(row) for row in multi_hot(labels)]
    _, branch = twins(SEVERAL['MultiLabelLinear'], loss=dict(loss_weight=1.0))
    found = loss_of(branch, samples)['loss_u1']
    with torch.no_grad(), branch.u1.reading():
        branch.extract_feat(images(4, 64))
        moments = branch.u1.moments()[0].value.double()
    unit = moments / (moments.square().sum(1, keepdim=True) + 1e-6).sqrt()
    points = branch.u1.class_angles().double()
    each = [
        1 - (unit[i] * points[own].mean(0)).sum()
        for i, own in enumerate(labels)
        if own
    ]
    # An image without a label counts nothing, not even in the mean.
    expected = sum(each) / 3
    assert torch.isclose(found.double(), expected, atol=1e-6)


@pytest.mark.parametrize('mode', ['original', 'classy_vision', 'multi_label'])
def test_smoothed_targets_are_those_of_the_one_hot_loss(mode):
    _, branch = twins(smoothed(mode))
    labels = torch.tensor([3, 0, 9, 5])
    found = loss_of(branch, samples_of(labels.tolist()))['loss_u1']
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    scores = branch.head.loss_module.smooth_label(one_hot)
    assert not torch.equal(scores, one_hot)
    with torch.no_grad(), branch.u1.reading():
        branch.extract_feat(images(4, 64))
        expected = branch.u1(scores)['loss_u1']
    assert torch.isclose(found, expected, atol=1e-6)


def mixed(batch: dict, classifier) -> dict:
    """A batch mixed by the classifier's own preprocessor, the same anew."""
    torch.manual_seed(5)
    np.random.seed(5)
    return classifier.data_preprocessor(batch, training=True)


@pytest.mark.parametrize(
    'augment, soft',
    [
        (dict(type='Mixup', alpha=0.8), dict(type='CrossEntropyLoss')),
        (
            dict(type='CutMix', alpha=1.0),
            dict(
                type='LabelSmoothLoss',
                label_smooth_val=0.1,
                num_classes=CLASSES,
                mode='original',
            ),
        ),
    ],
)
def test_mixed_images(augment, soft):
    if soft['type'] == 'CrossEntropyLoss':
        soft['use_soft'] = True
    config = dict(
        model(head=dict(LINEAR, loss=soft)),
        train_cfg=dict(augments=[augment]),
        data_preprocessor=dict(num_classes=CLASSES),
    )
    stock, branch = twins(config)
    inputs = list(images(4, 64))
    batches = [
        mixed(
            dict(inputs=inputs, data_samples=samples_of([3, 0, 9, 5])),
            classifier,
        )
        for classifier in (stock, branch)
    ]
    samples = [batch['data_samples'] for batch in batches]
    assert all(torch.equal(a.gt_score, b.gt_score) for a, b in zip(*samples))
    assert any(0 < a.gt_score.max() < 1 for a in samples[0])
    check_same_step(stock, branch, samples[0])


@pytest.mark.parametrize('name', ['ArcFace', 'StackedLinear'])
def test_weights_after_steps_without_weight_of_the_branch(name):
    """With lambda = 0 an optimiser's steps are the stock classifier's."""
    trained = []
    for classifier in twins(SINGLE[name], loss=dict(loss_weight=0.0)):
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
        wrapper = OptimWrapper(optimizer)
        for step in range(3):
            torch.manual_seed(step)
            samples = samples_of([3, 0, 9, 5])
            batch = dict(inputs=images(4, 64, step), data_samples=samples)
            classifier.train_step(batch, wrapper)
        trained.append(dict(classifier.named_parameters()))
    stock, branch = trained
    assert set(stock) == set(branch)
    assert all(torch.equal(stock[key], branch[key]) for key in stock)


def test_a_head_of_several_tasks_is_refused():
    head = dict(
        type='MultiTaskHead',
        task_heads=dict(
            digit=dict(type='LinearClsHead', num_classes=10),
            parity=dict(type='LinearClsHead', num_classes=2),
        ),
        in_channels=64,
    )
    config = dict(model(), head=head)
    MODELS.build(dict(config))
    with pytest.raises(ValueError, match='MultiTaskHead has several tasks'):
        MODELS.build(dict(config, type='U1ImageClassifier'))
