"""The digits converter, and MMPretrain's data set on what it writes."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from mmpretrain.datasets import CustomDataset
from PIL import Image
from sklearn.datasets import load_digits


@pytest.fixture(scope='module')
def converter(root):
    path = root / 'tools/dataset_converters/digits.py'
    spec = importlib.util.spec_from_file_location('digits', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_command_writes_every_scan_once(root, tmp_path):
    command = [
        sys.executable,
        str(root / 'tools/dataset_converters/digits.py'),
        'digits',
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    digits = load_digits()
    found = {}
    for file in (tmp_path / 'digits').rglob('*.png'):
        split, label, _ = file.relative_to(tmp_path / 'digits').parts
        index = int(file.stem)
        assert index not in found and int(label) == digits.target[index]
        found[index] = split
        if index % 50 == 0:
            scan = np.asarray(Image.open(file)) / 255 * 16
            assert np.abs(scan - digits.images[index]).max() < 0.05
    assert len(found) == 1797
    counts = [list(found.values()).count(s) for s in ('train', 'val', 'test')]
    assert counts == [1078, 359, 360]

    data = CustomDataset(data_root=str(tmp_path / 'digits/train'))
    assert len(data) == 1078
    assert data.metainfo['classes'] == tuple('0123456789')

    again = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True
    )
    assert again.returncode == 0 and 'nothing to do' in again.stdout


def test_splits_are_stratified(converter):
    labels = load_digits().target
    splits = converter.split_indices(labels, seed=0)
    for indices in splits.values():
        share = np.bincount(labels[indices]) / len(indices)
        assert np.abs(share - np.bincount(labels) / len(labels)).max() < 0.005


def test_an_interrupted_call_leaves_nothing(
    converter, tmp_path, monkeypatch, capsys
):
    save, calls = Image.Image.save, []

    def fail_later(*args, **kwargs):
        calls.append(args)
        if len(calls) > 20:
            raise OSError('disk full')
        save(*args, **kwargs)

    monkeypatch.setattr(Image.Image, 'save', fail_later)
    monkeypatch.setattr(sys, 'argv', ['digits.py', str(tmp_path / 'digits')])
    with pytest.raises(SystemExit):
        converter.main()
    assert 'disk full' in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
