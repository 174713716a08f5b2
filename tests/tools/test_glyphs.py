"""Typefaces become letters of one size, and no family is in two splits."""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from twins import load_tool

FONTS = Path(matplotlib.get_data_path()) / 'fonts/ttf'


@pytest.fixture(scope='module')
def glyphs():
    return load_tool('dataset_converters/glyphs.py')


@pytest.fixture(scope='module')
def faces(glyphs):
    files = sorted(FONTS.glob('*.ttf'))
    return [face for face in map(glyphs.read_face, files) if face]


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
