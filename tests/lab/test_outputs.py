"""Outputs of the test split are those of the weights that are saved."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import images
from mmengine.hooks import EMAHook
from recorded_runs import train

from u1_plugin.lab.outputs import top_accuracies


def test_the_test_split_sees_the_averaged_weights(tmp_path):
    average = EMAHook(momentum=0.5)
    runner, _ = train(tmp_path / 'run', average, test=True)
    with np.load(tmp_path / 'run/test_outputs.npz') as outputs:
        logits = outputs['logits']
    data = runner.model.data_preprocessor(
        dict(inputs=list(images(8, 16) * 255)), False
    )
    with torch.no_grad():
        own, averaged = (
            model.eval()(data['inputs'], mode='tensor').half().numpy()
            for model in (runner.model, average.ema_model.module)
        )
    assert np.allclose(logits, averaged, atol=1e-2)
    assert not np.allclose(logits, own, atol=1e-2)


_BUFFERS = """
import sys
import torch
from mmengine.dist import get_rank
from u1_plugin.lab.outputs import share_buffers

torch.distributed.init_process_group('gloo')
model = torch.nn.BatchNorm2d(3)
model.running_mean += get_rank() + 1
model.num_batches_tracked += get_rank() + 5
share_buffers(model)
assert model.running_mean.tolist() == [1.0] * 3
assert model.num_batches_tracked == 5
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_ranks_are_evaluated_with_the_buffers_that_are_saved(
    tmp_path, environment
):
    script = tmp_path / 'buffers.py'
    script.write_text(_BUFFERS)
    command = [sys.executable, '-m', 'torch.distributed.run']
    command += ['--nproc_per_node=2', '--standalone', str(script)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_negative_logits_count():
    """As a margin head's often are; MMPretrain's default threshold is 0."""
    logits = np.array([[-2.0, -1.0], [-1.0, -3.0], [-5.0, -4.0]])
    found = top_accuracies(logits, np.array([1, 1, 1]))
    assert found == {'accuracy/top1': pytest.approx(200 / 3)}
    many = -np.arange(24.0).reshape(2, 12)
    found = top_accuracies(many, np.array([4, 5]))
    assert found == {'accuracy/top1': 0, 'accuracy/top5': 50}
