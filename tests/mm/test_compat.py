"""Each trap of today's package versions has its remedy in place."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from commands import printed
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from mmengine.runner import save_checkpoint
from pickled_calls import needs_loaders, read

DIGITS = 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'


@pytest.fixture
def file(tmp_path) -> str:
    """What MMEngine saves beside the weights, and numbers of numpy's kinds."""
    history = HistoryBuffer()
    for value in (0.5, 1.5):
        history.update(value)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = OneCycleLR(optimizer, eta_max=0.1, total_steps=5)
    content = dict(
        history=history,
        scheduler=scheduler.state_dict(),
        numbers=[np.float32(2.5), np.int64(-3), np.bool_(True)],
        arrays=(
            np.arange(6).reshape(2, 3),
            np.asfortranarray(np.ones((2, 3), np.float16)),
            np.array([1 + 2j]),
            np.array([1, 256], '>i4'),
            np.zeros((0, 4)),
        ),
    )
    save_checkpoint(content, str(tmp_path / 'checkpoint.pth'))
    return str(tmp_path / 'checkpoint.pth')


def test_mmengine_reads_what_it_saves(file):
    loaded = read(file)
    assert type(loaded['history']) is HistoryBuffer
    assert loaded['history'].mean() == 1.0
    loaded['history'].update(2.5)
    assert loaded['history'].max() == 2.5
    assert loaded['scheduler']['anneal_func'](1.0, 0.0, 1.0) == 0
    assert loaded['numbers'] == [2.5, -3, True]
    kinds = [np.float32, np.int64, np.bool_]
    assert [type(number) for number in loaded['numbers']] == kinds
    expected = (
        np.arange(6).reshape(2, 3),
        np.ones((2, 3), np.float16),
        np.array([1 + 2j]),
        np.array([1, 256]),
        np.zeros((0, 4)),
    )
    for array, wanted in zip(loaded['arrays'], expected):
        assert type(array) is np.ndarray
        assert array.dtype.kind == wanted.dtype.kind
        np.testing.assert_array_equal(array, wanted)


@needs_loaders
def test_torch_itself_refuses_the_same_file(file):
    before = set(torch.serialization.get_safe_globals())
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    read(file)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=True)
    assert set(torch.serialization.get_safe_globals()) == before


@needs_loaders
def test_a_users_own_allow_list_survives(file):
    """It may name the same classes; ours count while MMEngine reads."""
    own = [HistoryBuffer, np.ndarray, np.dtype]
    with torch.serialization.safe_globals(own):
        assert read(file)['history'].mean() == 1.0
        assert set(own) <= set(torch.serialization.get_safe_globals())


@needs_loaders
def test_the_trap_is_real_without_the_plugin(file):
    code = (
        'import sys; from mmengine.runner import CheckpointLoader\n'
        'CheckpointLoader.load_checkpoint(sys.argv[1], "cpu")'
    )
    done = subprocess.run(
        [sys.executable, '-c', code, file], capture_output=True, text=True
    )
    assert done.returncode and 'Weights only load failed' in done.stderr


@needs_loaders
def test_values_that_hold_each_other_are_read_once(tmp_path):
    """A list in itself, and one that would have 10**30 entries written out."""
    file = tmp_path / 'cyclic.pth'
    cyclic = [np.float64(1)]
    cyclic.append(cyclic)
    wide = (np.arange(2),)
    for _ in range(30):
        wide = (wide,) * 10
    torch.save(dict(cyclic=cyclic, wide=wide), file)
    loaded = read(file)
    assert loaded['cyclic'][1] is loaded['cyclic']
    for _ in range(30):
        wide = loaded['wide'] = loaded['wide'][9]
    np.testing.assert_array_equal(wide[0], [0, 1])


@needs_loaders
def test_the_statistics_of_other_histories_stay(file):
    before = dict(HistoryBuffer._statistics_methods)
    read(file)
    assert HistoryBuffer._statistics_methods == before


def test_training_resumes(root, environment, tmp_path):
    def run(*args) -> str:
        return printed([sys.executable, *args], cwd=tmp_path, env=environment)

    def train(epochs: int, *more) -> str:
        return run(
            root / 'tools/train.py',
            root / DIGITS,
            *('--work-dir', 'run', *more, '--cfg-options'),
            f'train_cfg.max_epochs={epochs}',
            'default_hooks.checkpoint.interval=1',
        )

    run(root / 'tools/dataset_converters/digits.py')
    train(1)
    resumed = train(2, '--resume')
    assert 'resumed epoch: 1' in resumed
    assert 'Epoch(train) [2]' in resumed
    assert 'Epoch(train) [1]' not in resumed
    history = read(tmp_path / 'run/epoch_2.pth')['message_hub']
    losses = history['log_scalars']['train/loss'].data[0]
    assert len(losses) == 34  # 17 steps before, 17 after


@pytest.mark.parametrize(
    'base, kind',
    [
        ('mmpretrain::resnet/resnet18_8xb32_in1k.py', 'ImageClassifier'),
        (
            'u1_plugin::resnet/resnet18_8xb32_in1k_u1.py',
            'u1_plugin.U1ImageClassifier',
        ),
    ],
)
def test_configs_of_packages_are_found(tmp_path, base, kind):
    file = tmp_path / 'config.py'
    file.write_text(f'_base_ = [{base!r}]\n')
    assert Config.fromfile(file).model.type == kind
    assert get_config(base).model.type == kind


def test_torch_and_torchvision_fit():
    import torchvision

    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    assert kept.tolist() == [0]
