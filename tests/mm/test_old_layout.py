"""Checkpoints from when the method wrapped a model's neck and head."""

import subprocess
import sys

import pytest
import torch
from helpers import build, images, u1_config
from mmengine.runner import load_checkpoint
from twins import load_tool

NECK = dict(type='LinearNeck', in_channels=128, out_channels=128, gap_dim=2)


def model(seed: int) -> torch.nn.Module:
    config = u1_config(neck=dict(feature_plane=dict(center='running')))
    config.neck = NECK
    return build(config, seed).eval()


def wrapped(state: dict) -> dict:
    """The names that the same state had."""
    old = {}
    for name, value in state.items():
        if name.startswith('neck.'):
            name = f'neck.{name}'
        name = name.replace('u1.class_angles.', 'head.class_angles.')
        name = name.replace('u1.neck.feature_planes.', 'neck.feature_planes.')
        old[name] = value
    return old


def test_an_old_checkpoint_is_refused_by_name_and_converted(root, tmp_path):
    first, second = model(0), model(1)
    state = wrapped(first.state_dict())
    assert {'head.class_angles.angles', 'neck.neck.fc.weight'} <= set(state)
    assert 'neck.feature_planes.0.running_mean' in state
    old, new = tmp_path / 'old.pth', tmp_path / 'new.pth'
    torch.save(dict(state_dict=state, meta={}), old)
    with pytest.raises(ValueError, match='u1_branch_layout.py OLD.pth'):
        load_checkpoint(second, str(old), map_location='cpu')
    tool = root / 'tools/model_converters/u1_branch_layout.py'
    command = [sys.executable, '-W', 'ignore', str(tool), str(old), str(new)]
    subprocess.run(command, check=True, cwd=root)
    load_checkpoint(second, str(new), map_location='cpu', strict=True)
    assert torch.equal(second(images()), first(images()))
    again = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert again.returncode and 'exists' in again.stderr


@pytest.mark.parametrize(
    'content, words',
    [
        ([torch.ones(1)], 'holds list'),
        (dict(state_dict=[1]), 'holds list'),
        (3, 'holds int'),
    ],
)
def test_what_holds_no_weights_is_not_converted(
    content, words, tmp_path, monkeypatch, capsys
):
    old, new = tmp_path / 'old.pth', tmp_path / 'new.pth'
    torch.save(content, old)
    monkeypatch.setattr(sys, 'argv', ['tool', str(old), str(new)])
    with pytest.raises(SystemExit):
        load_tool('model_converters/u1_branch_layout.py').main()
    said = capsys.readouterr().err
    assert words in said and 'old.pth' in said and not new.exists()
