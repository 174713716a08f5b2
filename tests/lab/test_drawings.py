"""Converters of typefaces, emoji and clip art, on small real inputs."""

import importlib.util
import io
import json
import math
import sys
import tarfile
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from u1_plugin.lab.image_folders import common_classes, on_white, split_kinds
from u1_plugin.nn import ClassAngles

CONVERTERS = Path(__file__).resolve().parents[2] / 'tools/dataset_converters'
FONTS = Path(matplotlib.get_data_path()) / 'fonts/ttf'


def converter(name: str):
    spec = importlib.util.spec_from_file_location(
        name, CONVERTERS / f'{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def glyphs():
    return converter('glyphs')


@pytest.fixture(scope='module')
def faces(glyphs):
    files = sorted(FONTS.glob('*.ttf'))
    return [face for face in map(glyphs.read_face, files) if face]


def test_a_drawing_lies_in_the_middle_of_a_white_square():
    image = Image.new('RGBA', (40, 20), (255, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))  # left half: nothing
    found = np.asarray(on_white(image, 64))
    assert found.shape == (64, 64, 3)
    assert (found[:14] == 255).all() and (found[-14:] == 255).all()
    assert (found[20:44, :28] == 255).all()
    assert (found[20:44, 36:] == (255, 0, 0)).all()


def test_splits_divide_no_kind_and_keep_the_shares():
    rng = np.random.default_rng(0)
    classes = {n: f'class{n % 7}' for n in range(2000)}
    kinds = {n: (classes[n], int(rng.integers(60))) for n in classes}
    shares = dict(train=0.5, val=0.2, test=0.3)
    splits = split_kinds(classes, kinds, shares, seed=3)
    assert sorted(sum(splits.values(), [])) == sorted(classes)
    held = {s: {kinds[n] for n in keys} for s, keys in splits.items()}
    assert not held['train'] & held['val'] and not held['train'] & held['test']
    assert not held['val'] & held['test']
    for split, keys in splits.items():
        for name, count in Counter(classes[n] for n in keys).items():
            total = list(classes.values()).count(name)
            assert count / total == pytest.approx(shares[split], abs=0.06)
    assert splits == split_kinds(classes, kinds, shares, seed=3)
    assert splits != split_kinds(classes, kinds, shares, seed=4)


def test_a_kind_of_two_classes_goes_one_way():
    classes = {0: 'a', 1: 'a', 2: 'b', 3: 'b'}
    splits = split_kinds(
        classes, {n: n % 2 for n in classes}, dict(x=0.5, y=0.5)
    )
    assert {frozenset(keys) for keys in splits.values()} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }


def test_classes_need_drawings_in_every_split():
    classes = dict(enumerate('aabbbc'))
    splits = dict(train=[0, 2, 5], test=[1, 3, 4])
    assert common_classes(classes, splits, 1) == ['a', 'b']
    assert common_classes(classes, splits, 2) == []


def test_letters_stand_on_one_line_at_one_size(glyphs, faces):
    assert len(faces) >= 10
    for face in faces:
        ink = dict(zip(glyphs.ALNUM, face.letters > 96))
        rows = {c: np.flatnonzero(ink[c].any(1)) for c in 'Hx'}
        for letter in 'Hx':
            end = rows[letter][-1]
            assert end == pytest.approx(glyphs.BASE_LINE - 1, abs=1), face
        assert len(rows['H']) == pytest.approx(glyphs.CAPITAL, abs=1)
        assert len(rows['x']) < len(rows['H'])
        columns = np.flatnonzero(ink['H'].any(0))
        assert columns.mean() == pytest.approx(15.5, abs=2.5)


def test_fonts_that_look_the_same_are_a_family(glyphs, faces):
    sans = next(f for f in faces if f.file.stem == 'DejaVuSans')
    serif = next(f for f in faces if f.file.stem == 'STIXGeneral')
    copy = sans._replace(family='sold under another name')
    found = glyphs.merge_families([serif, copy, sans])
    assert found[1].family == found[2].family != found[0].family


def test_families_are_not_divided(glyphs, faces):
    every = [
        face._replace(family=f'{face.family}{k}')
        for k in range(10)
        for face in faces
    ]
    shares = glyphs.SPLITS['alnum']
    splits = glyphs.split_families(every, shares)
    held = {s: {face.family for face in each} for s, each in splits.items()}
    assert not held['train'] & held['test'] and not held['val'] & held['test']
    assert not held['train'] & held['val']
    assert sum(map(len, splits.values())) == len(every)
    count = sum(map(len, held.values()))
    for split, share in shares.items():
        assert len(held[split]) == pytest.approx(share * count, abs=1)


def test_letters_that_look_alike_are_one_class(glyphs, faces, monkeypatch):
    monkeypatch.setattr(
        glyphs, 'SCRIPTS', dict(LATIN=60, CYRILLIC=40, GREEK=30)
    )
    sans = [face for face in faces if face.file.stem == 'DejaVuSans']
    found = glyphs.pick_letters(sans)
    assert len(found) == len(set(found)) == 130
    # Latin, Cyrillic and Greek A are one picture in this font.
    assert len({'A', '\u0410', '\u0391'} & set(found)) <= 1


def test_glyphs_are_written_by_split_and_class(glyphs, faces, tmp_path):
    splits = dict(train=faces[:2], test=faces[2:4])
    written = glyphs.write(splits, 'aB', tmp_path, 0)
    assert written == dict(train=4, test=4)
    files = sorted(tmp_path.rglob('*.png'))
    assert {f.parent.name for f in files} == {'U+0061', 'U+0042'}
    assert np.asarray(Image.open(files[0])).shape == (32, 32)


def test_larger_letters_are_the_same_letters(glyphs, faces, tmp_path):
    """Twice the size, reduced by two, is the size; nothing else changes."""
    splits = dict(train=faces[:2], test=faces[2:3])
    for side in glyphs.SIDES:
        glyphs.write(splits, 'aB', tmp_path / f'{side}', 0, side)
    small, large = (
        {f.relative_to(tmp_path / f'{side}'): f for f in found}
        for side in glyphs.SIDES
        for found in [sorted((tmp_path / f'{side}').rglob('*.png'))]
    )
    assert set(small) == set(large) and len(small) == 6
    for name, file in large.items():
        image = Image.open(file)
        assert image.size == (64, 64)
        reduced = np.asarray(image.reduce(2), dtype=int)
        drawn = np.asarray(Image.open(small[name]), dtype=int)
        assert abs(reduced - drawn).max() <= 2  # rounded twice


def test_fonts_of_one_name_do_not_overwrite_each_other(glyphs, faces, tmp_path):
    twins = []
    for face, kind in zip(faces, ('opentype', 'truetype')):
        suffix = '.otf' if kind == 'opentype' else '.ttf'
        file = tmp_path / kind / 'name' / f'Name{suffix}'
        file.parent.mkdir(parents=True)
        file.write_bytes(face.file.read_bytes())
        twins.append(face._replace(file=file))
    out = tmp_path / 'out'
    written = glyphs.write(dict(train=twins), 'aB', out, 0)
    assert written == dict(train=4)
    assert len(list(out.rglob('*.png'))) == 4


def test_no_fonts_is_an_error_that_names_the_folder(
    glyphs, tmp_path, monkeypatch, capsys
):
    (tmp_path / 'broken.otf').write_bytes(b'no font')
    out = tmp_path / 'out'
    monkeypatch.setattr(sys, 'argv', ['glyphs.py', str(tmp_path), str(out)])
    with pytest.raises(SystemExit):
        glyphs.main()
    assert 'families with letters' in capsys.readouterr().err
    assert not out.exists()


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
    module = converter('emoji')
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
    module = converter('clipart')
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
