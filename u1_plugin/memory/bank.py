"""What the memory holds: vectors of pixels, and where and whose they are."""

from typing import Callable, Dict, Iterable, Iterator, List, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..options import Count, checked
from .bank_state import Block
from .bank_store import BankStore
from .memmap import parts, selected
from .pixels import Pixels
from .storage import (
    check_index,
    check_pixels,
    decoded,
    encoded,
    whole_numbers,
)

_ROWS = 16384  # copied at a time
_SMALL = 16  # blocks that are joined
_FIELDS = ('labels', 'images', 'positions', 'hues')


def _are_joined(blocks: List[Block]) -> bool:
    """Whether they are of one size, more or less, and small, and in memory."""
    first, *others = (len(block['labels']) for block in blocks)
    in_memory = all(isinstance(block['labels'], Tensor) for block in blocks)
    return in_memory and first <= sum(others) <= _ROWS


class MemoryBank(BankStore):
    """Pixels in blocks, appended without copying much of what is there.

    A pixel's index is its place in the order of memorising. Blocks lie in
    memory, or in a file (:meth:`load` with ``mmap=True``,
    :func:`~.filling.bank_on_disk`).

    Args:
        dtype (str): Of the stored vectors: ``'float32'``, ``'float16'`` or
            ``'uint8'`` (255 levels between 0 and a vector's largest entry).
        identity (Mapping): What fills the bank, piece by piece: short strings
            such as digests of the weights, of the images and of the config.
            :meth:`load` compares it. What changes a bank that is filled is
            added to it as a piece of its own, ``'changes'``.

    Raises:
        ValueError: If an option is none of these.
    """

    @checked()
    def append(self, pixels: Pixels) -> None:
        """Add copies of pixels, in the order of their index.

        Raises:
            ValueError: If C differs, shapes do not fit, a number is not finite
                or out of its range (see :class:`Pixels`; labels and images
                are >= 0), or ``dtype`` cannot hold a vector: float16 ends at
                65,504 and is not precise where the largest entry is below
                6.1e-5, uint8 takes no negative values.
        """
        check_pixels(pixels, self.channels)
        if len(pixels.vectors):
            added: Block = {**encoded(pixels, self.dtype)}
            self._replace(self._with(added), 'append')

    def _with(self, added: Block) -> List[Block]:
        """The blocks and another, many small ones joined.

        So that few are left and each pixel is copied a few times, however few
        come at a time.
        """
        blocks = [*self._blocks, added]
        while len(blocks) >= _SMALL and _are_joined(blocks[-_SMALL:]):
            last, blocks = blocks[-_SMALL:], blocks[:-_SMALL]
            joined: Block = {
                name: torch.cat([block[name][:] for block in last])
                for name in last[0]
            }
            blocks.append(joined)
        return blocks

    def blocks(self) -> Iterator[Tensor]:
        """Copies of the vectors, float32, some ``(n, C)`` at a time."""
        for block in self.stored_blocks():
            yield decoded(block, copy=True)

    def lent_blocks(self, rows: int = _ROWS) -> Iterator[Tensor]:
        """At most so many, in the bank's storage if that is float32."""
        return map(decoded, self.stored_blocks(rows))

    def stored_blocks(
        self, rows: int = _ROWS, start: int = 0, stop: Optional[int] = None
    ) -> Iterator[Dict[str, Tensor]]:
        """Vectors as they are stored, in the bank's storage if in memory.

        Args:
            rows (int): At most so many at a time.
            start, stop (int): Of which pixels; by default of all.

        Yields:
            dict: ``vectors``, ``(n, C)``, and in uint8 their ``scales``.
        """
        stop, first = len(self) if stop is None else stop, 0
        for block in self._blocks:
            end = min(stop - first, len(block['labels']))
            names = [n for n in ('vectors', 'scales') if n in block]
            for at in range(max(0, start - first), end, rows):
                part = slice(at, min(at + rows, end))
                yield {name: block[name][part] for name in names}
            first += len(block['labels'])

    @checked()
    def vectors(self, index: Tensor) -> Tensor:
        """The vectors of an index ``(n,)``, float32, ``(n, C)``.

        Raises:
            ValueError: If it is no index into the bank's pixels.
        """
        check_index(index, len(self))
        shape = len(index), self.channels or 0
        vectors = torch.empty(shape, dtype=torch.float32)
        return self._gathered(index, decoded, vectors)

    def _gathered(
        self,
        index: Tensor,
        read: Callable[[Block, Tensor], Tensor],
        values: Tensor,
    ) -> Tensor:
        """``values``, filled with ``read(block, rows)`` of every pixel."""
        ends = np.cumsum([len(block['labels']) for block in self._blocks])
        numbers = np.searchsorted(ends, index.numpy(), side='right')
        order = np.argsort(numbers, kind='stable')
        used, starts = np.unique(numbers[order], return_index=True)
        for number, places in zip(used, np.split(order, starts[1:])):
            block, here = self._blocks[number], torch.from_numpy(places)
            first = int(ends[number]) - len(block['labels'])
            values[here] = read(block, index[here] - first)
        return values

    @checked()
    def field(self, name: str, index: Optional[Tensor] = None) -> Tensor:
        """One of ``labels, images, positions, hues``.

        Args:
            name (str): Which one.
            index (Tensor, optional): Of which pixels, ``(n,)``; None: of all.

        Raises:
            ValueError: If there is no such field, the bank is empty, or it is
                no index into its pixels.
        """
        if name not in _FIELDS:
            raise ValueError(f'field {name!r} must be one of {_FIELDS}')
        if not self._blocks:
            raise ValueError('the bank is empty; fill it before asking it')
        blocks = [block[name] for block in self._blocks]
        if index is None:
            return torch.cat(
                [part for field in blocks for part in parts(field)]
            )
        check_index(index, len(self))
        values = blocks[0][:1].new_empty(len(index), *blocks[0].shape[1:])
        return self._gathered(
            index, lambda block, rows: block[name][rows], values
        )

    @checked()
    def check_labels(self, num_classes: Count, name: str = 'the bank') -> None:
        """Check that every label is one of ``0..num_classes-1``.

        Raises:
            ValueError: If one is not; a vote for it would go elsewhere.
        """
        labels = (part for b in self._blocks for part in parts(b['labels']))
        largest = max((int(part.max()) for part in labels), default=0)
        if largest >= num_classes:
            raise ValueError(
                f'{name} holds the label {largest}, but num_classes='
                f'{num_classes}; set it to the number of classes that filled '
                'the bank'
            )

    def remove(
        self,
        labels: Optional[Iterable[int]] = None,
        images: Optional[Iterable[int]] = None,
    ) -> int:
        """Forget classes or images, without refilling the bank.

        Args:
            labels (Iterable, optional): Classes to forget.
            images (Iterable, optional): Numbers of images to forget. Numbers
                that the bank does not hold are no error: another rank may.

        Returns:
            int: How many pixels went.

        Raises:
            ValueError: If neither is given, or one holds anything but integers
                >= 0.
        """
        options = dict(labels=labels, images=images).items()
        numbers = {n: whole_numbers(n, v) for n, v in options if v is not None}
        if not numbers:
            raise ValueError(
                'labels=None, images=None: name the labels or the images'
            )
        masks = []
        for block in self._blocks:
            removed = torch.zeros(len(block['labels']), dtype=torch.bool)
            for name, values in numbers.items():
                removed |= torch.isin(block[name][:], values)
            masks.append(~removed)
        return self._select(masks, 'remove')

    def keep(self, index: Union[Tensor, Iterable[int]]) -> None:
        """Forget all pixels but those of an index ``(n,)``.

        Args:
            index (Tensor): Strictly ascending, in ``0..N-1``.

        Raises:
            ValueError: If it is anything else.
        """
        index = whole_numbers('index', index)
        ascending = bool((index.diff() > 0).all())
        if not ascending or (len(index) and index[-1] >= len(self)):
            raise ValueError(
                'index must ascend without doubles within 0..'
                f"{len(self) - 1}, the bank's pixels"
            )
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[index] = True
        sizes = [len(block['labels']) for block in self._blocks]
        self._select(mask.split(sizes), 'keep')

    def _select(self, masks: Iterable[Tensor], change: str) -> int:
        """Keep the pixels of a mask a block; return how many went."""
        before = len(self)
        blocks = [
            selected(block, mask)
            for block, mask in zip(self._blocks, masks)
            if mask.any()
        ]
        self._replace(blocks, change)
        return before - len(self)
