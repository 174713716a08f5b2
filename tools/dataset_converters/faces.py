"""Write scikit-image's face set as an image folder.

``skimage.data.lfw_subset`` ships 100 faces of Labeled Faces in the Wild and
100 crops of the same photographs without a face, 25x25 grey pixels each. The
result has the layout that MMPretrain's ``CustomDataset`` reads:
``OUT/{train,val,test}/{face,other}/*.png``.
"""

import argparse
from pathlib import Path
from typing import Dict

import numpy as np

from u1_plugin.lab.image_folders import (
    run_converter,
    split_indices,
    write_splits,
)


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
    return images, np.repeat(['face', 'other'], len(images) // 2)


def write_faces(out: Path, seed: int = 0) -> Dict[str, int]:
    """Write the folders of the splits.

    Args:
        out (Path): An existing folder.
        seed (int): Of the split.

    Returns:
        Dict[str, int]: Images of each split.
    """
    images, labels = read_faces()
    grey = np.round(images * 255).astype(np.uint8)
    splits = split_indices(labels, seed)
    return write_splits(out, grey, labels, splits)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Write scikit-image's face set as an image folder"
    )
    parser.add_argument('out', type=Path, nargs='?', default=Path('data/faces'))
    run_converter(parser, lambda args: write_faces(args.out, args.seed))


if __name__ == '__main__':
    main()
