"""Write scikit-learn's scanned digits as an image folder.

``load_digits`` ships 1,797 real scans of 8x8 pixels with 17 grey levels (UCI
Optical Recognition of Handwritten Digits). The result has the layout that
MMPretrain's ``CustomDataset`` reads: ``OUT/{train,val,test}/{0..9}/*.png``.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from u1_plugin.extras import needs
from u1_plugin.files import new_folder
from u1_plugin.lab.splits import SPLITS, split_indices

with needs('lab'):
    from sklearn.datasets import load_digits


def write_digits(out: Path, seed: int = 0) -> None:
    """Write the folder at once: an interrupted call leaves nothing at ``out``.

    Args:
        out (Path): Must not exist yet.
        seed (int): Of the split.

    Raises:
        FileExistsError: If ``out`` exists.
    """
    digits = load_digits()
    with new_folder(out) as part:
        for split, indices in split_indices(digits.target, seed).items():
            for index in indices:
                folder = part / split / str(digits.target[index])
                folder.mkdir(parents=True, exist_ok=True)
                grey = np.round(digits.images[index] * (255 / 16))
                Image.fromarray(grey.astype(np.uint8)).save(
                    folder / f'{index:04d}.png'
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write the digits as an image folder'
    )
    parser.add_argument(
        'out', type=Path, nargs='?', default=Path('data/digits')
    )
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    args = parser.parse_args()
    if args.out.exists():
        print(f'{args.out} exists, nothing to do')
        return
    try:
        write_digits(args.out, args.seed)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    count = {s: len(list((args.out / s).rglob('*.png'))) for s in SPLITS}
    print(f'{args.out}: {count}')


if __name__ == '__main__':
    main()
