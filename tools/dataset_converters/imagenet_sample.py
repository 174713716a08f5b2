"""Write a small folder in the layout of ImageNet-1k, to try a config on.

The images are crops of the two photographs that scikit-learn ships, under the
names of ImageNet's first classes: real JPEG files, whose labels mean nothing.
MMPretrain's ``ImageNet`` reads ``OUT/{train,val}/{wnid}/*.JPEG`` by the lists
``OUT/meta/{train,val}.txt``.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path

with needs('lab'):
    from sklearn.datasets import load_sample_images

#: The first classes of ImageNet-1k, labels 0 to 3.
WNIDS = ('n01440764', 'n01443537', 'n01484850', 'n01491361')
_SIDES = (256, 384)  # of a crop in pixels, both included


def write_sample(out: Path, images: int = 4, seed: int = 0) -> None:
    """Write the folder, at once or not at all.

    Args:
        out (Path): Must not exist yet.
        images (int): Images of each class in each split, >= 1.
        seed (int): Of the crops, >= 0.

    Raises:
        FileExistsError: If ``out`` exists.
        ValueError: If ``images`` is less than 1, or ``seed`` than 0.
    """
    if images < 1:
        raise ValueError(f'images={images} must be >= 1')
    if seed < 0:
        raise ValueError(f'seed={seed} must be >= 0')
    photographs = load_sample_images().images
    rng = np.random.default_rng(seed)
    with new_folder(out) as part:
        (part / 'meta').mkdir()
        for split in ('train', 'val'):
            lines = []
            for label, wnid in enumerate(WNIDS):
                (part / split / wnid).mkdir(parents=True)
                for index in range(images):
                    name = f'{wnid}/{wnid}_{index}.JPEG'
                    crop = _crop(photographs[index % len(photographs)], rng)
                    Image.fromarray(crop).save(part / split / name)
                    lines.append(f'{name} {label}\n')
            (part / 'meta' / f'{split}.txt').write_text(''.join(lines))


def _crop(photograph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    height, width = rng.integers(_SIDES[0], _SIDES[1], 2, endpoint=True)
    top = rng.integers(photograph.shape[0] - height, endpoint=True)
    left = rng.integers(photograph.shape[1] - width, endpoint=True)
    return photograph[top : top + height, left : left + width]


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write a small folder in the layout of ImageNet-1k'
    )
    parser.add_argument('out', type=new_path)
    parser.add_argument(
        '--images', type=int, default=4, help='of each class and split'
    )
    parser.add_argument('--seed', type=int, default=0, help='of the crops')
    args = parser.parse_args()
    try:
        write_sample(args.out, args.images, args.seed)
    except ValueError as error:
        parser.error(f'--{error}')
    print(f'{args.out}: {2 * len(WNIDS) * args.images} images')


if __name__ == '__main__':
    main()
