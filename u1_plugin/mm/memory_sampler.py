"""Which rank reads which images of a memory."""

from typing import Iterator, Optional

import numpy as np
from torch.utils.data import Sampler

from ..dist import get_dist_info
from ..memory import few_shot


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
