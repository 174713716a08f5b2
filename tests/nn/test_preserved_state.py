"""A branch leaves the network as it was, whatever its first pass does to it."""

import copy
from types import SimpleNamespace

import pytest
import timm
import torch
from torch import nn

from u1_plugin.nn import U1Branch, find_maps
from u1_plugin.nn.dry_run import count_logits


class Restless(nn.Module):
    """Writes into its weights, counts, and makes a layer, as it first runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.scale = nn.Parameter(torch.ones(1, 8, 1, 1))
        self.offset = nn.Embedding(10, 8, max_norm=0.5)
        self.register_buffer('scaled', torch.tensor(False))
        self.register_buffer('calls', torch.tensor(0))
        self.register_buffer('bias', torch.full((8, 1, 1), torch.nan))
        self.table = nn.Parameter(torch.rand(1, 8, 4, 4))
        self.register_buffer('sparse', torch.eye(3).to_sparse())
        self.state = SimpleNamespace(built=False)
        self.kept = {}

    def forward(self, images):
        maps = self.conv(images)
        if not self.scaled:
            self.scale.data.copy_(torch.full_like(self.scale, 7))
            self.scaled.fill_(True)
        self.calls += 1
        if not self.state.built:  # a mark that no one puts back
            self.kept['a'], self.state.built = 1, True
        assert self.kept['a']
        self.table.data = nn.functional.interpolate(self.table, scale_factor=2)
        shift = self.offset(torch.tensor([3]))[:, :, None, None]
        maps = torch.relu(maps * self.scale + shift)
        if not hasattr(self, 'fc'):
            self.fc = nn.Linear(maps.flatten(1).size(1), 10)
        return self.fc(maps.flatten(1))


def test_a_trial_leaves_no_value_and_nothing_made():
    network = Restless().train()
    before = copy.deepcopy(network.state_dict())
    parameters = list(network.parameters())
    branch = U1Branch(network, 10)
    after = network.state_dict()
    assert after.keys() == before.keys()
    for name, value in before.items():
        value, now = value.to_dense(), after[name].to_dense()
        torch.testing.assert_close(now, value, rtol=0, atol=0, equal_nan=True)
    assert network.training
    assert all(p is q for p, q in zip(parameters, network.parameters()))
    with branch.reading():  # of another size than the trial's images
        network(torch.randn(2, 3, 20, 20))
    assert branch(torch.tensor([1, 2]))['loss_u1'].isfinite()
    assert network.calls == 1 and network.table.shape == (1, 8, 8, 8)


def scripted(network: nn.Module) -> nn.Module:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 3, 3, padding=1)
            self.net = network

        def forward(self, images):
            return self.net(self.stem(images))

    return Around()


def test_scripted_parts_take_no_hooks():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 32, 32)
    plain = timm.create_model('resnet10t', num_classes=10)

    class Ended(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = plain
            self.fc = torch.jit.script(nn.Linear(10, 10))

        def forward(self, images):
            return self.fc(self.net(images))

    network = Ended()
    with pytest.raises(ValueError, match="'auto': fc is scripted"):
        U1Branch(network, 10)
    branch = U1Branch(network, 10, neck=dict(layers=['net.layer4']))
    assert network.fc.training
    with branch.reading():
        network(images)
    assert branch(torch.tensor([1, 2]))['loss_u1'].requires_grad
    traced = torch.jit.trace(copy.deepcopy(plain).eval(), images)
    with pytest.raises(ValueError, match='before torch.jit scripts or traces'):
        U1Branch(traced, 10)
    around = scripted(traced.train())
    with pytest.raises(ValueError, match="'auto': net is scripted"):
        U1Branch(around, 10)
    around(images)  # no hook is left
    assert find_maps(around, ['stem'])[0].shape[0] == 3 and traced.training
    with pytest.raises(ValueError, match='did not run when'):
        find_maps(around, ['net.layer4'])


def test_a_part_that_runs_several_times_in_a_pass_is_told(messages):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = timm.create_model('resnet10t', num_classes=10)

        def forward(self, images):
            return self.net(images) + self.net(images.flip(-1))

    U1Branch(Twice(), 10)
    assert any("where 'net' runs for the last time of 2" in m for m in messages)
    messages.clear()
    U1Branch(Twice().net, 10)
    assert not any('last time' in message for message in messages)


def test_a_fall_back_is_no_second_time(messages):
    network = timm.create_model('resnet10t', num_classes=10)

    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network

        def forward_features(self, images):
            self.net(images)
            raise NotImplementedError

        def forward(self, images):
            return self.net(images)

    U1Branch(Features(), 10)
    assert not any('last time' in message for message in messages)


def test_a_network_without_sizes_is_left_alone():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(10))
    for look in (count_logits, lambda net: find_maps(net, 'auto')):
        with pytest.raises(ValueError, match='2.weight has no size'):
            look(network)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 10)
