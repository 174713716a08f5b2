"""The U(1) target is made of the shares that timm's criterion compares."""

from functools import partial

import pytest
import timm_ranks
import torch
from mmpretrain.structures import DataSample
from timm import loss as timm_loss
from timm.data import Mixup
from timm_ranks import batch, gradients, network, scores_of, task_of
from torch import nn

from u1_plugin.mm.sample_targets import targets_of
from u1_plugin.nn import U1Branch
from u1_plugin.timm import U1MultiLabelClassificationTask
from u1_plugin.timm.criterion_targets import (
    TargetForm,
    form_of,
    several_of,
    target_of,
)

CLASSES = timm_ranks.CLASSES
LABELS = torch.tensor([1, 4, 9])
EYE = torch.eye(CLASSES)[LABELS]


@pytest.mark.parametrize(
    'criterion',
    [
        nn.CrossEntropyLoss(label_smoothing=0.2),
        timm_loss.LabelSmoothingCrossEntropy(0.2),
        timm_loss.BinaryCrossEntropy(0.2),
        timm_loss.PolyCrossEntropy(smoothing=0.2),
        timm_loss.AsymmetricLossSingleLabel(eps=0.2),
        timm_loss.JsdCrossEntropy(smoothing=0.2),
    ],
    ids=lambda criterion: type(criterion).__name__,
)
def test_smoothing_is_the_criterions(criterion):
    """``sum_c p_c loss_c`` of the shares that timm's Mixup smooths into."""
    smooth = torch.full_like(EYE, 0.02) + 0.8 * EYE
    target = target_of(LABELS, form_of(criterion), CLASSES)
    assert loss_of(target) == pytest.approx(loss_of(smooth))
    assert loss_of(target) != pytest.approx(loss_of(LABELS), rel=1e-3)


def loss_of(target) -> float:
    """The loss of three fixed maps against a target."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1))
    branch = U1Branch(model, CLASSES, loss=dict(loss_weight=1.0)).train()
    torch.manual_seed(0)
    model[0].reset_parameters()
    with branch.reading():
        model(torch.rand(3, 3, 8, 8))
    return branch(target)['loss_u1'].item()


def test_scores_are_taken_as_the_criterion_takes_them():
    scores = scores_of(LABELS)
    for criterion, wanted in (
        (timm_loss.SoftTargetCrossEntropy(), scores),
        (timm_loss.BinaryCrossEntropy(0.2), scores),
        (nn.CrossEntropyLoss(label_smoothing=0.2), 0.8 * scores + 0.02),
        (
            timm_loss.BinaryCrossEntropy(0.0, target_threshold=0.2),
            (EYE + EYE.flip(0)).clamp(max=1) / torch.tensor([[2], [1], [2]]),
        ),
        (timm_loss.BinaryCrossEntropy(0.0, target_threshold=0.5), EYE),
    ):
        target = target_of(scores, form_of(criterion), CLASSES)
        assert loss_of(target) == pytest.approx(loss_of(wanted))


@pytest.mark.parametrize('smoothing', [0.0, 0.1, 0.3])
@pytest.mark.parametrize('smooth_dense', [False, True])
@pytest.mark.parametrize('threshold', [0.01, 0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize('multi_label', [False, True])
def test_what_the_criterion_binarises(
    smoothing, smooth_dense, threshold, multi_label
):
    """The classes whose binary target is 1, as the criterion's value says."""
    criterion = timm_loss.BinaryCrossEntropy(
        smoothing, threshold, reduction='none', smooth_dense=smooth_dense
    )
    form = form_of(criterion, multi_label)
    # With logits of 1, the loss is lower where the target is 1.
    logits = torch.ones(3, CLASSES)
    scores = scores_of(LABELS)
    for given in (scores,) if multi_label else (LABELS, scores):
        hot = (criterion(logits, given) < 1).float()
        assert hot.unique().tolist() in ([0], [1], [0, 1])
        wanted = hot / hot.sum(1, keepdim=True).clamp(min=1)
        if multi_label:
            target = several_of(given, form)
        else:
            target = target_of(given, form, CLASSES)
        assert loss_of(target) == pytest.approx(loss_of(wanted), abs=1e-6)


def test_a_binarised_hard_label_stays_a_label():
    form = form_of(timm_loss.BinaryCrossEntropy(0.1, target_threshold=0.2))
    target = target_of(LABELS, form, CLASSES)
    assert target.values is LABELS and target.smoothing == (1.0, 0.0)


def test_smoothing_of_scores_towards_a_half_is_no_share():
    criterion = timm_loss.BinaryCrossEntropy(0.1, smooth_dense=True)
    with pytest.raises(ValueError, match='BinaryCrossEntropy.*smoothing=0.1'):
        form_of(criterion)


def test_mixup_of_timm_trains():
    mix = Mixup(0.8, 1.0, num_classes=CLASSES, label_smoothing=0.1)
    images, labels = mix(*batch())
    assert labels.shape == (timm_ranks.BATCH, CLASSES)
    task = task_of('resnet', criterion_kwargs=dict(soft_targets=True))
    result = task(images, labels)
    result['loss_u1'].backward()
    grads = gradients(task.trainable_module)
    assert all(grad.isfinite().all() for grad in grads)
    assert any((grad != 0).any() for grad in grads)


def test_an_ignored_label_counts_nothing():
    images, labels = batch()
    criterion = nn.CrossEntropyLoss(ignore_index=7)
    task = task_of('swin', criterion)
    whole = task(images, labels)['loss_u1']
    keep = labels != 7
    assert not keep.all()
    part = task(images[keep], labels[keep])['loss_u1']
    torch.testing.assert_close(whole, part)


class Wrapped(nn.Module):
    """A criterion of one's own around another."""

    def __init__(self, inner=None, **settings) -> None:
        super().__init__()
        self.inner = inner
        vars(self).update(settings)


def test_functions_with_options_are_taken_as_their_modules():
    for options in (dict(label_smoothing=0.5), dict(ignore_index=2)):
        expected = form_of(nn.CrossEntropyLoss(**options))
        form = form_of(partial(nn.functional.cross_entropy, **options))
        ignored = form.ignore_index, expected.ignore_index
        assert ignored[0] == ignored[1] or ignored == (None, -100)
        assert form._replace(ignore_index=None) == expected._replace(
            ignore_index=None
        )


def test_what_a_criterion_of_ones_own_tells_is_followed():
    assert form_of(Wrapped()) == TargetForm()
    assert form_of(Wrapped(ignore_index=255)).ignore_index == 255
    inner = nn.CrossEntropyLoss(ignore_index=3)
    assert form_of(Wrapped(inner)).ignore_index == 3
    smoothed = nn.CrossEntropyLoss(label_smoothing=0.5)
    for wrong in (Wrapped(smoothed), partial(nn.MSELoss(), smoothing=0.1)):
        with pytest.raises(ValueError, match='smoothing=0..*could not follow'):
            form_of(wrong)


def test_several_labels_an_image_pull_to_the_mean_of_their_points():
    hot = torch.zeros(3, CLASSES)
    hot[0, [1, 3]] = 1
    hot[1, 4] = 1
    wanted = torch.zeros(3, CLASSES)
    wanted[0, [1, 3]] = 0.5
    wanted[1, 4] = 1
    form = form_of(timm_loss.BinaryCrossEntropy(0.1, smooth_dense=True), True)
    values = several_of(hot, form).values
    torch.testing.assert_close(values, wanted)
    threshold = form_of(timm_loss.ZlprLoss(), True)
    values = several_of(0.4 * hot + 0.2, threshold).values
    torch.testing.assert_close(values, wanted)
    images, _ = batch()
    task = U1MultiLabelClassificationTask(
        network('swin'), u1=timm_ranks.JOINT
    ).train()
    result = task(images[:3], hot)
    # The image without a label counts nothing.
    two = task(images[:2], hot[:2])
    torch.testing.assert_close(result['loss_u1'], two['loss_u1'])
    result['loss_u1'].backward()
    assert any((g != 0).any() for g in gradients(task.trainable_module))
    assert task.create_evaluator() is not None


def test_soft_scores_of_several_labels_are_those_of_mmpretrains_branch():
    scores = torch.zeros(4, CLASSES)
    scores[0, [1, 3]] = torch.tensor([0.7, 0.3])  # Mixup
    scores[1] = 0.05
    scores[1, 2] = 0.95  # smoothed
    scores[2, [0, 4, 5]] = torch.tensor([1.0, 1.0, 0.6])
    task = U1MultiLabelClassificationTask(
        network('swin'), u1=timm_ranks.JOINT
    ).train()
    images = batch()[0][:4]
    found = task(images, scores)['loss_u1']
    assert found > 0
    samples = [DataSample().set_gt_score(row) for row in scores]
    with task.u1.reading():
        task.trainable_module(images)
    expected = task.u1(targets_of(samples, several=True))['loss_u1']
    assert torch.equal(found, expected)
    shares = scores / scores.sum(1, keepdim=True).clamp(min=1e-6)
    values = several_of(scores, form_of(task.criterion, True)).values
    torch.testing.assert_close(values, shares)


@pytest.mark.parametrize(
    'make, words',
    [
        (lambda y: y.index_fill(0, torch.tensor(0), -1), 'labels -1..'),
        (lambda y: y + CLASSES, f'allows 0..{CLASSES - 1}'),
        (lambda y: y.float(), 'torch.float32'),
        (lambda y: y > 0, 'torch.bool'),
        (lambda y: y[:-1], 'give one target an image'),
        (lambda y: y[:1], 'give one target an image'),
        (lambda y: torch.rand(len(y), CLASSES - 1), f'{CLASSES - 1} classes'),
        (lambda y: torch.full((len(y), CLASSES), torch.nan), 'not finite'),
        (lambda y: torch.full((len(y), CLASSES), -0.1), 'negative'),
        (lambda y: torch.zeros(len(y), CLASSES, 1), r'\(B, K\)'),
    ],
)
def test_targets_that_do_not_fit_are_named(make, words):
    task, (images, labels) = task_of('resnet'), batch()
    task(images, labels)  # in every step, not the first alone
    with pytest.raises(ValueError, match=words):
        task(images, make(labels))


@pytest.mark.parametrize('bad', [torch.nan, torch.inf])
def test_binarised_scores_must_be_finite(bad):
    form = form_of(timm_loss.ZlprLoss(), True)
    scores = torch.eye(3, CLASSES)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match='not finite'):
        several_of(scores, form).check(CLASSES, 3)
    with pytest.raises(ValueError, match=r'\(B, K\)'):
        several_of(scores[0], form)
