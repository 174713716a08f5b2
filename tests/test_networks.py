"""What tells one network, or one value, from another."""

import collections
import functools
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from mmpretrain.registry import MODELS
from torch import nn
from torch.nn.functional import elu, leaky_relu

from u1_plugin.networks import description, structure_digest


class Block(nn.Module):
    def __init__(self, **attributes) -> None:
        super().__init__()
        vars(self).update(attributes)


class Thing:
    def __init__(self, number: int) -> None:
        self.number, self.me = number, self


class Cache:
    """Copies begin without what it holds."""

    def __init__(self) -> None:
        self.held = {}

    def __getstate__(self) -> dict:
        return {}


def encoder(heads=1, **options) -> nn.Module:
    return nn.TransformerEncoderLayer(8, heads, 16, **options)


def scaled(factor: float):
    return lambda x: x * factor


PAIRS = {
    'heads': (encoder(), encoder(4)),
    'order': (encoder(), encoder(norm_first=True)),
    'activation': (encoder(), encoder(activation='gelu')),
    'attention': (nn.MultiheadAttention(8, 1), nn.MultiheadAttention(8, 2)),
    'flatten': (nn.Flatten(1), nn.Flatten(2)),
    'class': (nn.ReLU(), nn.ReLU6()),
    'tensor': (Block(mean=torch.zeros(2)), Block(mean=torch.ones(2))),
    'array': (Block(index=np.arange(3)), Block(index=np.arange(3)[::-1])),
    'function': (Block(act=elu), Block(act=leaky_relu)),
    'partial': tuple(
        Block(act=functools.partial(leaky_relu, negative_slope=s))
        for s in (0.1, 0.2)
    ),
    'list': (Block(parts=[nn.ReLU()]), Block(parts=[nn.Tanh()])),
    'private': (Block(_stride=1), Block(_stride=2)),
    'traced': tuple(
        torch.fx.symbolic_trace(nn.Sequential(layer))
        for layer in (nn.Identity(), nn.Sequential(nn.Identity()))
    ),
}


@pytest.mark.parametrize('name', PAIRS)
def test_networks_that_compute_other_things_differ(name):
    one, two = PAIRS[name]
    assert structure_digest(one) != structure_digest(two)
    assert structure_digest(one) == structure_digest(one)


NETWORKS = {
    'levit': lambda: MODELS.build(
        dict(type='mmpretrain.LeViT', arch='128s', img_size=224)
    ),
    'efficientformer': lambda: MODELS.build(
        dict(type='mmpretrain.EfficientFormer', arch='l1')
    ),
    'revvit': lambda: MODELS.build(
        dict(type='mmpretrain.RevVisionTransformer', arch='deit-tiny')
    ),
    'timm levit': lambda: timm.create_model('levit_128s'),
    'timm tiny_vit': lambda: timm.create_model('tiny_vit_5m_224'),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_what_a_network_works_out_for_evaluation_does_not_count(name):
    """Some keep it as an attribute, from ``eval()`` or the first pass on."""
    network, images = NETWORKS[name](), torch.randn(2, 3, 224, 224)
    first = structure_digest(network)
    network.eval()
    network.get_submodule(next(iter(network._modules))).train()
    modes = [part.training for part in network.modules()]
    assert structure_digest(network) == first
    assert [part.training for part in network.modules()] == modes
    network.eval()
    with torch.no_grad():
        network(images)
        assert structure_digest(network) == first
        network(images)


def test_what_says_nothing_of_a_network_does_not_count():
    def built() -> nn.Module:
        return nn.Sequential(encoder(2), Block(cache=Cache(), norms={'a', 'b'}))

    one, two = built(), built()
    two.eval().register_forward_hook(print)
    two[1].cache.held['size'] = torch.ones(3)
    assert structure_digest(one) == structure_digest(two)
    devices = (torch.device('cpu'), torch.device('cuda'))
    one, two = (Block(_device=device) for device in devices)
    assert structure_digest(one) == structure_digest(two)


VALUES = [
    *(None, 0, False, 1, True, 1.0, 1j, 'a', b'a', [1, 2], {1, 2}, {1: 2}),
    *(torch.zeros(2), torch.zeros(2).half(), torch.zeros(2, 1)),
    *(torch.zeros(2).bfloat16(), torch.zeros(2, device='meta')),
    *(torch.arange(5000), torch.arange(5000) * (torch.arange(5000) != 2000)),
    *(np.zeros(2), np.array([None, 1]), np.array([None, 2]), np.float32(0)),
    *(Thing, Thing(1), Thing(2), Thing(1).__init__, len, np.sin, np.cos),
    *(lambda x: x, lambda x: 2 * x, lambda x: 3 * x, lambda x=1: x),
    *(lambda x: np.sin(x), lambda x: np.cos(x), lambda x: [x for _ in 'a']),
    *(lambda x: [x for _ in 'b'], scaled(1.0), scaled(2.0), elu),
    *(functools.partial(elu, alpha=1), functools.partial(elu, alpha=2)),
    *(nn.Linear(2, 1), nn.ReLU(), torch.float32, torch.float16, slice(3)),
]


def test_values_that_mean_other_things_differ():
    texts = [description(value) for value in VALUES]
    twice = [k for k, n in collections.Counter(texts).items() if n > 1]
    assert not twice


def test_values_that_mean_the_same_do_not():
    for one, two in (
        ((1, [2]), [1, (2,)]),
        (dict(a=1, b=2), dict(b=2, a=1)),
        (scaled(2.0), scaled(2.0)),
        (Thing(3), Thing(3)),
        ([Thing(3)] * 2, [Thing(3), Thing(3)]),
        (torch.zeros(4)[::2], torch.zeros(2)),
        (object(), object()),
        (np.random.default_rng(0), np.random.default_rng(0)),
    ):
        assert description(one) == description(two)


def test_descriptions_are_those_of_any_process(root, environment):
    code = (
        'from torch import nn; from functools import partial;'
        'from u1_plugin.networks import description;'
        'print(description([{"b", "a", "c"}, lambda x: x in {"k", "l", "m"},'
        ' partial(len, key=object()), nn.ReLU(), nn.Flatten]))'
    )
    found = {
        subprocess.run(
            [sys.executable, '-c', code],
            env=dict(environment, PYTHONHASHSEED=seed),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in '12'
    }
    assert len(found) == 1 and ' at 0x' not in found.pop()
