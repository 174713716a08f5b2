"""Targets are read from data samples, flips and the loss's smoothing."""

import pytest
import torch
from class_points import K, points, pull_of
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss
from mmpretrain.structures import DataSample, MultiTaskDataSample
from torch import nn

from u1_plugin.mm.sample_targets import (
    smoothing_of,
    smooths_scores_otherwise,
    targets_of,
)
from u1_plugin.nn import ClassTarget


def labelled(*labels) -> list:
    return [DataSample().set_gt_label(own) for own in labels]


def scored(*scores) -> list:
    return [DataSample().set_gt_score(torch.tensor(own)) for own in scores]


def test_data_samples():
    several = targets_of(labelled([1, 3], [], [2]), several=True)
    assert several.values.tolist() == [1, 3, 2]
    assert several.images.tolist() == [0, 0, 2] and several.batch_size == 3
    assert targets_of(labelled(1, 0)).values.tolist() == [1, 0]
    scores = torch.tensor([[0.3, 0.7], [1.0, 0.0]])
    scored = [DataSample().set_gt_score(row) for row in scores]
    assert torch.equal(targets_of(scored).values, scores)


def test_multi_hot_scores_are_shared_out():
    hot = torch.tensor([[1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]])
    scored = [DataSample().set_gt_score(row.float()) for row in hot]
    as_labels = labelled([0, 2], [], [1])
    for a, b in zip(
        pull_of(targets_of(scored, several=True)),
        pull_of(targets_of(as_labels, several=True)),
    ):
        torch.testing.assert_close(a, b, check_dtype=False)


def test_data_samples_that_do_not_fit_are_refused():
    for samples, words in (
        (labelled([1, 2], [0]), 'several labels or none.*multi-label head'),
        (labelled([], [0]), 'several labels or none'),
        ([DataSample(), *labelled(1)], 'neither gt_label nor gt_score'),
        ([MultiTaskDataSample()], 'several tasks'),
        (scored([0.5, 0.5], [1.0, 0, 0]), r'\(2,\), \(3,\).*one score a class'),
    ):
        with pytest.raises(ValueError, match=words):
            targets_of(samples)


MODES = ('original', 'classy_vision', 'multi_label')


@pytest.mark.parametrize('mode', MODES)
def test_smoothing_is_that_of_the_loss(mode):
    loss = LabelSmoothLoss(0.1, mode=mode, use_sigmoid=mode == 'multi_label')
    smoothing = smoothing_of(loss, K)
    assert loss.num_classes is None  # as it was
    loss.num_classes = K
    one_hot = torch.eye(K)
    smoothed = loss.smooth_label(one_hot).double()
    hard = ClassTarget(torch.arange(K), smoothing=smoothing)
    torch.testing.assert_close(
        pull_of(hard).vector, smoothed @ points(), atol=1e-6, rtol=0
    )
    pull = pull_of(hard)
    torch.testing.assert_close(
        pull.level * pull.share.double(), smoothed.sum(1), atol=1e-6, rtol=0
    )
    assert smooths_scores_otherwise(loss, smoothing) == (mode == 'multi_label')


def test_losses_without_smoothing():
    for loss in (None, CrossEntropyLoss()):
        assert smoothing_of(loss, K) == (1.0, 0.0)
        assert not smooths_scores_otherwise(loss, (1.0, 0.0))


class Odd(nn.Module):
    """Smooths towards the first class."""

    num_classes = None

    def smooth_label(self, scores):
        return 0.9 * scores + 0.1 * torch.linspace(0, 1, scores.size(1))


def test_a_smoothing_that_cannot_be_followed_is_refused():
    with pytest.raises(ValueError, match='Odd smooths.*LabelSmoothLoss'):
        smoothing_of(Odd(), K)
