"""Arrays that stay in their file: read where they lie, a part at a time.

Each access maps its own rows and lets go of them, so that a process holds no
more of the file than the part that it reads.
"""

from typing import Any, BinaryIO, Dict, Iterator, Optional, Tuple, Union

import numpy as np
import torch
from torch import Tensor

_GATHERED = 1024  # rows in one mapping; around each a system maps some more
_BYTES = 2**24  # of a part


class MappedArray:
    """An array ``(N, ...)`` of an open file, or some rows of it; read only.

    It lasts as long as the file, even where that has been replaced or removed
    meanwhile. What is read is a copy.

    Args:
        stream (BinaryIO): The file, open for reading.
        dtype (torch.dtype): Of the numbers, little-endian.
        shape (tuple): ``(N, ...)``.
        offset (int): Of the first number, in bytes.
        rows (np.ndarray, optional): Which rows it has, ``(n,)``, int64;
            None means all.
    """

    def __init__(
        self,
        stream: BinaryIO,
        dtype: torch.dtype,
        shape: Tuple[int, ...],
        offset: int,
        rows: Optional[np.ndarray] = None,
    ) -> None:
        self.dtype = dtype
        self._stream, self._offset = stream, offset
        self._whole, self._rows = tuple(shape), rows
        self._numpy = torch.empty(0, dtype=dtype).numpy().dtype
        self._row_bytes = int(np.prod(shape[1:])) * self._numpy.itemsize

    def __getstate__(self) -> Dict[str, Any]:
        raise TypeError(
            'a memory bank with mmap=True lies in its file, and is not pickled '
            'with the model; save the bank (bank.save) or read it without mmap'
        )

    def __deepcopy__(self, memo: Dict[int, Any]) -> 'MappedArray':
        return self  # it does not change

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def shape(self) -> Tuple[int, ...]:
        """Shape, as a tensor has it."""
        if self._rows is None:
            return self._whole
        return (len(self._rows), *self._whole[1:])

    @property
    def nbytes(self) -> int:
        """Size of the numbers in bytes."""
        return len(self) * self._row_bytes

    def __getitem__(self, index: Union[slice, Tensor]) -> Tensor:
        """A copy of some rows, a slice of step 1 or an index ``(n,)``."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            if self._rows is None:
                return torch.from_numpy(np.array(self._mapped(start, stop)))
            return self._gathered(self._rows[start:stop])
        rows = index.numpy()
        return self._gathered(rows if self._rows is None else self._rows[rows])

    def _mapped(self, start: int, stop: int) -> np.ndarray:
        shape = (max(0, stop - start), *self._whole[1:])
        if not shape[0]:
            return np.empty(shape, self._numpy)
        offset = self._offset + start * self._row_bytes
        try:
            return np.memmap(self._stream, self._numpy, 'r', offset, shape)
        except ValueError as error:
            raise ValueError(
                f'{getattr(self._stream, "name", "the file")} was cut short '
                f'since it was opened ({error}); fill the bank again'
            ) from error

    def _gathered(self, rows: np.ndarray) -> Tensor:
        gathered = np.empty((len(rows), *self._whole[1:]), self._numpy)
        for first in range(0, len(rows), _GATHERED):
            part = rows[first : first + _GATHERED]
            start, stop = int(part.min()), int(part.max()) + 1
            mapped = self._mapped(start, stop)
            gathered[first : first + len(part)] = mapped[part - start]
        return torch.from_numpy(gathered)

    def selected(self, rows: np.ndarray) -> 'MappedArray':
        """The rows of an index ``(n,)``, int64, still unread."""
        if self._rows is not None:
            rows = self._rows[rows]
        return MappedArray(
            self._stream, self.dtype, self._whole, self._offset, rows
        )


Field = Union[Tensor, MappedArray]


def selected(block: Dict[str, Field], mask: Tensor) -> Dict[str, Field]:
    """The rows of a mask ``(n,)``; of mapped fields none is read."""
    rows = mask.nonzero()[:, 0].numpy()
    return {
        name: value.selected(rows)
        if isinstance(value, MappedArray)
        else value[mask]
        for name, value in block.items()
    }


def parts(value: Field, rows: Optional[int] = None) -> Iterator[Tensor]:
    """A field, so many rows at a time; by default some 16 MiB."""
    if rows is None:
        rows = max(1, _BYTES * len(value) // max(1, value.nbytes))
    for start in range(0, len(value), rows):
        yield value[start : start + rows]
