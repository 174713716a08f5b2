"""Traps of today's package versions, each with its remedy in place."""

import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.logging import HistoryBuffer
from mmengine.optim import OneCycleLR
from mmengine.optim.scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader, save_checkpoint

import u1_plugin  # noqa: F401  (puts its loaders into MMEngine's registry)
from u1_plugin.mm import compat

DIGITS = 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'
needs_loaders = pytest.mark.skipif(
    compat.reads_history(),
    reason='this MMEngine reads its own checkpoints on this torch',
)


def read(file) -> dict:
    return CheckpointLoader.load_checkpoint(str(file), 'cpu')


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


class Call:
    """Pickles as a call of ``function(*args)``, and a state if there is one."""

    def __init__(self, function, *args, state=None):
        parts = function, args
        self.parts = parts if state is None else (*parts, state)

    def __reduce__(self):
        return self.parts


def array(dtype, data: bytes, shape=(8,), state=None) -> Call:
    """An array as numpy writes it, of any dtype and bytes."""
    reconstruct, args, _ = np.array([0.0]).__reduce__()
    return Call(reconstruct, *args, state=(1, shape, dtype, False, data))


def dtype(code: str, *state) -> Call:
    return Call(np.dtype, code, False, True, state=state or None)


def history(**changes) -> Call:
    """A log history as MMEngine writes it, but for the changes."""
    state = HistoryBuffer([0.5, 1.5], [1.0, 1.0]).__getstate__()
    return Call(HistoryBuffer, state={**state, **changes})


PLAIN = ('<', None, None, None, -1, -1, 0)
POINTERS = dtype(
    'f8', 3, '<', (dtype('O', 3, '|', *PLAIN[1:]), (1,)), None, None, -1, -1, 0
)
FLAGS = dtype('f8', 3, '<', None, None, None, -1, -1, 63)
SCALAR = np.float64(1).__reduce__()[0]
FOREIGN = {
    'constructor': Call(getattr, HistoryBuffer, '__init__'),
    'memory': Call(bytes, 2**62),
    'foreign class': Call(getattr, torch.Tensor, 'mean'),
    'function': Call(print, 'reached'),
    'objects': array(dtype('O', 3, '|', *PLAIN[1:]), b'A' * 64),
    'objects by name': array(dtype('O8', 3, '|', *PLAIN[1:]), b'A' * 64),
    'objects in a sub-array': array(POINTERS, b'A' * 64),
    'flags': array(FLAGS, b'A' * 64),
    'fields': array(
        dtype(
            'V8', 3, '|', None, ('a',), dict(a=(dtype('O', 3, *PLAIN), 0)), 8
        ),
        b'A' * 64,
    ),
    'text': array(dtype('U2', 3, '<', None, None, None, 8, 4, 8), b'A' * 64),
    'no dtype': array('f8', b'A' * 64),
    'list of objects': array(dtype('f8', 3, *PLAIN), [b'A'] * 8),
    'array without content': Call(np.ndarray),
    'array of another class': Call(array(0, b'').parts[0], dict, (0,), b'b'),
    'dtype of a tuple': array(Call(np.dtype, ('f8', 'f8')), b'A' * 64),
    'dtype with metadata': array(dtype('f8', 4, *PLAIN, {}), b'A' * 64),
    'odd byte order': array(dtype('f8', 3, 'x', *PLAIN[1:]), b'A' * 64),
    'other booleans': array(dtype('b1', 3, '|', *PLAIN[1:]), b'\1\2' * 4),
    'bytes that change': array(dtype('f8', 3, *PLAIN), bytearray(64)),
    'key': {dtype('f8', 3, *PLAIN): 0},
    'key of a key': {(dtype('f8', 3, *PLAIN),): 0},
    'the class of arrays': np.ndarray,
    'any attribute': getattr,
    'attribute of an array': Call(
        torch._tensor._rebuild_from_type_v2,
        np.zeros(1).__reduce__()[0],
        np.ndarray,
        (np.ndarray, (0,), b'b'),
        dict(array=[1]),
    ),
    'attribute of a dtype': array(
        Call(
            torch._tensor._rebuild_from_type_v2,
            np.dtype,
            np.dtype,
            ('f8', False, True),
            dict(dtype='U2'),
        ),
        b'A' * 64,
    ),
    'scheduler': Call(OneCycleParamScheduler, 1),
    'log of a call': Call(HistoryBuffer, [1.0], [1.0]),
    'log of lists': history(_log_history=[1.0], _count_history=[1.0]),
    'log of objects': history(_log_history=Call(np.ndarray)),
    'log of two lengths': history(_log_history=np.ones(3)),
    'log of a matrix': history(_log_history=np.ones((2, 2))),
    'log of complex numbers': history(_log_history=np.ones(2) * 1j),
    'log of any length': history(max_length='1'),
    'log with more': history(mean=1),
    'log with less': Call(HistoryBuffer, state=dict(max_length=2)),
    'log that is no dict': Call(HistoryBuffer, state=['max_length']),
    'log with others statistics': history(
        statistics_methods=dict(mean=Call(getattr, HistoryBuffer, 'max'))
    ),
    'scalar booleans': Call(SCALAR, dtype('b1', 3, '|', *PLAIN[1:]), b'\2'),
    'long scalar': Call(SCALAR, dtype('f8', 3, *PLAIN), b'A' * 16),
    'scalar object': Call(SCALAR, dtype('O', 3, '|', *PLAIN[1:]), b'A' * 8),
    'scalar of a sub-array': Call(SCALAR, POINTERS, b'A' * 8),
}


@needs_loaders
@pytest.mark.parametrize('payload', FOREIGN.values(), ids=FOREIGN)
def test_checkpoints_reach_nothing_else(tmp_path, payload, capsys):
    file = tmp_path / 'foreign.pth'
    torch.save(dict(payload=payload), file)
    with pytest.raises(pickle.UnpicklingError):
        read(file)
    assert 'reached' not in capsys.readouterr().out


@needs_loaders
@pytest.mark.parametrize(
    'shape',
    [
        (9,),
        (-1,),
        (2**62, 4),
        (-2, -4),
        (8.0,),
        ('8',),
        (True, 8),
        [8],
        8,
        None,
        (1,) * 70 + (8,),
        (0, 2**80),
    ],
    ids=repr,
)
def test_arrays_have_the_bytes_of_their_shape(tmp_path, shape):
    file = tmp_path / 'short.pth'
    data = b'A' * 64 if shape != (0, 2**80) else b''
    payload = array(dtype('f8', 3, *PLAIN), data, shape)
    torch.save(dict(payload=payload), file)
    with pytest.raises(pickle.UnpicklingError):
        read(file)


@needs_loaders
def test_crafted_arrays_are_read_as_nothing_but_numbers(tmp_path):
    """The same writer, with an honest dtype, is understood."""
    file = tmp_path / 'honest.pth'
    torch.save(dict(a=array(dtype('f8', 3, *PLAIN), bytes(64))), file)
    np.testing.assert_array_equal(read(file)['a'], np.zeros(8))


def opcodes(file, code: bytes) -> None:
    """A file of torch's that holds these opcodes of pickle."""
    torch.save(None, file)
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, 'w') as archive:
        for name, content in parts.items():
            own = code if name.endswith('data.pkl') else content
            archive.writestr(name, own)


@needs_loaders
@pytest.mark.parametrize(
    'code',
    {
        'dtype without a name': b'cnumpy\ndtype\n)\x81.',
        'array without content': b'cnumpy\nndarray\n)\x81.',
        'method as a class': b'c__builtin__\ngetattr\n)\x81.',
        'set of dtypes': b'c__builtin__\nset\n(cnumpy\ndtype\nl\x85R.',
        'deep': b'(' + b')' + b'\x85' * 10**5 + b'0N.',
        'deep value': b')' + b'\x85' * 10**5 + b'.',
        'deep owner': b'c__builtin__\ngetattr\n)'
        + b'\x85' * 10**6
        + b'X\x01\x00\x00\x00a\x86R.',
        'deep name': b'cnumpy\ndtype\n)' + b'\x85' * 10**6 + b'\x85R.',
        'truncated': b'cnumpy\ndtype\n',
        'nothing': b'',
        'stack too short': b'R.',
    }.values(),
)
def test_crafted_opcodes_are_refused(tmp_path, code):
    opcodes(tmp_path / 'crafted.pth', b'\x80\x02' + code)
    with pytest.raises((pickle.UnpicklingError, RuntimeError)):
        read(tmp_path / 'crafted.pth')


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
        done = subprocess.run(
            [sys.executable, *map(str, args)],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

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
