"""Weights that timm has loaded outlive the beginning of a training."""

import pytest
import timm
import torch
from mmpretrain.registry import MODELS
from test_paired_start import training
from torch import nn

from u1_plugin.lab.paired_start_hook import PairedStartHook
from u1_plugin.mm.pretrained import keep_pretrained

NAME = 'test_vit'


@pytest.fixture
def file(tmp_path):
    """Weights of timm's smallest transformer."""
    torch.manual_seed(5)
    network = timm.create_model(NAME, num_classes=10)
    torch.save(network.state_dict(), tmp_path / 'vit.pth')
    return str(tmp_path / 'vit.pth')


def config(kind: str, file: str, **options) -> dict:
    # As a download, but from a file.
    overlay = dict(file=file, num_classes=10)
    return dict(
        type=kind,
        model_name=NAME,
        num_classes=10,
        pretrained=True,
        pretrained_cfg_overlay=overlay,
        **options,
    )


def weights(model: nn.Module) -> torch.Tensor:
    return model.model.blocks[0].mlp.fc1.weight.detach()


def lies_in(model: nn.Module, file: str) -> bool:
    loaded = torch.load(file)['blocks.0.mlp.fc1.weight']
    return torch.equal(weights(model), loaded)


def test_mmpretrain_draws_them_anew(file):
    """The day it does not, the guard and the warning can go."""
    model = MODELS.build(config('TimmClassifier', file))
    assert lies_in(model, file)
    model.init_weights()
    assert not lies_in(model, file)


@pytest.mark.parametrize('by', ['pretrained', 'checkpoint_path'])
def test_the_twin_keeps_them_and_says_so(file, by, messages):
    options = config('U1TimmClassifier', file)
    if by == 'checkpoint_path':
        options = dict(
            type='U1TimmClassifier',
            model_name=NAME,
            num_classes=10,
            checkpoint_path=file,
        )
    model = MODELS.build(options)
    model.init_weights()
    assert lies_in(model, file)
    assert any('no baseline' in message for message in messages)


def test_without_weights_it_is_initialised_as_ever(messages):
    options = dict(type='U1TimmClassifier', model_name=NAME, num_classes=10)
    model = MODELS.build(options)
    before = weights(model).clone()
    model.init_weights()
    assert not torch.equal(weights(model), before)
    assert not any('no baseline' in message for message in messages)


def test_arms_of_a_pair_start_with_them(file):
    for kind in ('TimmClassifier', 'U1TimmClassifier'):
        runner = training(MODELS.build(config(kind, file)))
        plain = config('TimmClassifier', file)
        PairedStartHook(plain, seed=3).before_run(runner)
        runner.model.init_weights()
        assert lies_in(runner.model, file)


def test_what_has_no_initialiser_is_left_alone():
    model = nn.Module()
    model.model = nn.Linear(2, 2)
    assert not keep_pretrained(model, dict(pretrained=True))
    assert not hasattr(model.model, 'is_init')
    assert not keep_pretrained(nn.Linear(2, 2), dict(pretrained=True))
