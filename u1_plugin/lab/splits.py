"""How a data set that comes in one piece is split."""

from typing import Dict

import numpy as np

from ..extras import needs

#: Part of each class; the same for every seed of training.
SPLITS = dict(train=0.6, val=0.2, test=0.2)


def split_indices(labels: np.ndarray, seed: int) -> Dict[str, np.ndarray]:
    """Stratified, disjoint index sets of :data:`SPLITS`.

    Args:
        labels (np.ndarray): ``(N,)``.
        seed (int): Of the draw.
    """
    with needs('lab'):
        from sklearn.model_selection import train_test_split
    train, rest = train_test_split(
        np.arange(len(labels)),
        train_size=SPLITS['train'],
        stratify=labels,
        random_state=seed,
    )
    val, test = train_test_split(
        rest, train_size=0.5, stratify=labels[rest], random_state=seed
    )
    return dict(train=train, val=val, test=test)
