"""Paste the objects of an image folder at a size and a place of one's choice.

    python tools/dataset_converters/off_centre.py data/emoji58 \\
        data/emoji58-off-0.5 --size 0.5 --place off-centre

Whether anything survives the loss of centring can only be asked of the same
objects in other places. Every picture of the folder is resized to a square of
``--size`` (its share of the canvas's side) and pasted onto a plain canvas:
in the middle, or at a place drawn for it, at least half as far from the middle,
along x or y, as the canvas allows. Folders of classes (and of splits above
them) stay as they are, ``OUT/.../CLASS/NAME.png``, and ``OUT/places.csv`` says
of each picture where it lies. The place depends on ``--seed`` and the picture's
class and name alone, so that a part of a folder has the places of the whole.

The background is where the object is not: use it on drawings whose own
background is the canvas's colour (``emoji.py``, ``clipart.py``: white).
"""

import argparse
import csv
from hashlib import sha256
from pathlib import Path
from typing import Dict, NamedTuple, Tuple

import numpy as np
from PIL import Image, ImageColor

from u1_plugin.lab.image_folders import as_rgba, run_converter
from u1_plugin.options import Count, Seed, Share, checked

PLACES = ('centre', 'off-centre')
SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp', '.webp')
#: The least distance from the middle, of what the canvas allows.
LEAST = 0.5
COLUMNS = ('file', 'left', 'top', 'side', 'canvas', 'right_of', 'below')


class Paste(NamedTuple):
    """How objects are pasted."""

    canvas: int = 224  # side, pixels
    size: float = 0.5  # side of the object as a share of canvas, in (0, 1]
    place: str = 'centre'  # one of PLACES
    background: str = 'white'  # a colour that Pillow knows
    seed: int = 0  # of the places

    @property
    def side(self) -> int:
        """Of the object, pixels; as odd or even as the canvas.

        So that the middle is the middle to the pixel.
        """
        side = max(1, round(self.canvas * self.size))
        return side - (side - self.canvas) % 2 if side > 1 else side


@checked()
def make_paste(
    canvas: Count = 224,
    size: Share = 0.5,
    place: str = 'centre',
    background: str = 'white',
    seed: Seed = 0,
) -> Paste:
    """Checked options.

    Raises:
        ValueError: If one is out of its range, or nothing can be off centre.
    """
    if place not in PLACES:
        raise ValueError(f'place={place!r} must be one of {PLACES}')
    try:
        ImageColor.getrgb(background)
    except ValueError:
        raise ValueError(
            f'background={background!r} is no colour; give one such as white '
            "or '#808080'"
        ) from None
    paste = Paste(canvas, size, place, background, seed)
    if place == 'off-centre' and canvas - paste.side < 2:
        raise ValueError(
            f'size={size:g} of canvas={canvas} leaves no room off the centre; '
            'choose a smaller size'
        )
    return paste


def corner_of(paste: Paste, name: str) -> Tuple[int, int]:
    """Where an object's upper left corner lies.

    Args:
        paste (Paste): How.
        name (str): Of the picture, the seed's other half.

    Returns:
        Tuple[int, int]: ``(left, top)``, pixels. Off centre, all corners are
        equally likely at which ``max(|dx|, |dy|)`` of the middles is at least
        half of the largest possible one.
    """
    room = paste.canvas - paste.side
    if paste.place == 'centre':
        return room // 2, room // 2
    key = f'{paste.seed}/{name}'.encode(errors='surrogateescape')
    rng = np.random.default_rng(list(sha256(key).digest()))
    while True:  # three of four draws are far enough
        left, top = (int(k) for k in rng.integers(0, room + 1, 2))
        if max(abs(2 * left - room), abs(2 * top - room)) >= LEAST * room:
            return left, top


def pasted(picture: Image.Image, paste: Paste, corner: Tuple[int, int]):
    """The picture on its canvas, RGB; what is transparent shows the canvas."""
    canvas = Image.new('RGBA', (paste.canvas, paste.canvas), paste.background)
    square = as_rgba(picture).resize(
        (paste.side, paste.side), Image.Resampling.LANCZOS
    )
    canvas.alpha_composite(square, corner)
    return canvas.convert('RGB')


def find_files(folder: Path, pattern: str) -> Dict[str, Path]:
    """Pictures by their path in the folder, without its suffix.

    Raises:
        ValueError: If there are none, one lies in no folder of a class, two
            would be written to one file, or the pattern leads elsewhere.
    """
    if Path(pattern).is_absolute() or not pattern:
        raise ValueError(
            f'pattern={pattern!r} is of files below the folder, such as '
            "'*-google.png'"
        )
    files: Dict[str, Path] = {}
    for file in sorted(folder.rglob(pattern)):
        if not file.is_file() or file.suffix.lower() not in SUFFIXES:
            continue
        relative = file.relative_to(folder)
        if len(relative.parts) < 2:
            raise ValueError(
                f'folder={str(folder)!r} holds {file.name} beside its folders '
                'of classes; move it into one'
            )
        name = relative.with_suffix('').as_posix()
        if name in files:
            raise ValueError(
                f'{files[name]} and {file} differ in their suffix alone; '
                'rename one'
            )
        files[name] = file
    if not files:
        raise ValueError(
            f'folder={str(folder)!r} holds no picture {pattern!r}; name a '
            'folder of one folder a class'
        )
    return files


def write(
    folder: Path, out: Path, paste: Paste, pattern: str = '*'
) -> Dict[str, Tuple[int, int]]:
    """Paste every picture of a folder.

    Args:
        folder (Path): One folder a class, or these in folders of splits.
        out (Path): An existing folder.
        paste (Paste): How.
        pattern (str): Of the pictures' names, such as ``'*-google.png'``.

    Returns:
        Dict[str, Tuple[int, int]]: ``(left, top)`` by picture, pixels.

    Raises:
        ValueError: If there is no picture, or one cannot be read.
    """
    corners: Dict[str, Tuple[int, int]] = {}
    files = find_files(folder, pattern)
    middle = (paste.canvas - paste.side) / 2
    with (out / 'places.csv').open('w', newline='') as table:
        rows = csv.writer(table, lineterminator='\n')
        rows.writerow(COLUMNS)
        for name, file in files.items():
            # A picture's split is no part of it: class and name are.
            corner = corner_of(paste, '/'.join(name.split('/')[-2:]))
            target = out / f'{name}.png'
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with Image.open(file) as picture:
                    pasted(picture, paste, corner).save(target)
            except (OSError, Image.DecompressionBombError) as error:
                raise ValueError(
                    f'{file} is no picture: {error}; remove it'
                ) from error
            offset = [(k - middle) / paste.canvas for k in corner]
            rows.writerow(
                [f'{name}.png', *corner, paste.side, paste.canvas]
                + [f'{share:.4f}' for share in offset]
            )
            corners[name] = corner
    return corners


def convert(args: argparse.Namespace) -> str:
    """Paste as the command line asks; what was pasted."""
    paste = make_paste(
        args.canvas, args.size, args.place, args.background, args.seed
    )
    count = len(write(args.folder, args.out, paste, args.pattern))
    return f'{count} pictures, objects of {paste.side} pixels'


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('folder', type=Path, help='one folder a class, or splits of such')
    add('out', type=Path, help='a new folder')
    add('--size', type=float, default=0.5, help="share of the canvas's side")
    add('--place', choices=PLACES, default='off-centre')
    add('--canvas', type=int, default=224, help='side in pixels')
    add('--background', default='white', help='colour of the canvas')
    add('--pattern', default='*', help="of files, such as '*-google.png'")
    run_converter(parser, convert)


if __name__ == '__main__':
    main()
