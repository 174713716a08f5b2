"""Write Open Clip Art as an image folder.

    apt-get download openclipart-png
    dpkg-deb -x openclipart-png_*.deb clipart
    python tools/dataset_converters/clipart.py clipart data/clipart

The drawings are in the public domain. The classes are Debian's categories,
``CATEGORY.SUBCATEGORY`` where there are two, with at least 40 drawings. Icons
and stars, which are most of the package and each other's variants, are left
out, and so are categories that do not say what is drawn. Drawings of a folder
whose names begin with the same word (numbered variants, an artist's series) are
never divided between the splits, and what that leaves with less than five
drawings of a split is no class.
MMPretrain's ``CustomDataset`` reads ``OUT/{train,val,test}/CLASS/*.png``, 64
pixels high and wide, on white.
"""

import argparse
import re
from collections import Counter
from pathlib import Path
from typing import Dict, Sequence

from PIL import Image

from u1_plugin.lab.image_folders import (
    common_classes,
    on_white,
    run_converter,
    split_kinds,
)

SIDE = 64
#: Drawings of a class, in all and in each split.
LEAST, LEAST_OF_SPLIT = 40, 5
SHARES = dict(train=0.5, val=0.15, test=0.35)
_LEFT_OUT = {'icons', 'stars', 'special', 'unsorted'}


def class_of(folders: Sequence[str]) -> str:
    """Of a drawing's folders below ``png``; '' to leave it out."""
    if _LEFT_OUT.intersection(folders):
        return ''
    return '.'.join(folders[:2])


def find_drawings(folder: Path) -> Dict[Path, str]:
    """Drawings and their classes.

    Raises:
        ValueError: If there are none.
    """
    roots = [p for p in folder.rglob('png') if p.parent.name == 'openclipart']
    labels = {}
    for root in roots:
        for file in sorted(root.rglob('*.png')):
            label = class_of(file.relative_to(root).parts[:-1])
            if label and not file.is_symlink():
                labels[file] = label
    counts = Counter(labels.values())
    labels = {f: label for f, label in labels.items() if counts[label] >= LEAST}
    if not labels:
        raise ValueError(
            f'clipart={str(folder)!r} has no drawings in openclipart/png; '
            "unpack Debian's openclipart-png"
        )
    return labels


def kind_of(file: Path) -> str:
    """What variants of a drawing have in common: folder and first word."""
    words = re.split(r'[-_.\d]+', file.stem.lower())
    return f'{file.parent.name}/{words[0] or file.stem}'


def write_clipart(folder: Path, out: Path, seed: int = 0) -> Dict[str, int]:
    """Write the folders of the splits.

    Args:
        folder (Path): See :func:`find_drawings`.
        out (Path): An existing folder.
        seed (int): Of the splits.

    Returns:
        Dict[str, int]: Images of each split.

    Raises:
        ValueError: If there are no drawings.
    """
    counts: Dict[str, int] = Counter()
    labels = find_drawings(folder)
    kinds = {file: kind_of(file) for file in labels}
    splits = split_kinds(labels, kinds, SHARES, seed)
    classes = set(common_classes(labels, splits, LEAST_OF_SPLIT))
    for split, files in splits.items():
        for file in (f for f in files if labels[f] in classes):
            target = out / split / labels[file]
            target.mkdir(parents=True, exist_ok=True)
            try:
                with Image.open(file) as image:
                    drawn = on_white(image, SIDE)
            except (OSError, Image.DecompressionBombError):
                continue  # a few are empty, or larger than 178 million px
            drawn.save(target / f'{file.parent.name}-{file.name}')
            counts[split] += 1
    return dict(counts)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write Open Clip Art as an image folder'
    )
    parser.add_argument('clipart', type=Path, help='the unpacked package')
    parser.add_argument('out', type=Path, help='a new folder')
    run_converter(
        parser, lambda args: write_clipart(args.clipart, args.out, args.seed)
    )


if __name__ == '__main__':
    main()
