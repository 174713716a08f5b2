"""Arms of a pair start with the same weights and random numbers."""

from types import SimpleNamespace

import pytest
import torch
from helpers import plain_config, u1_config
from mmengine.runner import set_random_seed
from mmpretrain.registry import MODELS

from u1_plugin.lab.paired_start_hook import PairedStartHook


def training(model) -> SimpleNamespace:
    """What the hook asks of a runner whose training begins."""
    return SimpleNamespace(model=model, _train_loop=object(), _has_loaded=False)


def started(config: dict) -> tuple:
    """A model after the hook and MMEngine's own initialisation; a number."""
    torch.manual_seed(len(str(config)))  # whatever was drawn before
    runner = training(MODELS.build(config))
    PairedStartHook(plain_config(), seed=3).before_run(runner)
    runner.model.init_weights()
    return runner.model, torch.rand(1)


@pytest.mark.parametrize(
    'config',
    [
        u1_config(),
        plain_config(
            dict(type='ArcFaceClsHead', num_classes=10, in_channels=128)
        ),
        plain_config(
            dict(
                type='StackedLinearClsHead',
                num_classes=10,
                in_channels=128,
                mid_channels=[7],
            )
        ),
    ],
    ids=['u1', 'arcface', 'draws more numbers'],
)
def test_arms_start_alike(config):
    plain, number = started(plain_config())
    other, same = started(config)
    assert torch.equal(same, number)  # augmentation draws the same in every arm
    state = other.state_dict()
    for name, value in plain.backbone.state_dict().items():
        assert torch.equal(state[f'backbone.{name}'], value)
    weight = plain.head.fc.weight.detach()
    assert weight.std().item() == pytest.approx(0.01, rel=0.1)
    if config.type == 'U1ImageClassifier':
        assert torch.equal(state['head.fc.weight'], weight)


def test_another_backbone_is_no_pair():
    runner = training(MODELS.build(plain_config(base_channels=8)))
    hook = PairedStartHook(plain_config(), seed=3)
    with pytest.raises(ValueError, match='is not that of the plain twin'):
        hook.before_run(runner)


def test_ranks_of_their_own_seeds_keep_them():
    """With the hook as without; on one process the rank adds nothing."""
    runner = training(MODELS.build(plain_config()))
    runner._randomness_cfg = dict(seed=3, diff_rank_seed=True)
    PairedStartHook(plain_config(), seed=3).before_run(runner)
    found = torch.rand(1)
    set_random_seed(3, diff_rank_seed=True)
    assert torch.equal(found, torch.rand(1))


def test_trained_and_loaded_weights_stay():
    """A runner calls the hook again before it tests; some load before it."""
    hook = PairedStartHook(plain_config(), seed=3)
    runner = training(MODELS.build(plain_config()))
    hook.before_run(runner)
    weight = runner.model.backbone.conv1.weight
    with torch.no_grad():
        weight += 1
    trained = weight.clone()
    hook.before_run(runner)
    for changed in (
        dict(_train_loop=dict(by_epoch=True)),  # to be validated
        dict(_train_loop=None),
    ):
        vars(runner).update(_train_loop=object(), _has_loaded=False)
        vars(runner).update(changed)
        PairedStartHook(plain_config(), seed=3).before_run(runner)
        assert torch.equal(weight, trained)
    # A Runner initialises after the hook and loads no second time.
    other = training(MODELS.build(plain_config()))
    other._has_loaded = True
    weight = other.model.backbone.conv1.weight
    loaded = weight.clone()
    PairedStartHook(plain_config(), seed=3).before_run(other)
    other.model.init_weights()
    assert torch.equal(weight, loaded)
