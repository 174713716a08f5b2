"""A training that was stopped or killed goes on where it was."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from training_tools import BASELINE, U1, load, losses, options

from u1_plugin.mm.launch import mmpretrain_tool


def test_the_stock_tool_trains_and_resumes(root, command, tmp_path):
    """README's config needs nothing of the plugin but the dotted name."""
    config = tmp_path / 'mine.py'
    config.write_text(f"""
_base_ = [{str(root / BASELINE)!r}]
model = dict(type='u1_plugin.U1ImageClassifier')
""")
    stock = mmpretrain_tool('train.py')
    arguments = [stock, config, '--work-dir', tmp_path / 'run']
    assert len(losses(command(*arguments, *options(1)))) == 34
    output = command(*arguments, '--resume', *options(2))
    assert 'resumed epoch: 1, iter: 17' in output


def wait_for(log: Path, pattern: str, process, timeout: float = 300) -> None:
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        if re.search(pattern, log.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError(f'no {pattern!r} in\n{log.read_text()[-3000:]}')


def test_resume_after_kill_9(root, command, workplace, environment, tmp_path):
    whole = tmp_path / 'whole'
    arguments = ['tools/train.py', root / U1, '--work-dir']
    command(*arguments, whole, *options(3))

    cut, log = tmp_path / 'cut', tmp_path / 'log'
    with log.open('w') as file:
        process = subprocess.Popen(
            [
                sys.executable,
                str(root / arguments[0]),
                str(root / U1),
                '--work-dir',
                str(cut),
                *options(3),
            ],
            cwd=workplace,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(log, r'Epoch\(train\)\s+\[2\]\[ ?5/17\]', process)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert not (cut / 'epoch_2.pth').exists()

    # Other angles in the config: those of the checkpoint must win.
    output = command(
        *arguments,
        cut,
        '--resume',
        *options(3, 'model.u1.class_angles.seed=99'),
    )
    assert 'resumed epoch: 1, iter: 17' in output
    assert re.search(r'Epoch\(train\)\s+\[2\]\[ 1/17\]', output)
    assert not re.search(r'Epoch\(train\)\s+\[1\]', output)
    expected, resumed = load(whole, 3), load(cut, 3)
    assert resumed['meta']['epoch'] == 3 and resumed['meta']['iter'] == 51
    name = 'u1.class_angles.angles'
    assert torch.equal(
        resumed['state_dict'][name], expected['state_dict'][name]
    )
    assert resumed['param_schedulers'] == expected['param_schedulers']
    state = resumed['optimizer']['state']
    assert state and all('momentum_buffer' in s for s in state.values())
