"""Files with a fitting checksum are checked field by field."""

import hashlib
import json

import numpy as np
import pytest
import torch
from banks import assert_same, changed, filled

from u1_plugin.memory import MemoryBank


def forged(tensors: dict, **note) -> dict:
    """With a fitting checksum, as anybody can compute it."""
    tensors = dict(tensors)
    text = json.loads(tensors.pop('metadata').numpy().tobytes())
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f'{key} {value.dtype} {tuple(value.shape)};'.encode())
        digest.update(value.contiguous().view(torch.uint8).numpy())
    text = dict(text, sha256=digest.hexdigest()) | note
    return dict(tensors, metadata=note_of(json.dumps(text).encode()))


def note_of(text: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(text, np.uint8).copy())


def test_the_forger_forges():
    state = filled('uint8').state()
    assert_same(MemoryBank.from_state(forged(state)), filled('uint8'))
    state['1.labels'][0] = 3
    with pytest.raises(ValueError, match='checksum'):
        MemoryBank.from_state(state)
    assert MemoryBank.from_state(forged(state)).field('labels')[40] == 3


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'field, change, words',
    [
        ('labels', lambda t: changed(t, -1), 'labels -1'),
        ('labels', lambda t: t.int(), 'labels: 1 dimensions of torch.int32'),
        ('labels', lambda t: t[:-1], 'vectors: '),
        ('labels', lambda t: t[:, None], 'labels: 2 dimensions'),
        ('labels', lambda t: t[:0], 'expected'),
        ('images', lambda t: changed(t, -7), 'images -7'),
        ('images', lambda t: t.float(), 'images: 1 dimensions of'),
        ('positions', lambda t: changed(t, NAN), 'positions nan'),
        ('positions', lambda t: changed(t, 1.001), 'positions 1.001'),
        ('positions', lambda t: changed(t, -1.001), 'positions -1.001'),
        ('positions', lambda t: t[:, :1], r'positions: \(40, 1\)'),
        ('hues', lambda t: changed(t, 3.1416), 'hues 3.1416'),
        ('hues', lambda t: changed(t, -3.1416), 'hues -3.1416'),
        ('hues', lambda t: changed(t, INF), 'hues inf'),
        ('hues', lambda t: t.double(), 'hues: 1 dimensions of torch.float64'),
        ('scales', lambda t: changed(t, 0.0), 'scales 0'),
        ('scales', lambda t: changed(t, -1.0), 'scales -1'),
        ('scales', lambda t: changed(t, NAN), 'scales nan'),
        ('scales', lambda t: changed(t, INF), 'scales inf'),
        ('scales', lambda t: None, r"\['scales'\]"),
        ('vectors', lambda t: t.float(), 'vectors: 2 dimensions of'),
        ('vectors', lambda t: t[:, :5], r'vectors: \(40, 5\)'),
        ('vectors', lambda t: t[:, :0], 'vectors: '),
        ('vectors', lambda t: None, r"\['vectors'\]"),
        ('more', lambda t: torch.zeros(40), r"\['more'\]"),
        ('x.y', lambda t: torch.zeros(40), 'no field of a bank'),
        ('hues', lambda t: t.to_sparse(), 'without plain numbers'),
        ('hues', lambda t: t.to('meta'), 'without plain numbers'),
        ('hues', lambda t: [0.0] * 40, 'no tensor but list'),
    ],
)
def test_every_field_is_checked(field, change, words):
    state = filled('uint8').state()
    key = f'1.{field}'
    state[key] = change(state.get(key))
    if state[key] is None:
        del state[key]
    plain = isinstance(state.get(key, state['1.labels']), torch.Tensor)
    if plain and 'without plain' not in words:
        state = forged(state)
    with pytest.raises(ValueError, match=words) as caught:
        MemoryBank.from_state(state, name='head.bank')
    assert str(caught.value).startswith('head.bank: ')


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_vectors_of_files_are_finite(dtype):
    for value in (NAN, INF, -INF):
        state = filled(dtype).state()
        state['2.vectors'][7, 3] = value
        with pytest.raises(ValueError, match='block 2: vectors hold NaN'):
            MemoryBank.from_state(forged(state))


@pytest.mark.parametrize(
    'note, words',
    [
        (dict(version=1), 'format version 1'),
        (dict(version=3), 'format version 3'),
        (dict(version=2.0), 'format version 2.0'),
        (dict(version=True), 'format version True'),
        (dict(version=None), 'format version None'),
        (dict(version=[2]), r'format version \[2\]'),
        (dict(dtype='float64'), 'dtype is'),
        (dict(dtype=16), 'dtype is a int'),
        (dict(dtype='float32'), r"block 0: its fields differ.*\['scales'\]"),
        (dict(identity=[]), 'identity is a list'),
        (dict(identity={'a': 1}), r"identity\['a'\]"),
        (dict(identity={'a': 'x' * 2000}), r"identity\['a'\]"),
        (dict(blocks=2), 'blocks is 2, but the tensors have 3'),
        (dict(blocks='3'), 'blocks is a str'),
        (dict(pixels=121), 'pixels is 121, but the tensors have 120'),
        (dict(pixels=True), 'pixels is a bool'),
        (dict(channels=7), r'vectors: \(40, 6\), expected \(40, 7\)'),
        (dict(channels=None), 'vectors: '),
        (dict(channels=6.0), 'channels is a float'),
        (dict(sha256='0' * 64), 'checksum'),
        (dict(sha256=None), 'sha256 is a NoneType'),
        (dict(more=1), r"\['more'\]"),
    ],
)
def test_every_note_is_checked(note, words):
    with pytest.raises(ValueError, match=words) as caught:
        MemoryBank.from_state(forged(filled('uint8').state(), **note))
    assert 'the bank: ' in str(caught.value)


@pytest.mark.parametrize(
    'text',
    [
        *(b'', b'[]', b'1', b'null', b'"a"', b'{}', b'{"version": ', b'\xff'),
        *(b'[' * 100_000, b'{"a":' * 50_000, b'9' * 10_000, b' ' * 2**21),
        *(b'{"version": NaN}', b'{"version": Infinity}'),
    ],
)
def test_notes_that_are_none(text):
    state = dict(filled().state(), metadata=note_of(text))
    with pytest.raises(ValueError, match='bank: metadata: '):
        MemoryBank.from_state(state)


@pytest.mark.parametrize('value', [None, 'a', torch.zeros(3), torch.tensor(2)])
def test_metadata_is_bytes(value):
    with pytest.raises(ValueError, match='metadata'):
        MemoryBank.from_state(dict(filled().state(), metadata=value))


def test_blocks_are_numbered():
    state = filled().state()
    gap = {k.replace('1.', '7.', 1): v for k, v in state.items()}
    with pytest.raises(ValueError, match='not numbered without gaps'):
        MemoryBank.from_state(forged(gap))
    with pytest.raises(ValueError, match="'01.labels' is no field"):
        state['01.labels'] = state['0.labels']
        MemoryBank.from_state(forged(state))
    with pytest.raises(ValueError, match='tensors'):
        MemoryBank.from_state([1])


@pytest.mark.parametrize('size', [2**20, 2**20 + 1])
def test_metadata_is_a_mebibyte_at_most(size):
    bank = filled()
    state = bank.state()
    text = state['metadata'].numpy().tobytes().ljust(size)
    state['metadata'] = note_of(text)
    if size == 2**20:
        return assert_same(MemoryBank.from_state(state), bank)
    with pytest.raises(ValueError, match=f'metadata: {size} bytes'):
        MemoryBank.from_state(state)
