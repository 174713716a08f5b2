"""A checkpoint reaches nothing but numbers, however it was crafted."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleParamScheduler
from pickled_calls import (
    PLAIN,
    Call,
    array,
    dtype,
    history,
    needs_loaders,
    read,
)

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
