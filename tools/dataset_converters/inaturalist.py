"""Turn iNaturalist 2018's annotations into the lists that MMPretrain reads.

``ROOT/train2018.json`` and ``ROOT/val2018.json`` come from the competition's
site, with the images under ``ROOT/train_val2018``. The lists go to
``ROOT/meta``: a line ``train_val2018/Aves/2820/….jpg 2820`` an image.
"""

import argparse
import json
from pathlib import Path, PurePosixPath
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
        ValueError: If an image has no annotation, or a name that does not fit
            a line or leads out of the folder.
    """
    try:
        return _lines(annotations)
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"these are no annotations of iNaturalist's: "
            f'{type(error).__name__}: {error}'
        ) from error


def _lines(annotations: dict) -> List[str]:
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
        name = image['file_name']
        parts = PurePosixPath(name).parts
        if (
            not parts
            or {'/', '..'} & set(parts)
            or name != ''.join(name.split())
        ):
            raise ValueError(
                f'image {name!r}: the lists hold relative paths without '
                'spaces; rename it'
            )
        label = label_of[category_of[image['id']]]
        lines.append(f'{name} {label}\n')
    return lines


def convert(root: Path) -> None:
    """Write ``root/meta``, at once or not at all.

    Args:
        root (Path): The data set's folder.

    Raises:
        FileExistsError: If ``root/meta`` exists.
        FileNotFoundError: If an annotation file is missing.
        ValueError: If it holds no annotations.
    """
    with new_folder(root / 'meta') as part:
        for split in SPLITS:
            file = root / f'{split}.json'
            try:
                lines = list_lines(json.loads(file.read_text()))
            except (RecursionError, ValueError) as error:
                raise ValueError(f'{file}: {error}') from error
            (part / f'{split}.txt').write_text(''.join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Turn iNaturalist 2018's annotations into lists"
    )
    parser.add_argument('root', type=Path, help='with {train,val}2018.json')
    args = parser.parse_args()
    try:
        convert(args.root)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.root / "meta"}: {", ".join(s + ".txt" for s in SPLITS)}')


if __name__ == '__main__':
    main()
