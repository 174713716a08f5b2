"""Parts of one's own, with no more than ``docs/method.md`` asks of them."""

import math

import pytest
import torch
from helpers import images
from plain_network import K, network, step
from torch import nn

from u1_plugin.measure import Probe, ProbedLayer
from u1_plugin.nn import ClassAngles, ClassTarget, U1Branch, U1Loss, as_table


class FirstTwo(nn.Module):
    """A plane of the first two channels."""

    def __init__(self, in_channels, windings):
        super().__init__()
        assert in_channels >= 3 and tuple(windings) == (1,)

    def forward(self, vectors, scaled=False):
        return vectors[..., :2]


class HalfCircle(nn.Module):
    """Class angles on half of the circle."""

    def __init__(self, num_classes, windings):
        super().__init__()
        assert windings == 1
        self.num_classes = num_classes

    def table(self, like, smoothing):
        angles = torch.arange(self.num_classes) * (math.pi / self.num_classes)
        points = torch.stack([angles.cos(), angles.sin()], 1)
        return as_table(points.to(like), smoothing)


class Distance(nn.Module):
    """Of the moment itself to the point that pulls it, times lambda."""

    def __init__(self, loss_weight=0.5):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, moment, pull, pixel_share=None):
        square = (moment - pull.vector).square().sum(-1)
        if pixel_share is not None:
            square = (square * pixel_share).sum(1)
        return self.loss_weight * square.mean()


PARTS = dict(
    neck=dict(feature_plane=dict(type=FirstTwo)),
    class_angles=dict(type=HalfCircle),
    loss=dict(type=Distance, loss_weight=2.0),
)


@pytest.mark.parametrize('names', [[name] for name in PARTS] + [list(PARTS)])
def test_each_trains_alone_and_with_the_others(names):
    model = network()
    branch = U1Branch(model, K, **{name: PARTS[name] for name in names})
    loss = step(model, branch)['loss_u1']
    loss.backward()
    assert loss.ndim == 0 and loss.isfinite()
    assert (model.stem.weight.grad != 0).any()


def test_a_plane_of_one_s_own_is_what_the_loss_takes():
    moments = {}

    class Recorded(U1Loss):
        def forward(self, moment, pull, pixel_share=None):
            moments['value'] = moment
            return super().forward(moment, pull, pixel_share=pixel_share)

    model = network()
    branch = U1Branch(model, K, neck=PARTS['neck'], loss=dict(type=Recorded))
    step(model, branch)
    assert moments['value'].shape[1:] == (2,)
    # The first channels of a map after a ReLU: of no negative numbers.
    assert (moments['value'] >= 0).all()


def test_angles_of_one_s_own_are_smoothed():
    labels = ClassTarget(torch.arange(4) % K, smoothing=(0.7, 0.3 / K))
    plain = ClassAngles(K)
    plain.angles.copy_(torch.arange(K) * (math.pi / K))
    losses = []
    for angles in (dict(type=HalfCircle), plain):
        branch = U1Branch(network(), K, class_angles=angles)
        losses.append(step(branch._reader._model, branch, labels)['loss_u1'])
    torch.testing.assert_close(*losses)


def test_a_probe_measures_a_plane_of_one_s_own():
    model = network().eval()
    model.u1 = U1Branch(model, K, neck=PARTS['neck'])
    probe = Probe(model)
    probe.attach()
    model(images())
    (activation,) = probe.maps().values()
    moment = probe.moments()[ProbedLayer('last', 'feature')]
    assert not moment.requires_grad  # though the pass had gradients
    expected = activation.relu().mean((2, 3))[:, :2]
    ratio = moment / expected
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))
    probe.detach()
