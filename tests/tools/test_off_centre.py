"""Objects pasted off the centre: where they lie, and what the table says."""

import csv
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from twins import load_tool


@pytest.fixture(scope='module')
def tool():
    return load_tool('dataset_converters/off_centre.py')


TOOL = load_tool('dataset_converters/off_centre.py')


def write(tool, folder, out, *options):
    out.mkdir()
    return tool.write(folder, out, *options)


@pytest.fixture(scope='module')
def drawings(tmp_path_factory):
    """Black squares in two splits; one is called the same in both classes."""
    folder = tmp_path_factory.mktemp('drawings')
    for name in ('train/a/one', 'train/a/two', 'train/b/one', 'test/a/three'):
        file = folder / f'{name}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (8, 8)).save(file)
    return folder


@given(
    st.integers(3, 300),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32 - 1),
    st.text(max_size=20),
)
def test_objects_lie_on_the_canvas_and_off_its_middle(canvas, size, seed, name):
    paste = TOOL.Paste(canvas, size, 'off-centre', seed=seed)
    room = canvas - paste.side
    if room < 2:
        with pytest.raises(ValueError, match='no room'):
            TOOL.make_paste(canvas, size, 'off-centre')
        return
    left, top = corner = TOOL.corner_of(paste, name)
    assert 0 <= left <= room and 0 <= top <= room
    assert corner == TOOL.corner_of(paste, name)
    far = max(abs(left - room / 2), abs(top - room / 2))
    assert far >= room / 4
    # The middle itself is the middle to the pixel.
    middle = TOOL.corner_of(paste._replace(place='centre'), name)
    assert middle == (room / 2, room / 2) or paste.side == 1


def test_places_fill_the_ring_evenly(tool):
    paste = tool.make_paste(100, 0.2, 'off-centre')
    corners = np.array([tool.corner_of(paste, str(k)) for k in range(2000)])
    offsets = corners - (100 - paste.side) / 2
    assert abs(offsets.mean(0)).max() < 3  # 6 standard errors
    quadrants = np.unique(np.sign(offsets + 0.1), axis=0, return_counts=True)[1]
    assert len(quadrants) == 4 and quadrants.min() > 400


@pytest.mark.parametrize('place', ['centre', 'off-centre'])
def test_the_table_says_where_the_object_is(tool, drawings, tmp_path, place):
    paste = tool.make_paste(40, 0.5, place, seed=3)
    corners = write(tool, drawings, tmp_path / 'out', paste)
    with (tmp_path / 'out/places.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['file'] for row in rows] == [f'{name}.png' for name in corners]
    for row in rows:
        pixels = np.asarray(Image.open(tmp_path / 'out' / row['file']))
        assert pixels.shape == (40, 40, 3)
        ys, xs = np.nonzero((pixels == 0).all(2))
        assert (xs.min(), ys.min()) == (int(row['left']), int(row['top']))
        assert len(xs) == 20 * 20 == int(row['side']) ** 2
        assert (pixels.sum() / 255) == 3 * (40 * 40 - 20 * 20)
        # Shares of the canvas: from the middle of one to that of the other.
        assert float(row['right_of']) == pytest.approx(
            (xs.mean() - 19.5) / 40, abs=1e-4
        )
        assert float(row['below']) == pytest.approx(
            (ys.mean() - 19.5) / 40, abs=1e-4
        )
    if place == 'off-centre':
        assert len(set(corners.values())) > 1


def test_a_part_of_a_folder_has_the_places_of_the_whole(
    tool, drawings, tmp_path
):
    paste = tool.make_paste(60, 0.3, 'off-centre')
    whole = write(tool, drawings, tmp_path / 'whole', paste)
    part = write(tool, drawings / 'train', tmp_path / 'part', paste, 'one*')
    assert part == {name: whole[f'train/{name}'] for name in ('a/one', 'b/one')}
    assert part['a/one'] != part['b/one']
    other = write(tool, drawings, tmp_path / 'x', paste._replace(seed=1))
    assert other != whole
    for name in part:
        pictures = [
            (tmp_path / place / f'{name}.png').read_bytes()
            for place in ('part', 'whole/train')
        ]
        assert pictures[0] == pictures[1]


def test_what_is_transparent_shows_the_canvas(tool, tmp_path):
    (tmp_path / 'in/a').mkdir(parents=True)
    Image.new('RGBA', (4, 4), (0, 0, 0, 0)).save(tmp_path / 'in/a/x.png')
    paste = tool.make_paste(20, 1.0, background='#102030')
    write(tool, tmp_path / 'in', tmp_path / 'out', paste)
    pixels = np.asarray(Image.open(tmp_path / 'out/a/x.png'))
    assert (pixels == (16, 32, 48)).all()


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(size=0), 'size=0 must be'),
        (dict(size=1.5), 'size=1.5 must be'),
        (dict(canvas=0), 'canvas=0 must be'),
        (dict(seed=-1), 'seed=-1 must be'),
        (dict(place='left'), "place='left'"),
        (dict(background='whitish'), "background='whitish'"),
        (dict(size=1.0, place='off-centre'), 'no room'),
    ],
)
def test_wrong_options_are_named(tool, options, words):
    with pytest.raises(ValueError, match=words):
        tool.make_paste(**options)


@pytest.mark.parametrize(
    'names, words',
    [
        ([], 'holds no picture'),
        (['a.png'], 'beside its folders'),
        (['a/x.png', 'a/x.jpg'], 'suffix alone'),
    ],
)
def test_wrong_folders_are_named(tool, tmp_path, names, words):
    folder = tmp_path / 'in'
    (folder / 'a').mkdir(parents=True)
    for name in names:
        Image.new('L', (2, 2)).save(folder / name)
    with pytest.raises(ValueError, match=words):
        write(tool, folder, tmp_path / 'out', tool.Paste())


@pytest.mark.parametrize('pattern', ['/elsewhere/*.png', ''])
def test_patterns_stay_in_the_folder(tool, drawings, tmp_path, pattern):
    with pytest.raises(ValueError, match='pattern=.* files below the folder'):
        write(tool, drawings, tmp_path / 'out', tool.Paste(), pattern)


def test_pictures_are_pasted_as_viewers_show_them(tool, tmp_path):
    """Grey values of 16 bits keep their shades, turns are taken."""
    (tmp_path / 'in/a').mkdir(parents=True)
    deep = np.full((4, 4), 128 * 256, np.uint16)
    Image.fromarray(deep).save(tmp_path / 'in/a/deep.png')
    exif = Image.Exif()
    exif[274] = 6
    halves = np.repeat(np.uint8([[0, 0, 255, 255]]), 4, 0)
    Image.fromarray(halves).save(tmp_path / 'in/a/turned.png', exif=exif)
    paste = tool.make_paste(4, 1.0)
    write(tool, tmp_path / 'in', tmp_path / 'out', paste)
    pixels = np.asarray(Image.open(tmp_path / 'out/a/deep.png'))
    assert (pixels == 128).all()
    pixels = np.asarray(Image.open(tmp_path / 'out/a/turned.png'))[..., 0]
    np.testing.assert_array_equal(pixels, halves.T)


def test_pictures_that_are_too_large_are_named(tool, tmp_path, monkeypatch):
    (tmp_path / 'in/a').mkdir(parents=True)
    Image.new('L', (40, 40)).save(tmp_path / 'in/a/x.png')
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    with pytest.raises(ValueError, match='x.png is no picture.*bomb'):
        write(tool, tmp_path / 'in', tmp_path / 'out', tool.make_paste(8, 0.5))


def test_as_a_command(tool, drawings, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'
    argv = ['off_centre.py', str(drawings), str(out), '--size', '0.25']
    monkeypatch.setattr(sys, 'argv', argv)
    tool.main()
    assert '4 pictures, objects of 56 pixels' in capsys.readouterr().out
    tool.main()
    assert 'nothing to do' in capsys.readouterr().out
    argv[-1] = '0.5'
    with pytest.raises(SystemExit):
        tool.main()
    assert 'size=0.25, and not 0.5' in capsys.readouterr().err
    broken = tmp_path / 'broken'
    (broken / 'a').mkdir(parents=True)
    (broken / 'a/x.png').write_bytes(b'no picture')
    argv[1:3] = str(broken), str(tmp_path / 'other')
    with pytest.raises(SystemExit):
        tool.main()
    assert 'x.png is no picture' in capsys.readouterr().err
    assert not (tmp_path / 'other').exists()
