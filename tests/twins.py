"""What makes a classifier and its U(1) twin the same but for the branch."""

import copy
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import List, Set

import torch
from helpers import soft_samples
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent


def load_tool(name: str) -> ModuleType:
    """A tool of this repository as a module."""
    path = ROOT / 'tools' / name
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build_untrained(model: dict, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(model))


def samples_of(model: dict, classes: int) -> List[DataSample]:
    """Two samples with the targets that a model's head and recipe take."""
    if 'augments' in (model.get('train_cfg') or {}):
        return soft_samples(torch.full((2, classes), 1 / classes))
    labels = (0, classes - 1)
    if model['head']['type'].startswith(('MultiLabel', 'CSRA')):
        labels = ([0, 1], [classes - 1])
    return [DataSample().set_gt_label(label) for label in labels]


def as_list(logits) -> List[Tensor]:
    return [logits] if isinstance(logits, Tensor) else list(logits)


def one_hot_loss(losses: dict) -> Tensor:
    """What is not the branch's of the losses."""
    return sum(
        value
        for name, value in losses.items()
        if 'loss' in name and name != 'loss_u1'
    )


def check_same_network(stock: nn.Module, u1: nn.Module, inputs: Tensor) -> None:
    """Stock weights load, parameters are as many, logits are equal."""
    state = stock.state_dict()
    # Some networks leave buffers out of what they load.
    left_out = set(stock.load_state_dict(state, strict=False).missing_keys)
    result = u1.load_state_dict(stock.state_dict(), strict=False)
    assert not result.unexpected_keys
    missing = {key for key in result.missing_keys if key[:3] != 'u1.'}
    assert missing == left_out
    count = sum(p.numel() for p in stock.parameters())
    assert sum(p.numel() for p in u1.parameters()) == count
    extra = set(u1.state_dict()) - set(state)
    assert extra == {'u1.class_angles.angles'}
    with torch.no_grad():
        pairs = zip(as_list(u1.eval()(inputs)), as_list(stock.eval()(inputs)))
        assert all(torch.equal(a, b) for a, b in pairs)


def unreached(u1: nn.Module, inputs: Tensor, samples: list) -> Set[str]:
    """Parameters of the backbone that ``loss_u1`` alone does not reach.

    Those that the one-hot loss does not reach either are left out, and the
    gradients of all others are finite, the first one's not zero.
    """
    u1.train()
    missing = _without_gradient(u1, inputs, samples, branch=True)
    gradients = {
        name: p.grad
        for name, p in u1.backbone.named_parameters()
        if p.grad is not None
    }
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # The network's first weight hears of it, through all layers.
    first = next(g for name, g in gradients.items() if name.endswith('weight'))
    assert (first != 0).any()
    if missing:
        missing -= _without_gradient(u1, inputs, samples, branch=False)
    return missing


def _without_gradient(
    u1: nn.Module, inputs: Tensor, samples: list, branch: bool
) -> Set[str]:
    u1.zero_grad(set_to_none=True)
    losses = u1.loss(inputs, samples)
    loss = losses['loss_u1'] if branch else one_hot_loss(losses)
    assert loss.isfinite()
    loss.backward()
    named = u1.backbone.named_parameters()
    return {n for n, p in named if p.requires_grad and p.grad is None}


def listed_row(config: str) -> str:
    """A config's line of the table of automatic layers."""
    lines = (ROOT / 'docs/layers.md').read_text().splitlines()
    return next(line for line in lines if line.startswith(f'| `{config}` |'))
