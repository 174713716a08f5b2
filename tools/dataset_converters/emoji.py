"""Write emoji of three drawers as an image folder.

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    npm pack openmoji@17.0.0
    pip install 'u1_plugin[datasets]'
    python tools/dataset_converters/emoji.py data/emoji58

The classes are Unicode's 58 subcategories with at least ten emoji, named
``CATEGORY.SUBCATEGORY``. Noto's and Twitter's drawings (Apache 2.0, CC BY 4.0;
the packages MIT) are divided by emoji: no emoji is in two splits, and neither
are those that differ in skin, gender or direction. ``drawer`` has the emoji of
the test split as OpenMoji (CC BY-SA 4.0) draws them: nothing of that hand is
trained on. MMPretrain's ``CustomDataset`` reads
``OUT/{train,val,test,drawer}/CLASS/EMOJI-DRAWER.png``, 64 pixels, on white;
``hierarchy.json`` and ``shuffled.json`` are orders for ``class_angles.file``.
"""

import argparse
import io
import json
import re
import tarfile
from collections import Counter
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Tuple

import numpy as np
from PIL import Image

from u1_plugin.extras import needs
from u1_plugin.lab.image_folders import on_white, run_converter, split_kinds

SIDE = 64
LEAST = 10
SHARES = dict(train=0.55, val=0.15, test=0.3)
PACKAGES = dict(
    google='emoji-datasource-google-16.0.0.tgz',
    twitter='emoji-datasource-twitter-16.0.0.tgz',
    openmoji='openmoji-17.0.0.tgz',
)
#: Joiner, variation, man, woman, person, male, female, right: no other picture.
_VARIANTS = set('200D FE0F 1F468 1F469 1F9D1 2640 2642 27A1'.split())
_LARGEST = 2**24


class Emoji(NamedTuple):
    """One of Unicode's."""

    code: str  # its code points, such as '1F1EA-1F1EC'
    label: str  # 'CATEGORY.SUBCATEGORY'
    kind: str  # what its variants have in common
    image: str  # file name of the two data sources


def read_emoji(text: bytes) -> List[Emoji]:
    """Those of classes that have at least :data:`LEAST`."""
    emojis = []
    for entry in json.loads(text):
        names = [
            re.sub('[^a-z0-9]+', '-', entry[field].lower())
            for field in ('category', 'subcategory')
        ]
        parts = [p for p in entry['unified'].split('-') if p not in _VARIANTS]
        kind = '-'.join(parts) or entry['unified']
        label = '.'.join(names)
        emojis.append(Emoji(entry['unified'], label, kind, entry['image']))
    counts = Counter(emoji.label for emoji in emojis)
    return [emoji for emoji in emojis if counts[emoji.label] >= LEAST]


class Package:
    """An npm package, read where it lies."""

    def __init__(self, file: Path) -> None:
        self._archive = tarfile.open(file)
        self._names = set(self._archive.getnames())

    def read(self, name: str) -> bytes:
        """A file of it.

        Raises:
            ValueError: If it is none or too large.
        """
        member = self._archive.getmember(f'package/{name}')
        if not member.isreg() or member.size > _LARGEST:
            raise ValueError(f'{member.name} is no file of emoji')
        return self._archive.extractfile(member).read()

    def first(self, *names: str) -> str:
        """The first of these names that it holds, or ''."""
        present = (name for name in names if f'package/{name}' in self._names)
        return next(present, '')


def drawings(
    emoji: Emoji, packages: Dict[str, Package]
) -> Iterator[Tuple[str, Image.Image]]:
    """Drawer and picture, of those who drew it."""
    for drawer in ('google', 'twitter'):
        name = packages[drawer].first(f'img/{drawer}/64/{emoji.image}')
        if name:
            data = packages[drawer].read(name)
            yield drawer, Image.open(io.BytesIO(data))
    code = emoji.code
    name = packages['openmoji'].first(
        f'color/svg/{code}.svg', f'color/svg/{code.replace("-FE0F", "")}.svg'
    )
    if name:
        with needs('datasets'):  # a folder that exists is checked without
            import resvg_py
        drawn = resvg_py.svg_to_bytes(
            svg_string=packages['openmoji'].read(name).decode(),
            width=SIDE,
            height=SIDE,
        )
        yield 'openmoji', Image.open(io.BytesIO(bytes(drawn)))


def write_emoji(folder: Path, out: Path, seed: int = 0) -> Dict[str, int]:
    """Write the folders of the splits.

    Args:
        folder (Path): With the three packages.
        out (Path): An existing folder.
        seed (int): Of the splits.

    Returns:
        Dict[str, int]: Images of each split.

    Raises:
        ValueError: If a package is another.
    """
    counts: Dict[str, int] = Counter()
    try:
        packages = {
            drawer: Package(folder / file) for drawer, file in PACKAGES.items()
        }
        emojis = read_emoji(packages['google'].read('emoji.json'))
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise ValueError(
            f'packages={str(folder)!r}: {error}; get the three with `npm pack`'
        ) from error
    splits = split_kinds(
        {emoji: emoji.label for emoji in emojis},
        {emoji: emoji.kind for emoji in emojis},
        SHARES,
        seed,
    )
    for split, split_emojis in splits.items():
        for emoji in split_emojis:
            for drawer, image in drawings(emoji, packages):
                place = split
                if drawer == 'openmoji':
                    if split != 'test':
                        continue
                    place = 'drawer'
                target = out / place / emoji.label
                target.mkdir(parents=True, exist_ok=True)
                file = target / f'{emoji.code.lower()}-{drawer}.png'
                on_white(image, SIDE).save(file)
                counts[place] += 1
    write_orders(out, sorted({emoji.label for emoji in emojis}), seed)
    return dict(counts)


def write_orders(out: Path, labels: List[str], seed: int = 0) -> None:
    """Write orders of the classes on the circle, for ``class_angles.file``.

    ``hierarchy.json`` has Unicode's, in which subcategories of a category are
    neighbours; ``shuffled.json`` is its control, an order without a meaning.

    Args:
        out (Path): Folder of the two files.
        labels (List[str]): Of the classes, in their order.
        seed (int): Of the control.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    orders = dict(
        hierarchy=[label.split('.') for label in labels],
        shuffled=[[f'{place:03d}'] for place in shuffled],
    )
    for name, paths in orders.items():
        content = json.dumps(dict(hierarchy=paths))
        (out / f'{name}.json').write_text(content)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write emoji of three drawers as an image folder'
    )
    parser.add_argument('out', type=Path, help='a new folder')
    parser.add_argument(
        '--packages', type=Path, default=Path('.'), help='folder of the .tgz'
    )
    run_converter(
        parser, lambda args: write_emoji(args.packages, args.out, args.seed)
    )


if __name__ == '__main__':
    main()
