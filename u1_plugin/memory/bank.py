"""What the memory holds: vectors of pixels, and where and whose they are."""

import itertools
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

import numpy as np
import torch
from torch import Tensor

from ..options import Count, checked
from .bank_file import read_file, write_file
from .bank_state import Contents, check_identity, read_state, write_state
from .pixels import Pixels
from .storage import (
    StorageDtype,
    check_index,
    check_pixels,
    decoded,
    encoded,
    kept_mask,
    whole_numbers,
)

#: Of all banks: a bank in another's place is a change, too.
_CHANGES = itertools.count()
_ROWS = 16384  # copied at a time


class MemoryBank:
    """Pixels in blocks, appended without copying what is there.

    A pixel's index is its place in the order of memorising.

    Args:
        dtype (str): Of the stored vectors: ``'float32'``, ``'float16'`` or
            ``'uint8'`` (255 levels between 0 and a vector's largest entry).
        identity (Mapping): What fills the bank, piece by piece: short strings
            such as digests of the weights, of the images and of the config.
            :meth:`load` and :meth:`from_state` compare it. What changes a bank
            that is filled is added to it as a piece of its own, ``'changes'``.

    Raises:
        ValueError: If an option is none of these.
    """

    @checked('MemoryBank')
    def __init__(
        self, dtype: StorageDtype = 'float32', identity: Mapping[str, str] = {}
    ) -> None:
        self.dtype = dtype
        self.identity = check_identity(identity, 'MemoryBank.identity')
        self._blocks: List[Dict[str, Tensor]] = []
        self._changes = next(_CHANGES)
        self._finished = False

    def __len__(self) -> int:
        return sum(len(block['labels']) for block in self._blocks)

    @property
    def changes(self) -> int:
        """For caches: greater after each change, never another bank's."""
        return self._changes

    def finish(self) -> None:
        """Call the bank filled: its identity names what changes it later."""
        self._finished = True

    @property
    def channels(self) -> Optional[int]:
        """C, or None while the bank is empty."""
        return self._blocks[0]['vectors'].size(1) if self._blocks else None

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored."""
        return sum(v.nbytes for b in self._blocks for v in b.values())

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
            added = encoded(pixels, self.dtype)
            self._replace([*self._blocks, added], 'append')

    def _replace(self, blocks: List[Dict[str, Tensor]], change: str) -> None:
        before, self._blocks = len(self), blocks
        self._changes = next(_CHANGES)
        # A bank of unknown make stays one.
        if self._finished and self.identity and len(self) != before:
            known = self.identity.get('changes', change).split(', ')
            self.identity['changes'] = ', '.join(sorted({*known, change}))

    def blocks(self) -> Iterator[Tensor]:
        """Copies of the vectors, float32, some ``(n, C)`` at a time."""
        return self._parts(_ROWS, copy=True)

    def lent_blocks(self, rows: int = _ROWS) -> Iterator[Tensor]:
        """At most so many, in the bank's storage if that is float32."""
        return self._parts(rows)

    def _parts(self, rows: int, copy=False) -> Iterator[Tensor]:
        for block in self._blocks:
            for start in range(0, len(block['labels']), rows):
                yield decoded(block, slice(start, start + rows), copy)

    @checked()
    def vectors(self, index: Tensor) -> Tensor:
        """The vectors of an index ``(n,)``, float32, ``(n, C)``.

        Raises:
            ValueError: If it is no index into the bank's pixels.
        """
        check_index(index, len(self))
        ends = np.cumsum([len(block['labels']) for block in self._blocks])
        numbers = np.searchsorted(ends, index.numpy(), side='right')
        found = torch.empty(len(index), self.channels or 0)
        order = np.argsort(numbers, kind='stable')
        used, starts = np.unique(numbers[order], return_index=True)
        for number, rows in zip(used, np.split(order, starts[1:])):
            block = self._blocks[number]
            first = int(ends[number]) - len(block['labels'])
            rows = torch.from_numpy(rows)
            found[rows] = decoded(block, index[rows] - first)
        return found

    def field(self, name: str) -> Tensor:
        """One of ``labels, images, positions, hues`` of all pixels."""
        fields = ('labels', 'images', 'positions', 'hues')
        if name not in fields:
            raise ValueError(f'field {name!r} must be one of {fields}')
        if not self._blocks:
            raise ValueError('the bank is empty; fill it before asking it')
        return torch.cat([block[name] for block in self._blocks])

    @checked()
    def check_labels(self, num_classes: Count, name: str = 'the bank') -> None:
        """Check that every label is one of ``0..num_classes-1``.

        Raises:
            ValueError: If one is not; a vote for it would go elsewhere.
        """
        most = max((int(b['labels'].max()) for b in self._blocks), default=0)
        if most >= num_classes:
            raise ValueError(
                f'{name} holds the label {most}, but num_classes={num_classes}'
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
        given = dict(labels=labels, images=images).items()
        numbers = {n: whole_numbers(n, v) for n, v in given if v is not None}
        if not numbers:
            raise ValueError(
                'labels=None, images=None: name the labels or the images'
            )
        masks = []
        for block in self._blocks:
            gone = torch.zeros(len(block['labels']), dtype=torch.bool)
            for name, values in numbers.items():
                gone |= torch.isin(block[name], values)
            masks.append(~gone)
        return self._select(masks, 'remove')

    def keep(self, index: Union[Tensor, Iterable[int]]) -> None:
        """Forget all pixels but those of an index ``(n,)``.

        Args:
            index (Tensor): Strictly ascending, in ``0..N-1``.

        Raises:
            ValueError: If it is anything else.
        """
        sizes = [len(block['labels']) for block in self._blocks]
        self._select(kept_mask(index, len(self)).split(sizes), 'keep')

    def _select(self, masks: Iterable[Tensor], change: str) -> int:
        """Keep the pixels of a mask a block; return how many went."""
        before = len(self)
        blocks = [
            {name: value[mask] for name, value in block.items()}
            for block, mask in zip(self._blocks, masks)
            if mask.any()
        ]
        self._replace(blocks, change)
        return before - len(self)

    def _contents(self) -> Contents:
        return Contents(self.dtype, self.identity, self._blocks)

    def state(self) -> Dict[str, Tensor]:
        """Copies of everything stored, with the metadata to read it.

        Returns:
            dict: ``'{block}.{field}'``, and ``'metadata'``, a uint8 tensor
            that holds a JSON text.
        """
        tensors = write_state(self._contents())
        return {name: value.clone() for name, value in tensors.items()}

    @classmethod
    @checked('MemoryBank')
    def from_state(
        cls,
        tensors: Mapping[str, Any],
        identity: Optional[Mapping[str, str]] = None,
        channels: Optional[Count] = None,
        num_classes: Optional[Count] = None,
        name: str = 'the bank',
    ) -> 'MemoryBank':
        """The bank whose :meth:`state` this is, of its own dtype.

        Args:
            tensors (Mapping): Are copied.
            identity (Mapping, optional): What must have filled it; None
                takes any.
            channels (int, optional): C that it must have, unless empty.
            num_classes (int, optional): K, of which its labels must be.
            name (str): Of where it is from, for messages.

        Raises:
            ValueError: If the state is of another format, incomplete, changed,
                or of another identity; the message names what differs.
        """
        contents = read_state(tensors, name, identity, channels, num_classes)
        copies = [
            {field: value.clone() for field, value in block.items()}
            for block in contents.blocks
        ]
        return cls._of(contents._replace(blocks=copies))

    @classmethod
    def _of(cls, contents: Contents) -> 'MemoryBank':
        bank = cls(contents.dtype, contents.identity)
        bank._replace(contents.blocks, 'load')
        bank.finish()
        return bank

    @checked()
    def save(self, file: Union[str, Path]) -> None:
        """Write a file (safetensors), whole or not at all.

        It holds :meth:`state`. The folder is made.

        Raises:
            FileExistsError: If another kind of file is there.
        """
        write_file(file, write_state(self._contents()))

    @classmethod
    @checked('MemoryBank')
    def load(
        cls,
        file: Union[str, Path],
        identity: Optional[Mapping[str, str]] = None,
        channels: Optional[Count] = None,
        num_classes: Optional[Count] = None,
    ) -> 'MemoryBank':
        """Read what :meth:`save` wrote.

        Args:
            file (Path): The safetensors file.
            identity (Mapping, optional): What must have filled it.
            channels (int, optional): C that it must have.
            num_classes (int, optional): K, of which its labels must be.

        Raises:
            ValueError: See :meth:`from_state`; the message names the file.
        """
        contents = read_state(
            read_file(file), str(file), identity, channels, num_classes
        )
        return cls._of(contents)
