"""How a data set that comes in one piece is split."""

from typing import Dict

import numpy as np

from ..extras import needs
from ..options import Seed, checked

#: Part of each class; the same for every seed of training.
SPLITS = dict(train=0.6, val=0.2, test=0.2)


@checked()
def split_indices(labels: np.ndarray, seed: Seed) -> Dict[str, np.ndarray]:
    """Stratified, disjoint index sets of :data:`SPLITS`.

    Args:
        labels (np.ndarray): ``(N,)``.
        seed (int): Of the draw.

    Raises:
        ValueError: If a class has too few images.
    """
    with needs('lab'):
        from sklearn.model_selection import train_test_split
    try:
        train, rest = train_test_split(
            np.arange(len(labels)),
            train_size=SPLITS['train'],
            stratify=labels,
            random_state=seed,
        )
        val, test = train_test_split(
            rest, train_size=0.5, stratify=labels[rest], random_state=seed
        )
    except ValueError as error:
        raise ValueError(
            f'labels: {len(labels)} images cannot be split class by class: '
            f'{error}; give more of each'
        ) from error
    return dict(train=train, val=val, test=test)
