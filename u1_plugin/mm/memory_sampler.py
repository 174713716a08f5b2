"""Which rank reads which images of a memory."""

from typing import Any, Iterator, Optional

import numpy as np
from torch.utils.data import Sampler

from ..dist import get_dist_info
from ..memory import few_shot
from ..options import Count, Seed, checked
from .data_content import gt_labels


class MemorySampler(Sampler):
    """Reads images once each, in order; a rank reads its part of them.

    Unlike MMEngine's ``DefaultSampler`` it repeats no image to make the parts
    equal, and the parts are contiguous, so that they join into one process's
    order.

    Args:
        dataset: Of MMPretrain, or a wrapper.
        shots (int, optional): Only so many images of each class.
        shots_seed (int): Which ones.
        seed (int, optional): MMEngine's; unused, as nothing is shuffled.

    Raises:
        ValueError: If an option is out of its range, or a class has fewer
            images than shots.

    Attributes:
        chosen (List[int]): The images of all ranks, ascending.
        first (int): How many of them lie before this rank's.
        numbers (List[int]): This rank's.
    """

    @checked('MemorySampler')
    def __init__(
        self,
        dataset: Any,
        shots: Optional[Count] = None,
        shots_seed: Seed = 0,
        seed: Optional[int] = None,
    ) -> None:
        chosen = np.arange(len(dataset))
        if shots is not None:
            chosen = few_shot(gt_labels(dataset), shots, shots_seed)
        rank, world = get_dist_info()
        start, end = (len(chosen) * r // world for r in (rank, rank + 1))
        self.chosen = chosen.tolist()
        self.first = start
        self.numbers = self.chosen[start:end]

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)

    def set_epoch(self, epoch: int) -> None:
        """Every epoch is the same."""
