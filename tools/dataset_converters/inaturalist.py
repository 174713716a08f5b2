"""Turn iNaturalist 2018's annotations into the lists that MMPretrain reads.

``ROOT/train2018.json`` and ``ROOT/val2018.json`` come from the competition's
site, with the images under ``ROOT/train_val2018``. The lists go to
``ROOT/meta``: a line ``train_val2018/Aves/2820/….jpg 2820`` an image.
"""

import argparse
import json
from pathlib import Path, PurePosixPath
from typing import Dict, List, Optional

from u1_plugin.files import new_folder

SPLITS = ('train2018', 'val2018')


def ranks(annotations: dict) -> Dict[int, int]:
    """Labels of the categories: the ranks of their sorted ids."""
    ids = sorted(category['id'] for category in annotations['categories'])
    return {category: label for label, category in enumerate(ids)}


def list_lines(
    annotations: dict, label_of: Optional[Dict[int, int]] = None
) -> List[str]:
    """Lines ``file label`` of one annotation file.

    Args:
        annotations (dict): With ``images`` (``id``, ``file_name``),
            ``annotations`` (``image_id``, ``category_id``) and ``categories``
            (``id``).
        label_of (dict, optional): Of each category, those of the training
            file; None ranks the categories of this one, see :func:`ranks`.

    Raises:
        ValueError: If an image has no annotation, a category without a label,
            or a name that does not fit a line or leads out of the folder.
    """
    try:
        return _lines(annotations, label_of or ranks(annotations))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"these are no annotations of iNaturalist's: "
            f'{type(error).__name__}: {error}'
        ) from error


def _lines(annotations: dict, label_of: Dict[int, int]) -> List[str]:
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
        category = category_of[image['id']]
        if category not in label_of:
            raise ValueError(
                f'image {name!r} is of category {category}, which the '
                'categories of the training file are without; take both files '
                'of one release'
            )
        label = label_of[category]
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
    label_of: Optional[Dict[int, int]] = None  # one for both splits
    with new_folder(root / 'meta') as part:
        for split in SPLITS:
            file = root / f'{split}.json'
            try:
                annotations = json.loads(file.read_text())
                lines = list_lines(annotations, label_of)
                label_of = label_of or ranks(annotations)
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
