"""Traps of today's package versions, each with its remedy in place."""

import pickle
import subprocess
import sys
from importlib import metadata

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from mmengine.utils import digit_version

from u1_plugin.mm import compat

STOCK_MMENGINE = any(
    d.metadata['Name'] == 'mmengine' for d in metadata.distributions()
)


def checkpoint(path) -> str:
    """What MMEngine saves beside the weights."""
    history = HistoryBuffer()
    history.update(0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=5)
    file = str(path / 'checkpoint.pth')
    torch.save(dict(history=history, scheduler=scheduler.state_dict()), file)
    return file


@pytest.fixture(autouse=True)
def allow_list():
    """As an import leaves it: forks of MMEngine take classes off again."""
    compat.setup()


def test_checkpoints_load_with_weights_only(tmp_path):
    loaded = torch.load(checkpoint(tmp_path), weights_only=True)
    assert loaded['history'].mean() == 0.5
    assert loaded['scheduler']['anneal_func'](1.0, 0.0, 1.0) == 0


@pytest.mark.skipif(
    not STOCK_MMENGINE or digit_version(torch.__version__) < (2, 6),
    reason='forks of MMEngine and older torch have no such trap',
)
def test_the_trap_is_real_without_the_plugin(tmp_path):
    code = (
        'import sys, torch, mmengine.optim\n'
        'torch.load(sys.argv[1], weights_only=True)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, checkpoint(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode and 'Weights only load failed' in done.stderr


class Call:
    """Pickles as a call of ``function(*args)``."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    'payload',
    [
        Call(getattr, HistoryBuffer, '__init__'),
        Call(getattr, torch.Tensor, 'mean'),
        Call(print, 'reached'),
    ],
    ids=['constructor', 'foreign class', 'function'],
)
def test_checkpoints_reach_nothing_else(tmp_path, payload, capsys):
    file = str(tmp_path / 'foreign.pth')
    torch.save(dict(payload=payload), file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    assert 'reached' not in capsys.readouterr().out


def test_without_mmpretrain_the_two_remedies_are_named():
    code = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: (
    None if name.startswith('mm') else find(name, *a))
import u1_plugin
"""
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True
    )
    assert done.returncode
    assert 'u1_plugin[openmmlab,mmcv-lite]' in done.stderr
    assert 'u1_plugin[onedl]' in done.stderr


@pytest.mark.parametrize(
    'base, head',
    [
        ('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'LinearClsHead'),
        ('u1_plugin::resnet/resnet18_8xb32_in1k_u1.py', 'U1ClsHead'),
    ],
)
def test_configs_of_packages_are_found(tmp_path, base, head):
    file = tmp_path / 'config.py'
    file.write_text(f'_base_ = [{base!r}]\n')
    assert Config.fromfile(file).model.head.type == head


def test_torch_and_torchvision_fit():
    import torchvision

    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    assert kept.tolist() == [0]


def test_retrieval_metrics_run_on_todays_numpy():
    """numpy 2.4 dropped `in1d`, which they call."""
    from mmpretrain.evaluation import RetrievalAveragePrecision, RetrievalRecall

    ranked, relevant = [np.array([3, 1, 2])], [[1]]
    options = dict(pred_indices=True, target_indices=True)
    recall = RetrievalRecall.calculate(ranked, relevant, topk=(1, 2), **options)
    assert [float(value) for value in recall] == [0, 100]
    precision = RetrievalAveragePrecision.calculate(
        ranked, relevant, topk=3, **options
    )
    assert float(precision) == 50
