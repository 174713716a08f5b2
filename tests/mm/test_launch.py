"""Options of the user come last, and what a launcher starts is as asked."""

import subprocess
import weakref
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from u1_plugin.mm import launch
from u1_plugin.mm.launch import (
    CPUAmpOptimWrapper,
    with_options,
    wrap_without_gpu,
)


def test_slurm_command_line(root, environment, tmp_path):
    """No cluster here: `srun` only shows what it would start."""
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    shown = subprocess.check_output(
        ['bash', str(root / 'tools/slurm_train.sh'), 'gpu', 'job', 'a b.py']
        + ['work', '--amp', '--cfg-options', 'x="[1, 2]"'],
        env=dict(
            environment,
            PATH=f'{tmp_path}:{environment["PATH"]}',
            GPUS='16',
            SRUN_ARGS='--exclude=n1 --mem=8G',
        ),
        text=True,
    ).splitlines()
    assert {'--partition=gpu', '--ntasks=16', '--mem=8G'} <= set(shown)
    tool = shown.index(str(root / 'tools/train.py'))
    assert shown[tool + 1 :] == [
        'a b.py',
        '--work-dir=work',
        '--launcher=slurm',
        '--amp',
        '--cfg-options',
        'x="[1, 2]"',
    ]


@pytest.mark.parametrize(
    'argv, expected',
    [
        (['c.py'], ['c.py', '--cfg-options', 'a=1']),
        (
            ['c.py', '--cfg-options', 'b=2', '--amp'],
            ['c.py', '--cfg-options', 'a=1', 'b=2', '--amp'],
        ),
    ],
)
def test_options_of_the_user_come_last_and_win(argv, expected):
    assert with_options(argv, ['a=1']) == expected


def test_cpu_amp_computes_in_bfloat16():
    model = torch.nn.Linear(3, 2)
    wrapper = CPUAmpOptimWrapper(
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1)
    )
    with wrapper.optim_context(model):
        assert model(torch.rand(4, 3)).dtype == torch.bfloat16
    with pytest.raises(ValueError, match="dtype='float16'.*bfloat16"):
        CPUAmpOptimWrapper(dtype='float16', optimizer=wrapper.optimizer)


@pytest.mark.parametrize(
    'given, wrapper',
    [
        ({}, {}),
        (dict(find_unused_parameters=True), dict(find_unused_parameters=True)),
        (
            dict(model_wrapper_cfg=dict(broadcast_buffers=True)),
            dict(broadcast_buffers=True),
        ),
        (
            dict(
                find_unused_parameters=True,
                model_wrapper_cfg=dict(find_unused_parameters=False),
            ),
            {},
        ),
    ],
)
def test_without_a_gpu_the_user_s_wrapper_is_kept(given, wrapper):
    config = Config(given)
    wrap_without_gpu(config)
    expected = dict(
        type='MMDistributedDataParallel',
        find_unused_parameters=False,
        broadcast_buffers=False,
        device_ids=None,
    )
    assert config.model_wrapper_cfg == dict(expected, **wrapper)


def test_models_do_not_outlive_their_process_group(monkeypatch, tmp_path):
    """The Reducer of one that did could wait for gloo's threads for ever."""
    group = torch.distributed
    group.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1
    )
    model = DistributedDataParallel(nn.Linear(2, 1))
    model.runner = SimpleNamespace(model=model)  # as hooks know their runner
    model, alive = None, weakref.ref(model)
    destroyed, destroy = [], group.destroy_process_group
    monkeypatch.setattr(
        group,
        'destroy_process_group',
        lambda: (destroyed.append(alive()), destroy()),
    )
    launch._leave_process_group()
    assert destroyed == [None] and not group.is_initialized()


def test_another_wrapper_gets_no_options():
    other = dict(type='MMSeparateDistributedDataParallel', static_graph=True)
    config = Config(dict(model_wrapper_cfg=dict(other)))
    wrap_without_gpu(config)
    assert config.model_wrapper_cfg == other
