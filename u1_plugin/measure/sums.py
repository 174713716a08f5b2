"""Float64 sums that add up over batches and ranks."""

import copy
from typing import Dict, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .. import dist

Size = Tuple[int, ...]


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Raise ValueError unless all labels are in ``[0, num_classes)``."""
    if not len(labels):
        return
    low, high = labels.aminmax()
    if low < 0 or high >= num_classes:
        raise ValueError(
            f'labels are in [{int(low)}, {int(high)}], but '
            f'num_classes={num_classes}; set num_classes to those of '
            'the data set'
        )


def reals(name: str, values: Tensor, form: str) -> Tensor:
    """A batch of real numbers in float64; only the batch may be empty.

    ``form`` has a letter or the size of each dimension, as ``'B2'``.
    """
    sizes = tuple(values.shape)
    fits = len(sizes) == len(form) and all(
        str(size) == dim if dim.isdigit() else size or dim == 'B'
        for size, dim in zip(sizes, form)
    )
    if values.is_complex() or not fits:
        raise ValueError(
            f'{name} is {values.dtype} of shape {sizes}; give real numbers '
            f'({", ".join(form)})'
        )
    return values.detach().double()


def numbers(name: str, values: Tensor, batch: Tensor) -> Tensor:
    """One integer an image of the batch, ``(B,)``, int64, beside it."""
    kind, count = values.dtype, len(batch)
    if (
        kind.is_floating_point
        or kind.is_complex
        or kind == torch.bool
        or values.shape != (count,)
    ):
        raise ValueError(
            f'{name} is {kind} of shape {tuple(values.shape)}; give {count} '
            'integers, one an image'
        )
    return values.long().to(batch.device)


class Accumulator:
    """Float64 sums by name, and how they add up.

    A subclass names its sums and their shapes in :meth:`_shapes`; ``size`` is
    what they depend on and what the first batch tells: ``(H, W)`` or C.
    """

    #: What ``size`` is, for messages.
    _measured = ''

    def __init__(self) -> None:
        self.size: Optional[Size] = None
        self._sums: Dict[str, Tensor] = {}

    def _shapes(self, size: Size) -> Dict[str, Size]:
        raise NotImplementedError

    def _start(self, size: Size, device: torch.device) -> None:
        """Allocate the sums, or check that the batch fits them."""
        size = tuple(size)
        if self.size is None:
            self.size = size
            self._sums = {
                name: torch.zeros(shape, dtype=torch.float64, device=device)
                for name, shape in self._shapes(size).items()
            }
        elif size != self.size:
            raise ValueError(
                f'{type(self).__name__}: {self._measured} {size} after '
                f'{self.size}; bring all images to one size in the data '
                "set's pipeline"
            )

    def _reals(self, name: str, values: Tensor, form: str) -> Tensor:
        return reals(f'{type(self).__name__}.{name}', values, form)

    def _numbers(self, name: str, values: Tensor, batch: Tensor) -> Tensor:
        return numbers(f'{type(self).__name__}.{name}', values, batch)

    def _checked(self) -> Dict[str, Tensor]:
        if self.size is None:
            raise ValueError(
                f'{type(self).__name__} has seen no image; '
                'update it before reading it'
            )
        return self._sums

    def state(self) -> Dict[str, np.ndarray]:
        """The sums, as :func:`numpy.savez` takes them."""
        return {n: s.cpu().numpy().copy() for n, s in self._checked().items()}

    def reduce(self) -> 'Accumulator':
        """The accumulator of all ranks together; this one stays as it is.

        Every rank must call it. A rank that has seen no image takes part.

        Raises:
            ValueError: If the ranks have seen different sizes.
        """
        combined = copy.copy(self)
        if dist.get_world_size() == 1:
            combined._sums = {n: s.clone() for n, s in self._sums.items()}
            return combined
        sizes = {s for s in dist.all_gather_object(self.size) if s is not None}
        if len(sizes) > 1:
            raise ValueError(
                f'{type(self).__name__}: the ranks saw {self._measured} '
                f'{sorted(sizes)}; bring all images to one size in the data '
                "set's pipeline"
            )
        if not sizes:
            return combined
        device = dist.get_comm_device()
        combined.size, combined._sums = None, {}
        combined._start(next(iter(sizes)), device)
        for name, total in combined._sums.items():
            if name in self._sums:
                total += self._sums[name].to(device)
        # One message for all sums.
        flat = torch.cat([total.flatten() for total in combined._sums.values()])
        flat = dist.all_reduce_sum(flat)
        parts = flat.split([total.numel() for total in combined._sums.values()])
        for total, part in zip(combined._sums.values(), parts):
            total.copy_(part.view_as(total))
        return combined
