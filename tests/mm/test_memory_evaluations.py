"""Evaluations whose weights change on the way, or that are cut short."""

import pytest
import torch
from memory_runs import Quick, config_of, rows, runner_of
from mmpretrain.datasets import CustomDataset

from u1_plugin.mm.data import leaves


def test_a_file_keeps_the_first_bank_of_an_evaluation(folder, tmp_path):
    """EMAHook evaluates averages, then the weights; a second run reads."""
    file, contents = tmp_path / 'bank.safetensors', []
    config = config_of(folder)
    config.custom_hooks = [
        dict(type='MemoryBankHook', file=str(file)),
        dict(type='EMAHook', evaluate_on_origin=True),
    ]
    for _ in range(2):
        runner = runner_of(config, folder)
        (ema,) = (h for h in runner.hooks if type(h).__name__ == 'EMAHook')
        runner.call_hook('before_run')
        with torch.no_grad():
            for value in ema.ema_model.module.backbone.parameters():
                value *= 1.1
        found = runner.test()
        # Each picture is found in the memory of the weights that ask.
        log = runner.message_hub.get_scalar('test/accuracy/top1_origin')
        assert found['accuracy/top1'] == log.current() == 100
        contents.append(file.read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize('read', [True, False])
def test_weights_that_change_on_the_way_leave_the_file(folder, tmp_path, read):
    file = tmp_path / 'bank.safetensors'
    config = config_of(folder)
    config.custom_hooks[0].file = str(file)
    for _ in range(1 + read):
        runner = Quick(config)
        runner.call_hook('before_test')
    before, bank = file.read_bytes(), runner.model.head.bank
    with torch.no_grad():
        runner.model.backbone.conv1.weight *= -1
    runner.call_hook('before_test_iter', batch_idx=0)
    assert not torch.equal(rows(runner.model.head.bank), rows(bank))
    assert file.read_bytes() == before


def test_a_shortened_data_set_is_that_data_set(folder):
    """MMEngine's ``num_batch_per_epoch`` wraps it; colours are its type's."""
    config = config_of(folder)
    config.test_dataloader.num_batch_per_epoch = 1
    dataset = runner_of(config, folder).test_dataloader.dataset
    assert len(dataset) == 4
    assert [type(leaf) for leaf in leaves(dataset)] == [CustomDataset]
