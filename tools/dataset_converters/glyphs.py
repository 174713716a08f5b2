"""Draw characters of many typefaces as an image folder.

    apt-get download texlive-fonts-extra
    dpkg-deb -x texlive-fonts-extra_*.deb fonts
    python tools/dataset_converters/glyphs.py fonts data/glyphs62
    python tools/dataset_converters/glyphs.py fonts data/glyphsk --set scripts
    python tools/dataset_converters/glyphs.py fonts data/glyphs62_64 --side 64

Any folder with OpenType and TrueType fonts will do; the figures of this project
are of Debian's ``texlive-fonts-extra`` 2022.20230122-4. Its fonts have free
licences of their own, named in ``usr/share/doc/texlive-fonts-extra``.

``alnum`` are the 62 letters and digits. ``scripts`` are 500 letters of Latin,
Cyrillic and Greek, at most 20 images each to train on and to test. A *family*
is never divided between the splits; fonts of one name in one folder are a
family, and so are fonts that look the same, whatever they are called (copies,
and weights of what two foundries sell). MMPretrain's ``CustomDataset`` reads
``OUT/{train,val,test}/CLASS/FONT.png``, 32 pixels high and wide (``--side``),
black on white, capitals of 17 pixels on one base line. Fonts and splits do not
depend on the size.
"""

import argparse
import re
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from u1_plugin.extras import needs
from u1_plugin.lab.image_folders import run_converter

ALNUM = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
#: Letters of each script among the 500.
SCRIPTS = dict(LATIN=220, CYRILLIC=150, GREEK=130)
SIDE, CAPITAL, BASE_LINE = 32, 17, 23
#: Sides that can be written; letters are drawn at :data:`_FINER` times 32.
SIDES = (32, 64)
_FINER = 4
#: Cosine of two fonts' letters above which they are of one family.
_SAME = 0.97
#: Fonts of a family.
_FACES = 4
#: Images of a class of ``scripts``.
_SHOTS = dict(train=20, val=6, test=20)
#: Parts of the families.
SPLITS = {
    'alnum': dict(train=0.32, val=0.12, test=0.56),
    'scripts': dict(train=0.45, val=0.1, test=0.45),
}
#: Fonts whose letters are flags, ornaments or operators.
_NO_LETTERS = ('smf', 'QTDingBits', 'drmsy')


class Face(NamedTuple):
    """A font."""

    file: Path
    family: str  # folder and first word of the name
    characters: Set[str]  # that it has
    letters: np.ndarray  # ink of ALNUM, (62, 32, 32) uint8


def draw(
    font: ImageFont.FreeTypeFont, text: str, side: int = SIDE
) -> Optional[np.ndarray]:
    """Ink of one character, ``(side, side)`` uint8, if it lies in the square.

    ``font`` is of :func:`sized`; ``side`` one of :data:`SIDES`, in pixels.
    """
    canvas = SIDE * _FINER
    image = Image.new('L', (canvas, canvas))
    origin = canvas // 2, BASE_LINE * _FINER
    left, top, right, bottom = font.getbbox(text, anchor='ms')
    inside = left + origin[0] >= 0 and right + origin[0] <= canvas
    if not inside or top + origin[1] < 0 or bottom + origin[1] > canvas:
        return None
    ImageDraw.Draw(image).text(origin, text, fill=255, font=font, anchor='ms')
    # Too thin at 32 pixels is left out at every size.
    if np.asarray(image.reduce(_FINER)).max() <= 64:
        return None
    return np.asarray(image.reduce(canvas // side))


def sized(file: Path) -> Optional[ImageFont.FreeTypeFont]:
    """The font, so large that its H is :data:`CAPITAL` pixels high."""
    layout = ImageFont.Layout.BASIC
    trial = ImageFont.truetype(str(file), 200, layout_engine=layout)
    _, top, _, bottom = trial.getbbox('H', anchor='ls')
    if not 40 < bottom - top < 400:
        return None
    size = round(200 * CAPITAL * _FINER / (bottom - top))
    return ImageFont.truetype(str(file), size, layout_engine=layout)


def read_face(file: Path) -> Optional[Face]:
    """A font whose letters and digits all differ, or None."""
    if file.stem.startswith(_NO_LETTERS):
        return None
    with needs('datasets'):  # a folder that exists is checked without
        from fontTools.ttLib import TTFont, TTLibError
    try:
        with TTFont(file, lazy=True) as tables:
            characters = set(map(chr, tables.getBestCmap() or ()))
            name = tables['name'].getBestFamilyName() or file.stem
        if not characters.issuperset(ALNUM):
            return None
        font = sized(file)
        drawn = [font and draw(font, character) for character in ALNUM]
    except (OSError, TTLibError):  # no font, or a broken one
        return None
    if any(ink is None for ink in drawn):
        return None
    # Not one that draws capitals for small letters, or O for zero.
    if len({ink.tobytes() for ink in drawn}) < len(ALNUM):
        return None
    word = re.match(r'[^\W\d]*', name)[0] or name
    return Face(file, f'{file.parent.name}-{word}', characters, np.array(drawn))


def merge_families(faces: Sequence[Face]) -> List[Face]:
    """Families whose letters look the same become one.

    The order of the fonts stays.
    """
    ink = np.stack([face.letters.ravel() for face in faces]).astype(np.float32)
    ink /= np.linalg.norm(ink, axis=1, keepdims=True)
    names = np.array([face.family for face in faces])
    for first, second in zip(*np.nonzero(np.triu(ink @ ink.T > _SAME, 1))):
        if names[first] != names[second]:
            names[names == names[second]] = names[first]
    return [face._replace(family=str(n)) for face, n in zip(faces, names)]


def find_faces(folder: Path, seed: int = 0) -> List[Face]:
    """Fonts to draw, at most :data:`_FACES` of a family.

    Args:
        folder (Path): Searched with its subfolders.
        seed (int): Of the choice.

    Raises:
        ValueError: If there are fewer than 20 families.
    """
    files = sorted(
        file
        for file in folder.rglob('*')
        if file.suffix.lower() in ('.otf', '.ttf') and file.is_file()
    )
    faces = [face for face in map(read_face, files) if face]
    rng = np.random.default_rng(seed)
    chosen, families = [], defaultdict(dict)
    # One of several files with the same letters.
    for face in merge_families(faces) if faces else ():
        families[face.family].setdefault(face.letters.tobytes(), face)
    for _, by_letters in sorted(families.items()):
        kinds = list(by_letters.values())
        picked = rng.permutation(len(kinds))[:_FACES]
        chosen += [kinds[k] for k in sorted(picked)]
    if len(families) < 20:
        raise ValueError(
            f'fonts={str(folder)!r} has {len(families)} families with letters '
            'and digits, but at least 20 are needed; unpack texlive-fonts-extra'
        )
    return chosen


def split_families(
    faces: Sequence[Face], shares: Dict[str, float], seed: int = 0
) -> Dict[str, List[Face]]:
    """Fonts of each split; families are not divided."""
    families = sorted({face.family for face in faces})
    order = np.random.default_rng(seed).permutation(families)
    ends = np.round(np.cumsum(list(shares.values())) * len(order)).astype(int)
    parts = np.split(order, ends[:-1])
    return {
        split: [face for face in faces if face.family in set(part)]
        for split, part in zip(shares, parts)
    }


def pick_letters(faces: Sequence[Face]) -> List[str]:
    """Letters of several scripts that most fonts have, by code point.

    A letter that looks like an earlier one in a quarter of the fonts (Cyrillic
    A like Latin A) is left out.
    """
    counts = Counter(c for face in faces for c in face.characters)
    inks_of: Dict[str, Set[bytes]] = defaultdict(set)
    scripts = defaultdict(list)
    for letter in counts:
        script = unicodedata.name(letter, '').split(' ')[0]
        if unicodedata.category(letter)[0] == 'L' and script in SCRIPTS:
            scripts[script].append(letter)
    letters: List[str] = []
    fonts = [(n, sized(face.file)) for n, face in enumerate(faces)]
    for script, quota in SCRIPTS.items():
        taken = 0
        for letter in sorted(scripts[script], key=lambda c: (-counts[c], c)):
            inks = {
                b'%d ' % n + ink.tobytes()
                for n, font in fonts
                if letter in faces[n].characters
                and (ink := draw(font, letter)) is not None
            }
            in_common = max(
                (len(inks & earlier) for earlier in inks_of.values()), default=0
            )
            if in_common * 4 >= len(inks):
                continue
            inks_of[letter] = inks
            letters.append(letter)
            taken += 1
            if taken == quota:
                break
    return sorted(letters)


def write(
    splits: Dict[str, List[Face]],
    letters: Sequence[str],
    out: Path,
    seed: int,
    side: int = SIDE,
) -> Dict[str, int]:
    """Draw every letter of every font.

    Args:
        splits (Dict[str, List[Face]]): Fonts.
        letters (Sequence[str]): The classes.
        out (Path): Where the folder goes.
        seed (int): Of the order in which fonts are used up to the limit.
        side (int): Of the images, in pixels.

    Returns:
        Dict[str, int]: Images of each split.
    """
    written: Dict[str, int] = Counter()
    limits = _SHOTS if len(letters) > len(ALNUM) else {}
    for split, faces in splits.items():
        used: Dict[str, int] = Counter()
        for k in np.random.default_rng(seed).permutation(len(faces)):
            face = faces[k]
            font = sized(face.file)
            # A folder of .otf and one of .ttf may share their names.
            stem = f'{face.file.parent.name}-{face.file.name.replace(".", "-")}'
            for letter in letters:
                full = used[letter] >= limits.get(split, len(faces))
                if letter not in face.characters or full:
                    continue
                ink = draw(font, letter, side)
                if ink is None:
                    continue
                folder = out / split / f'U+{ord(letter):04X}'
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / f'{stem}.png').open('xb') as file:
                    Image.fromarray(255 - ink).save(file, 'png')
                used[letter] += 1
                written[split] += 1
    return dict(written)


def write_glyphs(args: argparse.Namespace) -> str:
    """Draw what the command line asks for; what was drawn."""
    faces = find_faces(args.fonts, args.seed)
    letters = pick_letters(faces) if args.set == 'scripts' else ALNUM
    splits = split_families(faces, SPLITS[args.set], args.seed)
    written = write(splits, letters, args.out, args.seed, args.side)
    families = {
        s: len({f.family for f in split_faces})
        for s, split_faces in splits.items()
    }
    return f'images {written}, families {families}'


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Draw characters of many typefaces as an image folder'
    )
    parser.add_argument('fonts', type=Path, help='folder with .otf and .ttf')
    parser.add_argument('out', type=Path, help='a new folder')
    parser.add_argument('--set', choices=list(SPLITS), default='alnum')
    parser.add_argument(
        '--side', type=int, choices=SIDES, default=SIDE, help='in pixels'
    )
    run_converter(parser, write_glyphs)


if __name__ == '__main__':
    main()
