"""Banks against lists of pixels, and forged files of banks."""

import hashlib
import json

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from safetensors import safe_open
from safetensors.torch import save_file
from strategies import (
    JUNK,
    SIZES,
    VECTORS,
    bank_of,
    choice,
    close,
    options,
    pixels_of,
    tensors,
    whole,
)

from u1_plugin import memory
from u1_plugin.memory import MemoryBank
from u1_plugin.nn import FeaturePlane

DTYPES = choice('float32', 'float16', 'uint8')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('banks')


@fuzz(
    'memory.MemoryBank',
    dtype=DTYPES.right | JUNK,
    vectors=tensors(
        SIZES, SIZES, values=st.floats(0, 9, width=16) | st.floats(width=32)
    ),
    labels=st.integers(-2, 9) | st.just(2**40),
    removed=st.lists(st.integers(-1, 3), max_size=2) | JUNK,
)
def test_bank(dtype, vectors, labels, removed):
    bank = attempt(
        lambda: MemoryBank(dtype),
        {} if DTYPES.is_right(dtype) else dict(dtype=dtype),
    )
    if bank is REFUSED:
        return
    pixels = pixels_of(vectors)
    pixels = pixels._replace(labels=pixels.labels + labels)
    plain = bool((vectors.isfinite() & (vectors >= 0)).all())
    held = plain and bool(((vectors == 0) | (vectors >= 1e-2)).all())
    held = held and bool((vectors < 6e4).all())
    wrong = dict(labels=labels) if labels < 0 else {}
    stored = attempt(
        lambda: bank.append(pixels),
        wrong,
        either=not held,  # by the dtype
        also=() if held else ('vector', 'dtype'),
    )
    if stored is REFUSED:
        assert not len(bank)
        return
    error = dict(float32=1e-7, float16=1e-3, uint8=3e-3)[dtype]
    found = torch.cat(list(bank.blocks()))
    largest = vectors.double().abs().amax(1, keepdim=True)
    assert ((found - vectors).abs() <= error * largest).all()
    gone = attempt(
        lambda: bank.remove(labels=removed),
        dict(labels=removed),
        either=True,
    )
    if gone is not REFUSED:
        left = [n for n in pixels.labels.tolist() if n not in list(removed)]
        assert gone == len(vectors) - len(left)
        if left:
            assert bank.field('labels').tolist() == left


@fuzz(
    'memory.MemoryBank.keep',
    vectors=VECTORS,
    index=st.lists(st.integers(-1, 12), max_size=6) | JUNK,
)
def test_keep(vectors, index):
    bank = bank_of(vectors)
    right = (
        isinstance(index, (list, tuple, range))
        and all(type(n) is int for n in index)
        and list(index) == sorted(set(index))
        and all(0 <= n < len(vectors) for n in index)
    )
    either = isinstance(index, (set, np.ndarray, torch.Tensor, dict))
    found = attempt(
        lambda: bank.keep(index),
        {} if right else dict(index=index),
        either=either,
    )
    if found is not REFUSED and right:
        assert len(bank) == len(index)
        if len(index):
            kept = torch.cat(list(bank.blocks()))
            assert torch.equal(kept, vectors[list(index)])


@fuzz(
    'memory.MemoryBank: files',
    dtype=DTYPES.right,
    key=st.sampled_from(
        ['labels', 'images', 'positions', 'hues', 'vectors', 'scales']
    ),
    change=st.sampled_from(
        [
            *(lambda t: t[:-1], lambda t: t[..., None], lambda t: -t - 1),
            *(lambda t: t.double() * np.nan, lambda t: t.float() + 1e30),
            *(lambda t: t.int(), lambda t: t.bool(), lambda t: t * 0 + 77),
            *(lambda t: t[:0], lambda t: None, lambda t: t.half()),
        ]
    ),
    field=st.sampled_from(
        ['version', 'dtype', 'identity', 'blocks', 'pixels', 'channels', 'x']
    ),
    value=st.none()
    | st.sampled_from([0, -1, 10**30, True, '', 'uint8', [], {}, {'a': 1}]),
    cut=st.none() | st.integers(0, 2000),
)
def test_forged_files(folder, dtype, key, change, field, value, cut):
    file = folder / 'bank.safetensors'
    file.unlink(missing_ok=True)
    bank_of(torch.arange(1.0, 25.0).reshape(6, 4), dtype).save(file)
    with safe_open(str(file), framework='pt') as stored:
        head = stored.metadata()
        found = {name: stored.get_tensor(name) for name in stored.keys()}
    note = json.loads(found.pop('metadata').numpy().tobytes())
    name = f'0.{key}'
    changed = change(found.pop(name)) if name in found else None
    if changed is not None:
        found[name] = changed.contiguous()
    if value is not None:
        note[field] = value
    note['sha256'] = checksum(found)
    text = np.frombuffer(json.dumps(note).encode(), np.uint8)
    found['metadata'] = torch.from_numpy(text.copy())
    save_file(found, str(file), metadata=head)
    if cut is not None:
        file.write_bytes(file.read_bytes()[:cut])
    bank = attempt(
        lambda: MemoryBank.load(file),
        {str(file): file},
        either=True,
    )
    if bank is not REFUSED:  # what it then says must hold together
        assert bank.channels == 4 and len(bank) == 6
        assert torch.cat(list(bank.blocks())).isfinite().all()
        labels = bank.field('labels')
        assert 0 <= labels.min()
        if labels.max() > 2:
            attempt(lambda: bank.check_labels(3), dict(num_classes=3))
        assert bank.field('positions').abs().max() <= 1.001


def checksum(found: dict) -> str:
    """As a forger would fit it."""
    digest = hashlib.sha256()
    for key in sorted(found):
        value = found[key]
        digest.update(f'{key} {value.dtype} {tuple(value.shape)};'.encode())
        digest.update(value.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


@fuzz(
    'memory.bottleneck_pixels',
    maps=tensors(2, 3, SIZES, SIZES),
    case=options(dict(mode=choice('pixel', 'pooled'), keep=whole(1, 30))),
)
def test_bottleneck_pixels(maps, case):
    given, wrong = case
    if wrong.get('keep', 0) is None:
        return
    numbers = torch.arange(2)
    found = attempt(
        lambda: memory.bottleneck_pixels(
            maps, numbers, numbers, FeaturePlane(3), **given
        ),
        wrong,
    )
    if found is REFUSED:
        return
    if given.get('mode') == 'pooled':
        assert close(found.vectors, maps.double().mean((2, 3)))
        return
    vectors = maps.flatten(2).transpose(1, 2)
    kept = min(int(given.get('keep', 99)), vectors.size(1))
    energy = vectors.double().square().sum(2)
    wanted = [
        own[np.sort(np.argsort(-e.numpy(), kind='stable')[:kept])]
        for own, e in zip(vectors, energy)
    ]
    assert torch.equal(found.vectors, torch.cat(wanted))
    assert found.positions.abs().max() <= 1.001
