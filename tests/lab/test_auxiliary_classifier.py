"""The rivals' losses see the vector of the one-hot loss, and sound targets."""

import pytest
import torch
from helpers import build as build_model
from helpers import images, plain_config, samples
from mmpretrain.models import LinearClsHead
from mmpretrain.registry import MODELS

from u1_plugin.lab.auxiliary_losses import CenterLoss, RandomPlaneLoss
from u1_plugin.lab.target_losses import OrthogonalProjectionLoss

STACKED = dict(
    type='StackedLinearClsHead',
    num_classes=10,
    in_channels=128,
    mid_channels=[16],
    dropout_rate=0.5,
    norm_cfg=dict(type='BN1d'),
)


def test_hidden_layers_run_once():
    """A second pass would count a batch twice and drop other units."""
    config = dict(
        plain_config(dict(STACKED)),
        type='AuxiliaryImageClassifier',
        auxiliary=dict(type='RandomPlaneLoss'),
    )
    model, plain = build_model(config), build_model(plain_config(dict(STACKED)))
    plain.load_state_dict(model.state_dict(), strict=False)
    assert model.auxiliary.in_channels == 16
    taken = []
    model.head.fc.register_forward_pre_hook(
        lambda module, args: taken.append(args[0])
    )
    found = []
    for network in (model, plain):
        torch.manual_seed(3)
        found.append(network.loss(images(4), samples(4)))
    assert torch.equal(found[0]['loss'], found[1]['loss'])
    state = model.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value), name
    assert len(taken) == 1 and taken[0].shape == (4, 16)
    labels = torch.cat([sample.gt_label for sample in samples(4)])
    expected = model.auxiliary(taken[0], labels)
    assert torch.equal(found[0]['loss_aux'], expected)
    # Nothing of it stays with the head.
    assert 'pre_logits' not in vars(model.head)


def test_a_compiled_classifier_trains():
    """As MMEngine's `compile` option has it."""
    config = dict(
        plain_config(),
        type='AuxiliaryImageClassifier',
        auxiliary=dict(type='RandomPlaneLoss'),
    )
    model = build_model(config)
    expected = model(images(4), samples(4), mode='loss')
    model.forward = torch.compile(model.forward, backend='eager')
    for _ in range(2):
        found = model(images(4), samples(4), mode='loss')
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found['loss_aux'], expected['loss_aux'])
    assert 'pre_logits' not in vars(model.head)


def test_a_head_whose_loss_goes_another_way():
    config = dict(
        plain_config(dict(type='OwnWayHead', num_classes=10, in_channels=128)),
        type='AuxiliaryImageClassifier',
        auxiliary=dict(type='RandomPlaneLoss'),
    )
    model = build_model(config)
    losses = model.loss(images(4), samples(4))
    labels = torch.cat([sample.gt_label for sample in samples(4)])
    vectors = model.extract_feat(images(4))[-1]
    expected = model.auxiliary(vectors, labels)
    torch.testing.assert_close(losses['loss_aux'], expected)


@MODELS.register_module(force=True)
class OwnWayHead(LinearClsHead):
    """Its loss does not ask for `pre_logits`."""

    def loss(self, feats, data_samples, **kwargs):
        scores = self.fc(feats[-1])
        return self._get_loss(scores, data_samples, **kwargs)


@pytest.mark.parametrize('offset', [0.0, 10.0, 1e3])
@pytest.mark.parametrize('soft', [False, True])
def test_center_loss_keeps_its_digits_far_from_zero(offset, soft):
    torch.manual_seed(0)
    vectors = offset + 0.01 * torch.randn(32, 64)
    labels = torch.arange(32) % 4
    target = torch.eye(4)[labels] if soft else labels
    loss = CenterLoss(4, 64, loss_weight=1.0)
    loss.centers += offset
    exact = (vectors.double() - offset).square().sum(1).mean() / 2
    torch.testing.assert_close(
        loss(vectors, target).double(), exact, rtol=1e-2, atol=0
    )
    # The centres move by what the vectors are off, eq. 4 of the paper.
    sums = torch.zeros(4, 64).double()
    sums.index_add_(0, labels, vectors.double() - offset)
    moved = loss.centers.double() - offset
    torch.testing.assert_close(moved, 0.5 * sums / 9, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'kind', [CenterLoss, RandomPlaneLoss, OrthogonalProjectionLoss]
)
def test_targets_are_checked_as_u1_s_are(kind):
    loss, vectors = kind(4, 8), torch.rand(3, 8)
    scores = torch.full((3, 4), 0.25)
    for wrong, words in (
        (scores - 0.5, 'negative'),
        (scores * float('nan'), 'not finite'),
        (torch.tensor([True, False, True]), 'torch.bool'),
        (torch.tensor([0, 1, 4]), 'labels 4|labels 0..4'),
        (torch.tensor([0, 1, -100]), '-100'),
        (torch.tensor([0, 1]), '2'),
    ):
        with pytest.raises(ValueError, match=words):
            loss(vectors, wrong)
    labels = torch.tensor([0, 1, 1])
    expected = kind(4, 8)(vectors, labels)
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(kind(4, 8)(vectors, labels.to(dtype)), expected)
