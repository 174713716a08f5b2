"""Scikit-learn's digits as class folders, for tests that train on a few."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write_digits(folder: Path, size: int = 8, **counts: int) -> None:
    """So many pictures of each class in ``folder/SPLIT/CLASS``."""
    data = load_digits()
    for c in range(10):
        pictures = iter(data.images[data.target == c] * 15)
        for split, count in counts.items():
            place = folder / split / str(c)
            place.mkdir(parents=True)
            for i in range(count):
                picture = Image.fromarray(next(pictures).astype(np.uint8))
                picture.resize((size, size)).save(place / f'{i:03}.png')
