"""Which training images a memory holds."""

from typing import List

import numpy as np


def few_shot(labels: np.ndarray, shots: int, seed: int) -> np.ndarray:
    """Positions of so many images of every class, in ascending order.

    Args:
        labels (np.ndarray): ``(N,)``.
        shots (int): n of each class, >= 1.
        seed (int): Of the draw.

    Raises:
        ValueError: If ``shots`` is not positive or a class has fewer images.
    """
    if shots < 1:
        raise ValueError(f'shots={shots} must be >= 1, or None for all images')
    generator = np.random.default_rng(seed)
    chosen: List[np.ndarray] = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) < shots:
            raise ValueError(
                f'shots={shots}, but class {label} has {len(own)} training '
                'images; choose fewer'
            )
        chosen.append(generator.choice(own, shots, replace=False))
    return np.sort(np.concatenate(chosen))
