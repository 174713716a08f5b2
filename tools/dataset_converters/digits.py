"""Write scikit-learn's scanned digits as an image folder.

``load_digits`` ships 1,797 real scans of 8x8 pixels with 17 grey levels (UCI
Optical Recognition of Handwritten Digits). The result has the layout that
MMPretrain's ``CustomDataset`` reads: ``OUT/{train,val,test}/{0..9}/*.png``.
"""

import argparse
from pathlib import Path
from typing import Dict

import numpy as np

from u1_plugin.extras import needs
from u1_plugin.lab.image_folders import (
    run_converter,
    split_indices,
    write_splits,
)

with needs('lab'):
    from sklearn.datasets import load_digits


def write_digits(out: Path, seed: int = 0) -> Dict[str, int]:
    """Write the folders of the splits.

    Args:
        out (Path): An existing folder.
        seed (int): Of the split.

    Returns:
        Dict[str, int]: Images of each split.
    """
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    splits = split_indices(digits.target, seed)
    return write_splits(out, images, digits.target, splits)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write the digits as an image folder'
    )
    parser.add_argument(
        'out', type=Path, nargs='?', default=Path('data/digits')
    )
    run_converter(parser, lambda args: write_digits(args.out, args.seed))


if __name__ == '__main__':
    main()
