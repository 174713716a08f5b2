"""Turn iNaturalist 2018's annotations into the lists that MMPretrain reads.

``ROOT/train2018.json`` and ``ROOT/val2018.json`` come from the competition's
site, with the images under ``ROOT/train_val2018``. The lists go to
``ROOT/meta``: a line ``train_val2018/Aves/2820/….jpg 2820`` an image.
"""

import argparse
import json
from pathlib import Path
from typing import List

from u1_plugin.files import new_folder

SPLITS = ('train2018', 'val2018')


def list_lines(annotations: dict) -> List[str]:
    """Lines ``file label`` of one annotation file.

    Args:
        annotations (dict): With ``images`` (``id``, ``file_name``),
            ``annotations`` (``image_id``, ``category_id``) and ``categories``
            (``id``). Labels are the ranks of the sorted category ids.

    Raises:
        ValueError: If an image has no annotation.
    """
    ids = sorted(category['id'] for category in annotations['categories'])
    label_of = {category: label for label, category in enumerate(ids)}
    category_of = {
        item['image_id']: item['category_id']
        for item in annotations['annotations']
    }
    lines = []
    for image in annotations['images']:
        if image['id'] not in category_of:
            raise ValueError(
                f'image {image["file_name"]!r} has no annotation; take a file '
                'with labels (train2018.json or val2018.json)'
            )
        label = label_of[category_of[image['id']]]
        lines.append(f'{image["file_name"]} {label}\n')
    return lines


def convert(root: Path) -> None:
    """Write ``root/meta``, at once or not at all.

    Args:
        root (Path): The data set's folder.

    Raises:
        FileExistsError: If ``root/meta`` exists.
        FileNotFoundError: If an annotation file is missing.
    """
    with new_folder(root / 'meta') as part:
        for split in SPLITS:
            annotations = json.loads((root / f'{split}.json').read_text())
            lines = list_lines(annotations)
            (part / f'{split}.txt').write_text(''.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Turn iNaturalist 2018's annotations into lists"
    )
    parser.add_argument('root', type=Path, help='with {train,val}2018.json')
    args = parser.parse_args()
    convert(args.root)
    print(f'{args.root / "meta"}: {", ".join(s + ".txt" for s in SPLITS)}')


if __name__ == '__main__':
    main()
