"""Which training images a memory holds."""

from typing import List

import numpy as np

from ..options import Count, Seed, checked


@checked()
def few_shot(labels: np.ndarray, shots: Count, seed: Seed) -> np.ndarray:
    """Positions of so many images of every class, in ascending order.

    Args:
        labels (np.ndarray): Classes of the images, ``(N,)``, integers.
        shots (int): n of each class, >= 1.
        seed (int): Of the draw.

    Raises:
        ValueError: If an option is out of its range, there are no labels, or
            a class has fewer images.
    """
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in 'iu':
        raise ValueError(
            f'labels {labels.shape} of {labels.dtype} must be integers (N,), '
            'one an image'
        )
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
