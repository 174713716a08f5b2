"""Write scikit-image's face set as an image folder.

``skimage.data.lfw_subset`` ships 100 faces of Labeled Faces in the Wild and
100 crops of the same photographs without a face, 25x25 grey pixels each. The
result has the layout that MMPretrain's ``CustomDataset`` reads:
``OUT/{train,val,test}/{face,other}/*.png``.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from u1_plugin.files import new_folder
from u1_plugin.lab.splits import SPLITS, split_indices

CLASSES = ('face', 'other')


def read_faces() -> tuple:
    """Grey images ``(200, 25, 25)`` in [0, 1], and classes ``(200,)``.

    Raises:
        ImportError: Without scikit-image.
    """
    try:
        from skimage.data import lfw_subset
    except ImportError as error:
        raise ImportError(
            'the faces come with a package: pip install scikit-image'
        ) from error
    images = lfw_subset()
    # The first half are faces.
    return images, (np.arange(len(images)) >= len(images) // 2).astype(int)


def write_faces(out: Path, seed: int = 0) -> None:
    """Write the folder at once: an interrupted call leaves nothing at ``out``.

    Args:
        out (Path): Must not exist yet.
        seed (int): Of the split.

    Raises:
        FileExistsError: If ``out`` exists.
    """
    images, labels = read_faces()
    with new_folder(out) as part:
        for split, indices in split_indices(labels, seed).items():
            for index in indices:
                folder = part / split / CLASSES[labels[index]]
                folder.mkdir(parents=True, exist_ok=True)
                grey = np.round(images[index] * 255).astype(np.uint8)
                Image.fromarray(grey).save(folder / f'{index:03d}.png')


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write scikit-image's face set as an image folder"
    )
    parser.add_argument('out', type=Path, nargs='?', default=Path('data/faces'))
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    args = parser.parse_args()
    if args.out.exists():
        print(f'{args.out} exists, nothing to do')
        return
    try:
        write_faces(args.out, args.seed)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    count = {s: len(list((args.out / s).rglob('*.png'))) for s in SPLITS}
    print(f'{args.out}: {count}')


if __name__ == '__main__':
    main()
