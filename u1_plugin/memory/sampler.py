"""Which training images a memory holds, and which rank reads them."""

from typing import Iterator, List, Optional

import numpy as np
from mmengine.dist import get_dist_info
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


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


@DATA_SAMPLERS.register_module()
class MemorySampler(Sampler):
    """Reads images once each, in order; a rank reads its part of them.

    Unlike MMEngine's ``DefaultSampler`` it repeats no image to make the parts
    equal, and the parts are contiguous, so that they join into one process's
    order.

    Args:
        dataset: Of MMPretrain.
        shots (int, optional): Only so many images of each class.
        shots_seed (int): Which ones.
        seed (int, optional): MMEngine's; unused, as nothing is shuffled.
    """

    def __init__(
        self,
        dataset,
        shots: Optional[int] = None,
        shots_seed: int = 0,
        seed: Optional[int] = None,
    ) -> None:
        numbers = np.arange(len(dataset))
        if shots is not None:
            labels = np.asarray(dataset.get_gt_labels())
            numbers = few_shot(labels, shots, shots_seed)
        rank, world = get_dist_info()
        start, end = (len(numbers) * r // world for r in (rank, rank + 1))
        self.first = start
        self.numbers = numbers[start:end].tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""
