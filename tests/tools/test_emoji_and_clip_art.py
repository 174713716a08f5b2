"""Emoji are divided by emoji, and clip art by series."""

import io
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from twins import load_tool

from u1_plugin.nn import ClassAngles


def png(colour: tuple) -> bytes:
    file = io.BytesIO()
    Image.new('RGBA', (64, 64), colour).save(file, 'PNG')
    return file.getvalue()


def pack(file: Path, content: dict) -> None:
    with tarfile.open(file, 'w:gz') as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f'package/{name}')
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


@pytest.fixture
def packages(tmp_path):
    """Three packages of two classes of twelve emoji, and a class of two."""
    module = load_tool('dataset_converters/emoji.py')
    names = ['Food & Drink/fruit'] * 12 + ['Flags/flag'] * 12
    entries = []
    for n, name in enumerate(names + ['Flags/rare'] * 2):
        category, subcategory = name.split('/')
        code = f'1F{n + 16:03X}'
        entries.append((code, category, subcategory))
    entries.append(('1F468-200D-1F010', 'Food & Drink', 'fruit'))
    text = json.dumps(
        [
            dict(unified=c, category=k, subcategory=s, image=f'{c.lower()}.png')
            for c, k, s in entries
        ]
    ).encode()
    for drawer in ('google', 'twitter'):
        images = {
            f'img/{drawer}/64/{c.lower()}.png': png((9, 9, 9, 255))
            for c, _, _ in entries
        }
        pack(tmp_path / module.PACKAGES[drawer], {'emoji.json': text, **images})
    square = (
        b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">'
        b'<rect width="2" height="4" fill="#00f"/></svg>'
    )
    vectors = {f'color/svg/{c}.svg': square for c, _, _ in entries}
    pack(tmp_path / module.PACKAGES['openmoji'], vectors)
    return module, tmp_path


def test_emoji_are_divided_by_emoji_and_the_third_hand_is_apart(packages):
    module, folder = packages
    out = folder / 'out'
    counts = module.write_emoji(folder, out)
    held = {
        split: {
            (f.parent.name, f.stem.rsplit('-', 1)[0])
            for f in (out / split).rglob('*.png')
        }
        for split in ('train', 'val', 'test', 'drawer')
    }
    assert {c for c, _ in held['train']} == {'food-drink.fruit', 'flags.flag'}
    assert not held['train'] & held['test'] and not held['val'] & held['test']
    assert held['drawer'] == held['test']
    assert counts['test'] == 2 * counts['drawer'] == 2 * len(held['test'])
    # A man with something, and the thing: one kind, one split.
    both = {'1f010', '1f468-200d-1f010'}
    assert any(both <= {code for _, code in each} for each in held.values())
    (first, *_) = (out / 'drawer').rglob('*-openmoji.png')
    pixels = np.asarray(Image.open(first))
    assert (pixels[:, :30] == (0, 0, 255)).all() and (
        pixels[:, 34:] == 255
    ).all()


def test_orders_of_emoji_are_read_as_class_angles(packages, tmp_path):
    module, folder = packages
    module.write_emoji(folder, folder / 'out')
    for name in ('hierarchy', 'shuffled'):
        file = str(folder / 'out' / f'{name}.json')
        angles = ClassAngles(2, mode='ordered', file=file).angles
        assert sorted(angles.tolist()) == pytest.approx([0, math.pi])
    labels = [f'{k}.{n}' for n in range(8) for k in 'ab']
    module.write_orders(tmp_path, labels, seed=3)
    found = {}
    for name in ('hierarchy', 'shuffled'):
        file = str(tmp_path / f'{name}.json')
        order = ClassAngles(16, mode='ordered', file=file).angles
        found[name] = ''.join(labels[k][0] for k in order.argsort())
    assert found['hierarchy'] == 'a' * 8 + 'b' * 8 != found['shuffled']


def test_another_package_of_emoji_is_an_error(packages):
    module, folder = packages
    pack(folder / module.PACKAGES['google'], {'README.md': b''})
    with pytest.raises(ValueError, match='npm pack'):
        module.write_emoji(folder, folder / 'out')
    assert not (folder / 'out').exists()


def test_clip_art_keeps_series_together(tmp_path):
    module = load_tool('dataset_converters/clipart.py')
    root = tmp_path / 'usr/share/openclipart/png'
    for n in range(40):
        for place in ('animals/birds', 'food', 'shapes/stars', 'unsorted'):
            file = root / place / f'{chr(97 + n % 20)}_{n:02d}.png'
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGBA', (9, 5), (n, 0, 0, 128)).save(file)
    (root / 'food/empty_99.png').write_bytes(b'')
    out = tmp_path / 'out'
    counts = module.write_clipart(tmp_path, out)
    assert sum(counts.values()) == 80
    places = {}
    for file in out.rglob('*.png'):
        split, label, name = file.relative_to(out).parts
        assert label in ('animals.birds', 'food')
        places.setdefault((label, name.split('-')[1][0]), set()).add(split)
    assert all(len(splits) == 1 for splits in places.values())
    with pytest.raises(ValueError, match='no drawings'):
        module.write_clipart(tmp_path / 'out', tmp_path / 'again')
