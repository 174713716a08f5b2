"""The bank: what it keeps, what it forgets, and which files it refuses."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from u1_plugin.geometry import energy
from u1_plugin.memory import MemoryBank, Pixels, bottleneck_pixels
from u1_plugin.memory.precise import square_root, unit
from u1_plugin.nn.feature_plane import FeaturePlane

IDENTITY = dict(weights='resnet', layer='layer4')
FIELDS = ('labels', 'images', 'positions', 'hues')


def some_pixels(n=40, channels=6, seed=0, first_image=0) -> Pixels:
    generator = torch.Generator().manual_seed(seed)
    return Pixels(
        torch.rand(n, channels, generator=generator),
        torch.arange(n) % 4,
        torch.arange(n) // 5 + first_image,
        torch.rand(n, 2, generator=generator) * 2 - 1,
        torch.rand(n, generator=generator),
    )


def filled(dtype='float32', blocks=3) -> MemoryBank:
    bank = MemoryBank(dtype, IDENTITY)
    for i in range(blocks):
        bank.append(some_pixels(seed=i, first_image=8 * i))
    return bank


def vectors_of(bank) -> torch.Tensor:
    return torch.cat(list(bank.blocks()))


def test_pixels_have_their_places():
    maps = torch.rand(2, 5, 3, 5)
    plane = FeaturePlane(in_channels=5).eval()
    labels, images = torch.tensor([7, 8]), torch.tensor([3, 4])
    pixels = bottleneck_pixels(maps, labels, images, plane)
    assert pixels.vectors.shape == (30, 5)
    # Row 0 is the top: y is up; column 4 the right. The corner is at radius 1.
    top_right = 15 + 4
    assert torch.equal(pixels.vectors[top_right], maps[1, :, 0, 4])
    assert pixels.labels[top_right] == 8 and pixels.images[top_right] == 4
    expected = torch.tensor([2.0, 1.0]) / 5**0.5
    torch.testing.assert_close(pixels.positions[top_right], expected)
    assert torch.equal(pixels.positions[15 + 7], torch.zeros(2))  # the axis
    hue = plane(maps[1, :, 0, 4][None])[0]
    expected = torch.atan2(hue[1], hue[0])
    torch.testing.assert_close(pixels.hues[top_right], expected)


def test_the_most_energetic_pixels_are_kept():
    maps = torch.rand(3, 5, 4, 4)
    plane = FeaturePlane(in_channels=5).eval()
    ids = torch.arange(3)
    every = bottleneck_pixels(maps, ids, ids, plane)
    few = bottleneck_pixels(maps, ids, ids, plane, keep=4)
    assert len(few.labels) == 12
    for image in range(3):
        strongest = energy(maps)[image].flatten().topk(4).values.min()
        own = every.select(every.images == image)
        expected = own.select(own.vectors.square().sum(1) >= strongest - 1e-6)
        found = few.select(few.images == image)
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b)


def test_pooled_mode_has_one_vector_an_image():
    maps = torch.rand(3, 5, 4, 4)
    plane = FeaturePlane(in_channels=5).eval()
    ids = torch.arange(3)
    pixels = bottleneck_pixels(maps, ids, ids, plane, mode='pooled')
    torch.testing.assert_close(pixels.vectors, maps.mean((2, 3)))
    assert pixels.positions.norm(dim=1).max() <= 1


@pytest.mark.parametrize(
    'dtype, tolerance', [('float32', 0), ('float16', 1e-3), ('uint8', 0.003)]
)
def test_storage(dtype, tolerance):
    bank, exact = filled(dtype), filled()
    assert len(bank) == 120 and bank.channels == 6
    error = (vectors_of(bank) - vectors_of(exact)).abs().max()
    assert error <= tolerance
    size = dict(float32=24, float16=12, uint8=6 + 4)[dtype]
    assert bank.nbytes == 120 * (size + 8 + 8 + 8 + 4)


@given(labels=st.sets(st.integers(0, 5)), images=st.sets(st.integers(0, 30)))
def test_removal_is_as_if_never_appended(labels, images):
    bank = filled()
    whole = {name: bank.field(name) for name in ('labels', 'images', 'hues')}
    vectors = vectors_of(bank)
    keep = torch.tensor(
        [
            int(label) not in labels and int(image) not in images
            for label, image in zip(whole['labels'], whole['images'])
        ]
    )
    assert bank.remove(labels, images) == int((~keep).sum())
    assert len(bank) == int(keep.sum())
    if len(bank):
        assert torch.equal(vectors_of(bank), vectors[keep])
        for name, values in whole.items():
            assert torch.equal(bank.field(name), values[keep])


DTYPES = ['float32', 'float16', 'uint8']


def assert_same(one: MemoryBank, two: MemoryBank) -> None:
    assert one.dtype == two.dtype and one.identity == two.identity
    assert torch.equal(vectors_of(one), vectors_of(two))
    for name in FIELDS:
        assert torch.equal(one.field(name), two.field(name))


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_file_gives_the_bank_back(dtype, tmp_path):
    bank = filled(dtype)
    file = tmp_path / 'new/folder/bank.safetensors'
    bank.save(file)
    bank.save(str(file))  # again: replaced as a whole
    assert [f.name for f in file.parent.iterdir()] == [file.name]
    again = MemoryBank.load(file, IDENTITY, channels=6, num_classes=4)
    assert_same(again, bank)
    again.append(some_pixels())
    assert len(again) == 160


@pytest.mark.parametrize('dtype', DTYPES)
def test_a_state_gives_the_bank_back(dtype):
    bank = filled(dtype)
    state = bank.state()
    assert_same(MemoryBank.from_state(state, IDENTITY), bank)
    # Nothing is shared, either way.
    again = MemoryBank.from_state(state)
    for value in state.values():
        value.zero_()
    assert_same(again, bank)
    assert_same(MemoryBank.from_state(bank.state()), bank)
    empty = MemoryBank.from_state(MemoryBank(dtype, IDENTITY).state())
    assert len(empty) == 0 and empty.identity == IDENTITY
    assert empty.channels is None and empty.dtype == dtype


def test_a_read_bank_does_not_change_with_its_file(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    bank = MemoryBank.load(file)
    with open(file, 'r+b') as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(bytes(file.stat().st_size // 2))
    assert_same(bank, filled())


@pytest.mark.parametrize('cut', [0, 3, 100, 2000, -1])
def test_a_truncated_file_is_refused(cut, tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match='bank.safetensors: no whole'):
        MemoryBank.load(file)


def test_what_is_no_bank_is_refused(tmp_path):
    file = tmp_path / 'bank.safetensors'
    with pytest.raises(ValueError, match='no memory bank is there'):
        MemoryBank.load(file)
    with pytest.raises(ValueError, match='no memory bank is there'):
        MemoryBank.load(tmp_path)
    file.write_bytes(b'not a bank')
    with pytest.raises(ValueError, match='no whole safetensors file'):
        MemoryBank.load(file)
    # Format 1 kept its notes in a second file.
    old = filled().state()
    old.pop('metadata')
    save_file(old, str(file))
    with pytest.raises(ValueError, match='no metadata.*fill the bank again'):
        MemoryBank.load(file)
    with pytest.raises(ValueError, match='head.bank: no metadata'):
        MemoryBank.from_state(old, name='head.bank')


def test_foreign_files_are_not_overwritten(tmp_path):
    file = tmp_path / 'notes.txt'
    file.write_text('mine')
    with pytest.raises(FileExistsError, match='notes.txt'):
        filled().save(file)
    assert file.read_text() == 'mine'


def test_an_interrupted_save_leaves_the_old_bank(tmp_path, monkeypatch):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)

    def half(stream, field):
        stream.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr('u1_plugin.memory.bank_file.write_field', half)
    other = filled()
    other.remove(labels=[1])
    with pytest.raises(KeyboardInterrupt):
        other.save(file)
    assert_same(MemoryBank.load(file), filled())
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_another_makers_bank_is_refused(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    wanted = dict(weights='swin', layer='layer4', images='abc')
    with pytest.raises(ValueError) as caught:
        MemoryBank.load(file, wanted)
    message = str(caught.value)
    assert file.name in message and 'layer4' not in message
    assert "weights ('resnet', now 'swin')" in message
    assert "images (None, now 'abc')" in message
    with pytest.raises(ValueError, match="layer \\('layer4', now None\\)"):
        MemoryBank.load(file, dict(weights='resnet'))
    with pytest.raises(ValueError, match='channels is 6, expected 512'):
        MemoryBank.load(file, channels=512)
    with pytest.raises(ValueError, match=r'block 0: labels 3 .*\[0, 2\]'):
        MemoryBank.load(file, num_classes=3)
    with pytest.raises(ValueError, match='num_classes=0'):
        MemoryBank.load(file, num_classes=0)


@pytest.mark.parametrize(
    'identity', [{'a': 1}, {1: 'a'}, {'': 'a'}, {'a': 'x' * 1025}, 'a', None]
)
def test_an_identity_is_short_strings(identity):
    with pytest.raises(ValueError, match='MemoryBank.identity'):
        MemoryBank(identity=identity)


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


def changed(value: torch.Tensor, to, at: int = 5) -> torch.Tensor:
    value = value.clone()
    value[at] = to
    return value


NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'field, change, words',
    [
        ('labels', lambda t: changed(t, -1), 'labels -1'),
        ('labels', lambda t: changed(t, 4), 'labels 4'),
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
        MemoryBank.from_state(state, num_classes=4, name='head.bank')
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


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="dtype='int4'"):
        MemoryBank('int4')
    bank = filled()
    with pytest.raises(ValueError, match='7 channels.*has 6'):
        bank.append(some_pixels(channels=7))
    with pytest.raises(ValueError, match='empty'):
        MemoryBank().field('labels')
    with pytest.raises(ValueError, match="field 'vectors'"):
        bank.field('vectors')
    maps, ids = torch.rand(1, 3, 2, 2), torch.zeros(1).long()
    plane = FeaturePlane(in_channels=3).eval()
    with pytest.raises(ValueError, match="mode='pixels'"):
        bottleneck_pixels(maps, ids, ids, plane, mode='pixels')
    for keep in (0, -1, 1.5, True, NAN, '2'):
        with pytest.raises(ValueError, match='keep='):
            bottleneck_pixels(maps, ids, ids, plane, keep=keep)
    with pytest.raises(ValueError, match=r'labels \(2,\)'):
        bottleneck_pixels(maps, torch.zeros(2).long(), ids, plane)
    with pytest.raises(ValueError, match=r'intensity \(3, 2, 2\)'):
        bottleneck_pixels(maps[0], ids, ids, plane)


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize(
    'field, change, words',
    [
        ('vectors', lambda t: changed(t, NAN), 'NaN'),
        ('vectors', lambda t: changed(t, INF), 'NaN or inf'),
        ('vectors', lambda t: changed(t, -INF), 'NaN or inf'),
        ('vectors', lambda t: t[0], r'7 channels|\(6,\)|6 channels'),
        ('vectors', lambda t: t[:, :0], r'vectors \(40, 0\) must be'),
        ('vectors', lambda t: t.long(), 'vectors of dtype torch.int64'),
        ('labels', lambda t: changed(t, -1), 'labels -1'),
        ('labels', lambda t: t.float(), 'labels of dtype torch.float32'),
        ('labels', lambda t: t.bool(), 'labels of dtype torch.bool'),
        ('labels', lambda t: t[1:], r'labels \(39,\)'),
        ('labels', lambda t: t.tolist(), 'labels must be a tensor'),
        ('images', lambda t: changed(t, -1), 'images -1'),
        ('images', lambda t: t[:, None], r'images \(40, 1\)'),
        ('positions', lambda t: changed(t, NAN), 'positions nan'),
        ('positions', lambda t: changed(t, 1.5), 'positions 1.5'),
        ('positions', lambda t: t.long(), 'positions of dtype'),
        ('positions', lambda t: t[:, 0], r'positions \(40,\)'),
        ('hues', lambda t: changed(t, 4.0), 'hues 4'),
        ('hues', lambda t: changed(t, -INF), 'hues -inf'),
        ('hues', lambda t: t + 0j, 'hues of dtype torch.complex64'),
    ],
)
def test_pixels_are_checked(field, change, words, dtype):
    bank = filled(dtype)
    pixels = some_pixels()
    pixels = pixels._replace(**{field: change(getattr(pixels, field))})
    with pytest.raises(ValueError, match=words):
        bank.append(pixels)
    assert_same(bank, filled(dtype))


def one_vector(*values) -> Pixels:
    vectors = torch.tensor([values, [1.0] * len(values)])
    return some_pixels(2, len(values))._replace(vectors=vectors)


def test_float16_neither_overflows_nor_loses_a_direction():
    bank = MemoryBank('float16')
    bank.append(one_vector(65504.0, 6.2e-5, 0.0))
    bank.append(one_vector(6.2e-5, 1e-9, 0.0))
    bank.append(one_vector(0.0, 0.0, 0.0))
    bank.append(one_vector(-65504.0, 1.0, 0.0))
    for value in (65505.0, -65520.0, 1e30):
        with pytest.raises(ValueError, match='65504.*float32') as caught:
            bank.append(one_vector(1.0, value, 0.0))
        assert f'{abs(value):g}' in str(caught.value)
    for value in (6e-5, 1e-8, -1e-20, 1e-44):
        with pytest.raises(ValueError, match="precise below.*'float32'"):
            bank.append(one_vector(value, value / 2, 0.0))
    assert len(bank) == 8


def test_uint8_takes_what_it_can_hold():
    bank = MemoryBank('uint8')
    vectors = torch.tensor([[1e30, 5e29], [0, 0], [1e-30, 5e-31], [255, 1]])
    bank.append(some_pixels(4, 2)._replace(vectors=vectors))
    error = (vectors_of(bank) - vectors).abs()
    assert (error <= vectors.amax(1, keepdim=True) / 500).all()
    assert torch.equal(vectors_of(bank)[[1, 3]], vectors[[1, 3]])
    with pytest.raises(ValueError, match='uint8.*-1.*float16'):
        bank.append(one_vector(-1.0, 2.0))
    with pytest.raises(ValueError, match="precise below.*'float32'"):
        bank.append(one_vector(1e-37, 0.0))


def test_float32_takes_all_of_float32():
    bank = MemoryBank()
    pixels = one_vector(3e38, -3e38, 1e-45)
    bank.append(pixels)
    assert torch.equal(vectors_of(bank), pixels.vectors)
    for value in (1e39, 1e-60):
        vectors = torch.tensor([[value, value]], dtype=torch.float64)
        with pytest.raises(ValueError, match="dtype='float32'"):
            MemoryBank().append(some_pixels(1, 2)._replace(vectors=vectors))


def test_a_bank_holds_copies():
    bank, pixels = MemoryBank(), some_pixels()
    bank.append(pixels)
    expected = some_pixels()
    for field in pixels:
        field.zero_()
    assert torch.equal(vectors_of(bank), expected.vectors)
    assert torch.equal(bank.field('labels'), expected.labels)


def test_nothing_is_appended_of_nothing():
    bank = MemoryBank()
    bank.append(some_pixels(0))
    assert len(bank) == 0 and bank.channels is None
    bank.append(some_pixels(3))
    bank.append(some_pixels(0))
    assert_same(MemoryBank.from_state(bank.state()), bank)
    for wrong in (None, torch.tensor(1.0), torch.ones(0, 0), torch.ones(0, 9)):
        with pytest.raises(ValueError, match='vectors'):
            bank.append(some_pixels(0)._replace(vectors=wrong))
    assert MemoryBank().vectors(torch.arange(0)).shape == (0, 0)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 119), max_size=200))
def test_vectors_of_an_index(index):
    index = torch.tensor(index, dtype=torch.long)
    for dtype in DTYPES:
        bank = filled(dtype)
        assert torch.equal(bank.vectors(index), vectors_of(bank)[index])


def test_changes_are_counted():
    bank = MemoryBank()
    seen = [bank.changes]
    for change in (
        lambda: bank.append(some_pixels()),
        lambda: bank.remove(labels=[1]),
        lambda: bank.remove(images=[0]),
        lambda: bank.keep(torch.arange(3)),
    ):
        change()
        assert bank.changes > seen[-1]
        seen.append(bank.changes)
    bank.field('labels'), list(bank.blocks()), bank.state(), len(bank)
    assert bank.changes == seen[-1]


@pytest.mark.parametrize(
    'numbers',
    [3, '3', b'3', [True], [1.0], ['1'], [-1], [None], [2**63], [[1]]]
    + [torch.tensor([0.5]), torch.tensor([True]), torch.tensor(1), {0.5}],
)
@pytest.mark.parametrize('name', ['labels', 'images', 'index'])
def test_what_is_no_number_is_refused(name, numbers):
    bank = filled()
    with pytest.raises(ValueError, match=f'{name} must be a list of integers'):
        bank.keep(numbers) if name == 'index' else bank.remove(
            **{name: numbers}
        )
    assert_same(bank, filled())


def test_removal_of_what_is_not_there():
    bank = filled()
    assert bank.remove(labels=[99], images=[2**62]) == 0
    assert bank.remove(labels=[]) == 0
    with pytest.raises(ValueError, match='labels or the images'):
        bank.remove()
    assert_same(bank, filled())
    assert bank.remove(labels=np.arange(3)) == 90
    assert bank.remove(labels=torch.tensor([3])) == 30
    assert len(bank) == 0 and bank.channels is None
    bank.append(some_pixels(channels=9))  # a new beginning
    assert bank.channels == 9


@pytest.mark.parametrize('index', [[1, 0], [3, 3], [0, 120], [7, 8, 8]])
def test_keep_takes_an_ascending_index(index):
    bank = filled()
    with pytest.raises(ValueError, match=r'ascend without doubles.*0..119'):
        bank.keep(torch.tensor(index))
    assert_same(bank, filled())


def test_keep_of_an_index():
    bank = filled('uint8')
    index = torch.tensor([0, 39, 40, 119])
    bank.keep(index)
    assert torch.equal(vectors_of(bank), vectors_of(filled('uint8'))[index])
    for name in FIELDS:
        assert torch.equal(bank.field(name), filled().field(name)[index])
    bank.keep([])
    assert len(bank) == 0


def test_labels_fit_the_classes():
    bank = filled()
    bank.check_labels(4)
    with pytest.raises(ValueError, match='the head holds the label 3, but'):
        bank.check_labels(3, 'the head')
    MemoryBank().check_labels(1)


@pytest.mark.parametrize('scale', [1e-30, 1e-19, 1.0, 1e19, 1e30])
@pytest.mark.parametrize('mode', ['pixel', 'pooled'])
def test_scales_do_not_change_what_is_memorised(mode, scale):
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(3, 5, 4, 4, generator=generator)
    plane = FeaturePlane(in_channels=5).eval()
    ids = torch.arange(3)
    keep = dict(keep=5) if mode == 'pixel' else {}
    plain = bottleneck_pixels(maps, ids, ids, plane, mode, **keep)
    scaled = bottleneck_pixels(maps * scale, ids, ids, plane, mode, **keep)
    torch.testing.assert_close(scaled.vectors / scale, plain.vectors)
    torch.testing.assert_close(scaled.positions, plain.positions)


@pytest.mark.parametrize('batch', [1, 2, 5])
def test_of_equal_energies_the_first_pixels_are_kept(batch):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 3, (10, 7, 5, 5), generator=generator).float()
    plane = FeaturePlane(in_channels=7).eval()
    found = [
        bottleneck_pixels(part, ids, ids, plane, keep=6).positions
        for part, ids in zip(maps.split(batch), torch.arange(10).split(batch))
    ]
    places = bottleneck_pixels(
        maps[:1], torch.zeros(1).long(), torch.zeros(1).long(), plane
    ).positions
    expected = []
    for one in maps:
        energies = one.square().sum(0).flatten().tolist()
        order = sorted(range(25), key=lambda i: (-energies[i], i))[:6]
        expected.append(places[sorted(order)])
    assert torch.equal(torch.cat(found), torch.cat(expected))


def test_a_file_is_one_safetensors_file(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled('uint8').save(file)
    tensors = load_file(str(file))
    assert tensors.keys() == filled('uint8').state().keys()
    note = json.loads(tensors['metadata'].numpy().tobytes())
    assert note['identity'] == IDENTITY and note['version'] == 2
    assert (note['blocks'], note['pixels'], note['channels']) == (3, 120, 6)


@pytest.mark.parametrize(
    'index, words',
    [
        ([1], r'index=\[1\] must be a Tensor'),
        (torch.tensor(1), r'index of shape \(\) and type torch.int64'),
        (torch.tensor([1.0]), 'index of shape .* torch.float32'),
        (torch.tensor([3, -1]), 'index holds -1..3, .* within 0..119'),
        (torch.tensor([120]), 'index holds 120..120, .* within 0..119'),
    ],
    ids=str,
)
def test_what_is_no_index_is_refused(index, words):
    with pytest.raises(ValueError, match=words):
        filled().vectors(index)


def test_a_file_is_a_path():
    with pytest.raises(ValueError, match='file=3 must be a string or a Path'):
        filled().save(3)


@pytest.mark.parametrize(
    'maps', [torch.ones(1, 3, 0, 2), torch.ones(1, 3, 2, 2).cfloat()], ids=str
)
def test_pixels_are_cut_from_real_maps(maps):
    ids = torch.zeros(1).long()
    with pytest.raises(ValueError, match='^intensity'):
        bottleneck_pixels(maps, ids, ids, FeaturePlane(in_channels=3))


@pytest.mark.parametrize(
    'height, width, places',
    [
        (1, 1, [(0, 0)]),
        (1, 2, [(-1, 0), (1, 0)]),
        (2, 1, [(0, 1), (0, -1)]),
        (1, 3, [(-1, 0), (0, 0), (1, 0)]),
        # The corners of 3 x 2 lie at the distance sqrt(1 + 1/4).
        (3, 2, np.array([(-1, 2), (1, 2), (-1, 0), (1, 0), (-1, -2), (1, -2)])),
    ],
)
def test_places_on_the_smallest_maps(height, width, places):
    maps, ids = torch.rand(1, 3, height, width), torch.zeros(1).long()
    plane = FeaturePlane(in_channels=3).eval()
    found = bottleneck_pixels(maps, ids, ids, plane).positions
    places = torch.as_tensor(np.array(places)) / (5**0.5 if height > 2 else 1)
    torch.testing.assert_close(found, places.float())


@pytest.mark.parametrize('keep', [3, 4, 5, 2**31 - 1])
def test_no_more_pixels_are_kept_than_there_are(keep):
    generator = torch.Generator().manual_seed(0)
    maps, ids = torch.rand(2, 3, 2, 2, generator=generator), torch.arange(2)
    plane = FeaturePlane(in_channels=3).eval()
    every = bottleneck_pixels(maps, ids, ids, plane)
    found = bottleneck_pixels(maps, ids, ids, plane, keep=keep)
    assert len(found.labels) == min(2 * keep, 8)
    if keep > 3:
        assert all(torch.equal(one, two) for one, two in zip(every, found))


def test_numbers_at_the_ends_of_their_ranges():
    """A place or a hue may be off by rounding, and by no more."""
    pi = torch.tensor(np.pi).float()
    for field, ends, beyond in (
        ('positions', (-1.00005, 1.00005), (-1.0002, 1.0002)),
        ('hues', (-pi, pi), (-3.1416, 3.1416)),
        ('labels', (0, 2**63 - 1), (-1,)),
        ('images', (0, 2**63 - 1), (-1,)),
    ):
        bank, whole = MemoryBank(), some_pixels()
        values = getattr(whole, field)
        for end in ends:
            bank.append(whole._replace(**{field: changed(values, end)}))
        assert len(bank) == 80
        for wrong in beyond:
            with pytest.raises(ValueError, match=f'the pixels: {field} '):
                bank.append(whole._replace(**{field: changed(values, wrong)}))
    bank = filled()
    bank.check_labels(4), bank.check_labels(2**31 - 1)
    assert bank.remove(images=[2**63 - 1]) == 0
    assert torch.equal(
        bank.vectors(torch.tensor([119]))[0], vectors_of(bank)[-1]
    )


@pytest.mark.parametrize(
    'dtype, least',
    [('float32', 2.0**-149), ('float16', 2.0**-14), ('uint8', 255 * 2.0**-126)],
)
def test_the_least_numbers_that_are_stored(dtype, least):
    """Denormals of float16 and of scales have not all of their digits."""
    pixels = some_pixels(1, 2)
    bank = MemoryBank(dtype)
    vectors = torch.tensor([[least, 0.0]], dtype=torch.float64)
    bank.append(pixels._replace(vectors=vectors))
    assert vectors_of(bank)[0, 0] == least
    with pytest.raises(ValueError, match=f"'{dtype}' is not precise below"):
        bank.append(pixels._replace(vectors=vectors * (1 - 1e-7)))


def test_names_and_pieces_of_an_identity_have_their_lengths():
    for identity in ({'n': ''}, {'n' * 64: 'p' * 1024}):
        bank = MemoryBank(identity=identity)
        assert (
            MemoryBank.from_state(bank.state(), identity).identity == identity
        )
    for identity in ({'n' * 65: ''}, {'n': 'p' * 1025}):
        with pytest.raises(ValueError, match='MemoryBank.identity'):
            MemoryBank(identity=identity)


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


def test_roots_are_rounded_as_pythons():
    values = torch.rand(
        500, generator=torch.Generator().manual_seed(0)
    ).double()
    expected = [math.sqrt(value) for value in values.tolist()]
    assert square_root(values).tolist() == expected
    assert square_root(torch.ones(2, 3, device='meta')).shape == (2, 3)


def test_unit_vectors_by_hand():
    vectors = torch.tensor([[3.0, -4.0], [0, 0], [0, -1e-45], [3e38, 3e38]])
    root = 0.5**0.5
    expected = torch.tensor([[0.6, -0.8], [0, 0], [0, -1], [root, root]])
    torch.testing.assert_close(
        unit(vectors), expected.double(), atol=1e-7, rtol=0
    )
    length = unit(vectors).norm(dim=1)[[0, 2, 3]]
    torch.testing.assert_close(
        length, torch.ones(3).double(), atol=1e-15, rtol=0
    )


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'uint8'])
def test_blocks_are_copies(dtype):
    bank = filled(dtype)
    before = vectors_of(bank)
    for block in bank.blocks():
        block.zero_()
    assert torch.equal(vectors_of(bank), before) and before.any()


def test_what_changes_a_filled_bank_is_named():
    bank = filled()
    bank.keep(torch.arange(100))  # of the filling
    bank.finish()
    bank.remove(labels=[99])
    bank.keep(torch.arange(100))
    assert bank.identity == IDENTITY  # as nothing went
    bank.remove(labels=[2])
    bank.append(some_pixels(first_image=50))
    assert bank.identity == dict(IDENTITY, changes='append, remove')
    with pytest.raises(ValueError, match="other changes .'append, remove'"):
        MemoryBank.from_state(bank.state(), IDENTITY)
    again = MemoryBank.from_state(filled().state(), IDENTITY)
    again.keep([0, 1])
    assert again.identity['changes'] == 'keep'
    assert filled().changes != filled().changes
