"""A bank is filled in the precision of the loop that asks it."""

import pytest
import torch
from memory_runs import Quick, config_of, filled, rows, runner_of

FP16 = {'test_cfg.fp16': True}


def test_a_loop_of_mixed_precision_fills_in_it(folder):
    """Then every training image finds itself, as it does in float32."""
    single, mixed = filled(folder), filled(folder, FP16)
    assert not torch.equal(rows(single), rows(mixed))
    # float32 numbers that bfloat16 holds are what bfloat16 computed.
    assert torch.equal(rows(mixed), rows(mixed).bfloat16().float())
    # A runner made by keywords has no config; a hook asks its loop.
    runner = runner_of(config_of(folder, **FP16), folder)
    runner.cfg.test_cfg.fp16 = False
    assert runner.test()['accuracy/top1'] == 100
    assert torch.equal(rows(runner.model.head.bank), rows(mixed))


@pytest.mark.parametrize('first', [True, False])
def test_a_file_of_another_precision_is_refused(folder, tmp_path, first):
    own = {'custom_hooks.0.file': str(tmp_path / 'bank.safetensors')}
    filled(folder, {**own, 'test_cfg.fp16': first})
    filled(folder, {**own, 'test_cfg.fp16': first})
    with pytest.raises(ValueError, match='precision'):
        filled(folder, {**own, 'test_cfg.fp16': not first})


def test_two_loops_of_two_precisions_fill_twice(folder):
    runner = Quick(config_of(folder, **FP16))
    runner.call_hook('before_test')
    mixed = runner.model.head.bank
    runner.call_hook('before_val')
    single = runner.model.head.bank
    assert single is not mixed and not torch.equal(rows(single), rows(mixed))
