"""Parts of one's own, with no more than ``docs/method.md`` asks of them."""

import math

import pytest
import torch
from plain_network import K, network, step
from torch import nn

from u1_plugin.nn import U1Branch, U1Loss
from u1_plugin.nn.targets import PointTable


class FirstTwo(nn.Module):
    """A plane of the first two channels."""

    def __init__(self, in_channels, windings):
        super().__init__()
        assert in_channels >= 3 and tuple(windings) == (1,)

    def forward(self, vectors, scaled):
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
        return PointTable(points.to(like), smoothing)


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
