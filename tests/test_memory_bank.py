"""The bank: what it keeps, what it forgets, and which files it refuses."""

import json
import os

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.geometry import energy
from u1_plugin.memory import MemoryBank, Pixels, bottleneck_pixels
from u1_plugin.nn.feature_plane import FeaturePlane


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
    bank = MemoryBank(dtype, fingerprint='resnet@layer4')
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


@pytest.mark.parametrize('dtype', ['float32', 'float16', 'uint8'])
def test_a_file_gives_the_bank_back(dtype, tmp_path):
    bank = filled(dtype)
    file = tmp_path / 'sub/bank.safetensors'
    bank.save(file)
    bank.save(file)  # again: replaced as a whole
    assert sorted(f.name for f in file.parent.iterdir()) == [
        'bank.safetensors',
        'bank.safetensors.json',
    ]
    again = MemoryBank.load(file, fingerprint='resnet@layer4', channels=6)
    assert torch.equal(vectors_of(again), vectors_of(bank))
    for name in ('labels', 'images', 'positions', 'hues'):
        assert torch.equal(again.field(name), bank.field(name))
    again.append(some_pixels())
    assert len(again) == 160


def truncated(file):
    file.write_bytes(file.read_bytes()[:-10])


def foreign(file):
    file.write_bytes(b'not a bank')


def without_note(file):
    file.with_name(file.name + '.json').unlink()


def broken_note(file):
    file.with_name(file.name + '.json').write_text('{"version": ')


def other_note(file):
    file.with_name(file.name + '.json').write_text('{"version": 1}')


def newer(file):
    note = file.with_name(file.name + '.json')
    note.write_text(json.dumps(dict(json.loads(note.read_text()), version=9)))


@pytest.mark.parametrize(
    'damage, words',
    [
        (truncated, 'checksum'),
        (foreign, 'checksum'),
        (without_note, 'no memory bank'),
        (broken_note, 'no JSON'),
        (other_note, 'lacks'),
        (newer, 'version 9'),
    ],
)
def test_a_damaged_file_is_refused(damage, words, tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    damage(file)
    with pytest.raises(ValueError, match=words) as caught:
        MemoryBank.load(file)
    assert file.name in str(caught.value)


def test_another_backbones_file_is_refused(tmp_path):
    file = tmp_path / 'bank.safetensors'
    filled().save(file)
    with pytest.raises(ValueError, match='fingerprint.*resnet@layer4.*swin'):
        MemoryBank.load(file, fingerprint='swin')
    with pytest.raises(ValueError, match='channels is 6, expected 512'):
        MemoryBank.load(file, channels=512)


def test_an_interrupted_save_leaves_no_half_file(tmp_path, monkeypatch):
    file = tmp_path / 'bank.safetensors'

    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(KeyboardInterrupt):
        filled().save(file)
    with pytest.raises(ValueError, match='no memory bank'):
        MemoryBank.load(file)
    assert not file.exists()


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="dtype='int4'"):
        MemoryBank('int4')
    bank = filled()
    with pytest.raises(ValueError, match='7 channels.*has 6'):
        bank.append(some_pixels(channels=7))
    bad = some_pixels()
    bad.vectors[0, 0] = float('nan')
    with pytest.raises(ValueError, match='NaN'):
        bank.append(bad)
    negative = some_pixels()._replace(vectors=-torch.ones(40, 6))
    with pytest.raises(ValueError, match='uint8'):
        MemoryBank('uint8').append(negative)
    with pytest.raises(ValueError, match='empty'):
        MemoryBank().field('labels')
    maps, ids = torch.rand(1, 3, 2, 2), torch.zeros(1).long()
    plane = FeaturePlane(in_channels=3).eval()
    with pytest.raises(ValueError, match="mode='pixels'"):
        bottleneck_pixels(maps, ids, ids, plane, mode='pixels')
    with pytest.raises(ValueError, match='keep=0'):
        bottleneck_pixels(maps, ids, ids, plane, keep=0)
