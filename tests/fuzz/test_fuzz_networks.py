"""Classifiers of MMPretrain and tasks of timm with a U(1) branch."""

import timm
import torch
from hypothesis import strategies as st
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from oracle import REFUSED, attempt, fuzz
from strategies import (
    NON_NEGATIVE,
    SEED,
    SHARE,
    choice,
    close,
    number,
    of_one_layer,
    options,
    smooth,
)

import u1_plugin.lab  # noqa: F401  (registers its components)
from u1_plugin.geometry import ORTHANT_MAPS

try:
    from u1_plugin.timm import U1ClassificationTask
except ImportError:  # timm's tasks need Python 3.10
    U1ClassificationTask = None

ORTHANT = choice(*ORTHANT_MAPS)
BACKBONE = dict(
    type='ResNet_CIFAR',
    depth=18,
    base_channels=4,
    stem_channels=4,
    num_stages=1,
    strides=(2,),
    dilations=(1,),
    out_indices=(0,),
)
PLAIN = dict(
    backbone=BACKBONE,
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=4),
)
PARTS = dict(
    neck=options(
        dict(
            plane=choice('feature', 'image', 'joint'),
            orthant=ORTHANT,
            layer_weights=of_one_layer(NON_NEGATIVE),
        )
    ),
    class_angles=options(dict(mode=choice('random', 'uniform'), seed=SEED)),
    loss=options(
        dict(
            loss_weight=number(0, 50, limit=1e30),
            kappa=number(0, 50, open_low=True, limit=1e30),
        )
    ),
)


@st.composite
def branches(draw: st.DrawFn):
    parts = draw(st.lists(st.sampled_from(sorted(PARTS)), unique=True))
    chosen, wrong = {}, {}
    for name in parts:
        chosen[name], own = draw(PARTS[name])
        wrong.update(own)
    if draw(st.integers(0, 5)) == 0:
        chosen['losses'] = wrong['losses'] = {}
    return chosen, wrong


#: Of three classes, as a rule.
LABELS = st.lists(
    st.sampled_from([0, 1, 2] * 4 + [-1, 3]), min_size=2, max_size=2
)


def build(config: dict) -> torch.nn.Module:
    return MODELS.get(config['type'])(
        **{name: value for name, value in config.items() if name != 'type'}
    )


@fuzz(
    'mm.U1ImageClassifier',
    share=0.5,
    case=branches(),
    images=smooth(2, 3, 8, 8),
    labels=LABELS,
)
def test_classifier(case, images, labels):
    given, wrong = case
    model = attempt(
        lambda: build(dict(PLAIN, type='U1ImageClassifier', u1=given)), wrong
    )
    if model is REFUSED:
        return
    right = all(0 <= label < 3 for label in labels)
    samples = [DataSample().set_gt_label(label) for label in labels]
    with torch.no_grad():
        losses = attempt(
            lambda: model.loss(images, samples),
            {} if right else dict(labels=labels, num_classes=labels),
        )
        if losses is not REFUSED:
            assert losses['loss_u1'].isfinite()
            plain = build(dict(PLAIN, type='ImageClassifier')).train()
            plain.load_state_dict(model.state_dict(), strict=False)
            wanted = plain.loss(images, samples)['loss']
            assert close(losses['loss'], wanted)


@fuzz(
    'mm.U1TimmClassifier, timm.U1ClassificationTask',
    share=0.2,
    case=branches(),
    images=smooth(2, 3, 48, 48),
    labels=LABELS,
    task=st.booleans() if U1ClassificationTask else st.just(False),
)
def test_timm(case, images, labels, task):
    given, wrong = case
    name, right = 'test_resnet', all(0 <= label < 3 for label in labels)
    no_labels = {} if right else dict(labels=labels, num_classes=labels)
    if task:
        network = timm.create_model(name, num_classes=3)
        made = attempt(lambda: U1ClassificationTask(network, u1=given), wrong)
        if made is not REFUSED and right:
            found = attempt(lambda: made(images, torch.tensor(labels)))
            parts = found['loss_one_hot'] + found['loss_u1']
            assert close(found['loss'].detach(), parts.detach(), 1e-6)
        return
    config = dict(type='U1TimmClassifier', model_name=name, num_classes=3)
    model = attempt(lambda: build(dict(config, u1=given)), wrong)
    if model is not REFUSED:
        samples = [DataSample().set_gt_label(label) for label in labels]
        losses = attempt(lambda: model.loss(images, samples), no_labels)
        assert losses is REFUSED or losses['loss_u1'].isfinite()


@fuzz(
    'lab.AuxiliaryImageClassifier',
    share=0.5,
    case=options(dict(loss_weight=NON_NEGATIVE, rate=SHARE)),
    images=smooth(2, 3, 8, 8),
)
def test_auxiliary(case, images):
    given, wrong = case
    config = dict(PLAIN, type='AuxiliaryImageClassifier')
    model = attempt(
        lambda: build(dict(config, auxiliary=dict(type='CenterLoss', **given))),
        wrong,
    )
    if model is not REFUSED:
        samples = [DataSample().set_gt_label(label) for label in (0, 2)]
        assert model.loss(images, samples)['loss_aux'].isfinite()
