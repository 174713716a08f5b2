"""The criterion of a task may be another from step to step, and one's own."""

from functools import partial

import pytest
import timm
import timm_ranks
import torch
from timm import loss as timm_loss
from timm.task import LogitDistillationTask
from timm_ranks import batch, task_of
from torch import nn

from u1_plugin.timm import U1ClassificationTask, U1MultiLabelClassificationTask
from u1_plugin.timm.criterion_targets import TargetForm, form_of
from u1_plugin.timm.task import U1TaskMixin

CLASSES = timm_ranks.CLASSES


def loss_of(task) -> float:
    return task(*batch())['loss_u1'].item()


def test_another_criterion_and_another_smoothing_are_followed():
    smoothed = timm_loss.LabelSmoothingCrossEntropy(0.5)
    task = task_of('swin', nn.CrossEntropyLoss())
    plain = loss_of(task)
    task.criterion = smoothed
    other = loss_of(task)
    expected = loss_of(task_of('swin', smoothed))
    assert other == pytest.approx(expected) != pytest.approx(plain)
    smoothed.smoothing, smoothed.confidence = 0.0, 1.0
    assert loss_of(task) == pytest.approx(plain)
    task.criterion = nn.CrossEntropyLoss(ignore_index=7)
    with pytest.raises(ValueError, match='ignore_index=7 was -100'):
        loss_of(task)


class Odd(nn.Module):
    def smoothing(self):
        """A method of a usual name."""


def test_what_a_name_holds_counts_where_it_is_a_number():
    assert form_of(Odd()) == TargetForm()
    held = nn.Module()
    held.register_buffer('smoothing', torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match='smoothing=tensor.*not follow'):
        form_of(held)
    held.smoothing.zero_()
    assert form_of(held) == TargetForm()
    for value in ([0.2] * 10, (0.1,), 'some', object()):
        held = nn.Module()
        held.label_smoothing = value
        with pytest.raises(ValueError, match='label_smoothing=.*not follow'):
            form_of(held)
    held = nn.Module()
    held.register_buffer('ignore_index', torch.tensor(0))
    assert form_of(held).ignore_index == 0
    tensor = timm_loss.LabelSmoothingCrossEntropy(torch.tensor(0.1))
    assert form_of(tensor).smoothing == pytest.approx(0.1)
    smoothed = timm_loss.LabelSmoothingCrossEntropy(0.5)
    assert form_of(partial(smoothed)) == form_of(smoothed)


def test_labels_below_zero_are_told_as_they_were_given():
    model = timm.create_model('resnet10t', num_classes=CLASSES)
    task = U1MultiLabelClassificationTask(model, verbose=False)
    target = torch.zeros(2, CLASSES)
    target[:, 0] = 3
    target[1, 1] = -1
    with pytest.raises(ValueError, match='scores down to -1,'):
        task(torch.randn(2, 3, 64, 64), target)


def test_the_checkpoints_own_keys_are_named(messages):
    saved = task_of('swin', u1=dict(class_angles=dict(seed=1)))
    task = task_of('swin')
    messages.clear()
    task.load_task_state(saved.get_task_state())
    assert any("the key 'u1.class_angles.angles'" in text for text in messages)
    with pytest.raises(RuntimeError, match='u1.class_angles'):
        task.load_task_state({'u1.class_angles.other': torch.zeros(1)})


def test_distillation_has_the_branch_as_well():
    class Distilled(U1TaskMixin, LogitDistillationTask):
        pass

    networks = [
        timm.create_model('resnet10t', num_classes=CLASSES) for _ in range(2)
    ]
    task = Distilled(networks[0], teacher_model=networks[1], verbose=False)
    images = torch.randn(4, 3, 64, 64)
    result = task(images, torch.arange(4))
    total = result['loss_one_hot'] + result['loss_u1']
    torch.testing.assert_close(result['loss'], total)


def test_a_loss_that_is_called_otherwise_is_refused():
    model = timm.create_model('resnet10t', num_classes=CLASSES)
    words = r'u1.loss=CrossEntropyLoss\(\) does not take \(moment, pull, pixel'
    with pytest.raises(ValueError, match=words):
        U1ClassificationTask(
            model, u1=dict(loss=nn.CrossEntropyLoss()), verbose=False
        )
