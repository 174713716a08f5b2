"""A bank in a checkpoint answers for its own weights alone."""

import logging
from pathlib import Path

import pytest
import torch
from memory_runs import Quick, config_of, pictures, runner_of

from u1_plugin.memory import MemoryBank


def checkpointed(folder, tmp_path) -> Path:
    changes = {'model.head.in_checkpoint': True}
    runner = Quick(config_of(folder, **changes))
    runner.call_hook('before_test')
    file = tmp_path / 'with_bank.pth'
    torch.save(dict(state_dict=runner.model.state_dict(), meta={}), file)
    return file


def test_a_bank_in_a_checkpoint_answers_for_its_weights_alone(folder, tmp_path):
    file = checkpointed(folder, tmp_path)
    config = config_of(folder, **{'model.head.in_checkpoint': True})
    config.load_from = str(file)
    runner = runner_of(config, folder)
    assert runner.test()['accuracy/top1'] == 100
    runner = runner_of(config, folder)
    runner.load_or_resume()
    other = runner.model.backbone.layer3[0].conv1.weight
    with torch.no_grad():
        other += 0.1
    with pytest.raises(ValueError, match='bank.*other backbone_weights'):
        runner.test()
    config.data_preprocessor.mean = [0.0] * 3
    with pytest.raises(ValueError, match='other data_preprocessor'):
        runner_of(config, folder).test()
    # A bank that the head's options do not fit is refused as it is loaded.
    config.model.head.orthant = 'abs'
    with pytest.raises(ValueError, match='head.orthant=abs.*relu'):
        runner_of(config, folder).test()


def test_a_checkpoint_answers_without_the_training_images(
    folder, tmp_path, caplog
):
    config = config_of(folder)
    config.load_from = str(checkpointed(folder, tmp_path))
    pictures(tmp_path / 'others', seed=1)
    config.train_dataloader.dataset.data_root = str(tmp_path / 'others')
    with pytest.raises(ValueError, match='other images'):
        runner_of(config, folder).test()
    config.train_dataloader.dataset.data_root = str(tmp_path / 'gone')
    runner = runner_of(config, folder)
    records: list = []
    runner.logger.addFilter(lambda record: not records.append(record))
    runner.logger.setLevel(logging.WARNING)
    assert runner.test()['accuracy/top1'] == 100
    assert any('not compared' in r.getMessage() for r in records)


def test_a_bank_of_unknown_make_is_refused(folder):
    runner = Quick(config_of(folder))
    head = runner.model.head
    head.fill((torch.rand(3, 64, 2, 2),), torch.arange(3), torch.arange(3))
    with pytest.raises(ValueError, match='unknown images.*set_bank'):
        runner.call_hook('before_test')
    head.set_bank(MemoryBank())
    runner.call_hook('before_test')
    assert len(head.bank) == 36


def test_weights_without_a_bank_empty_the_head(folder):
    """The pixels of other weights would answer for them."""
    config = config_of(folder, **{'model.head.in_checkpoint': True})
    runner = Quick(config)
    runner.call_hook('before_test')
    weights = runner.model.state_dict()
    bank = {name for name in weights if '.bank.' in name}
    assert bank and len(runner.model.head.bank)
    runner.model.load_state_dict(
        {name: v for name, v in weights.items() if name not in bank}
    )
    assert not len(runner.model.head.bank)
    runner.model.load_state_dict(weights)
    assert len(runner.model.head.bank)


def test_a_bank_does_not_answer_for_weights_that_come_later(
    folder, tmp_path, messages
):
    """Neither for those that are loaded, nor for those that EMA puts back."""
    runner = Quick(config_of(folder))
    head, weight = runner.model.head, runner.model.backbone.conv1.weight
    state = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.call_hook('before_test')
    runner.call_hook('after_test')
    assert len(head.bank)
    runner.model.load_state_dict(state)
    assert not len(head.bank)
    assert any('other weights were loaded' in line for line in messages)
    runner.call_hook('before_val')
    with torch.no_grad():
        weight *= -1
    runner.call_hook('after_val')
    assert not len(head.bank)
    # A bank of one's own may come before the weights.
    runner.call_hook('before_test')
    head.set_bank(head.bank)
    runner.model.load_state_dict(state)
    assert len(head.bank)
