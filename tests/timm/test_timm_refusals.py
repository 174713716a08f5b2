"""What a training task of timm refuses, by name and before it trains."""

import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from timm import loss as timm_loss
from timm_ranks import network, task_of
from torch import nn

from u1_plugin.timm import U1ClassificationTask


class Odd(nn.Module):
    """A criterion of one's own that smooths in a way of its own."""

    smoothing = 0.1


@pytest.mark.parametrize(
    'options, criterion, message',
    [
        (dict(neck=dict(plane='image', flip='follow')), None, 'neck.flip'),
        (dict(head=dict()), None, "no 'head'"),
        (dict(class_angles=dict(num_classes=7)), None, 'num_classes=7'),
        (dict(neck=dict(layers=['layer9'])), None, 'layer9'),
        (dict(loss=dict(reduction='none')), None, "loss.reduction='none'"),
        ({}, Odd(), 'criterion=Odd has smoothing=0.1'),
        (
            {},
            timm_loss.BinaryCrossEntropy(0.1, smooth_dense=True),
            'criterion=BinaryCrossEntropy',
        ),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(options, criterion, message):
    model = network()
    with pytest.raises(ValueError, match=message):
        U1ClassificationTask(model, criterion, u1=options)
    assert not any(module._forward_hooks for module in model.modules())


def test_options_that_are_no_dict_are_named():
    for wrong in ('image', [('neck', {})]):
        with pytest.raises(ValueError, match='u1=.*must be a dict'):
            U1ClassificationTask(network(), u1=wrong)


def test_a_number_of_classes_may_be_numpys():
    model = network()
    model.num_classes = np.int64(model.num_classes)
    assert U1ClassificationTask(model).u1.class_angles.num_classes == 10


def test_a_network_without_classes_is_refused():
    model = timm.create_model('resnet10t', num_classes=0)
    with pytest.raises(ValueError, match='u1.class_angles.num_classes'):
        U1ClassificationTask(model)


def test_patches_of_images_of_many_sizes_are_refused():
    task = task_of()
    given = dict(patches=torch.rand(2, 9, 3), patch_coord=torch.rand(2, 9, 2))
    with pytest.raises(ValueError, match='input is a dict.*NaFlex'):
        task(given, torch.tensor([1, 2]))


@pytest.mark.parametrize('target', [torch.tensor([1, 10]), torch.eye(2, 9)])
def test_targets_that_do_not_fit_are_refused(target):
    task = task_of(criterion=lambda output, target: output.mean())
    with pytest.raises(ValueError, match='num_classes=10'):
        task(torch.rand(2, 3, 64, 64), target)


def test_an_old_timm_is_refused_with_the_extra_to_install(environment):
    code = (
        "import sys; sys.modules['mmcv'] = sys.modules['timm.task'] = None\n"
        'import u1_plugin\n'
        'try:\n'
        '    import u1_plugin.timm\n'
        'except ImportError as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', code],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "pip install 'u1_plugin[timm]'" in done.stdout, done.stderr
    assert 'timm>=1.0.31' in done.stdout
