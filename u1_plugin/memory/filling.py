"""A bank that is filled on a disk, and never lies in memory as a whole."""

import math
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple, Union

from torch import Tensor

from ..files import replaced_file
from ..options import checked
from .bank import MemoryBank
from .bank_file import (
    ALIGNED,
    FILE_MARK,
    header_of,
    read_file,
    widest_first,
    write_field,
    write_tensors,
)
from .bank_state import METADATA, Block, read_blocks
from .memmap import Field, MappedArray
from .storage import StorageDtype, stored_fields

_HEADER = 4096  # bytes in front of the vectors, for what is known at the end


class _Spool:
    """The fields of one block while it grows, each in a file.

    The vectors, nearly all bytes, lie where they will stay in the bank's file;
    the other fields are moved behind them at the end.
    """

    def __init__(self, part: Path, dtype: str) -> None:
        self.rows = 0
        self._kinds = stored_fields(dtype)
        self._shapes: Dict[str, Tuple[int, ...]] = {}  # without N
        with ExitStack() as stack:
            self._streams = {
                name: stack.enter_context(open(f'{part}.{name}', 'w+b'))
                for name in self._kinds
            }
            self._streams['vectors'].write(bytes(_HEADER))
            self._opened = stack.pop_all()

    def __getstate__(self) -> Dict[str, Any]:
        raise TypeError(
            'a memory bank that is being filled on a disk is neither copied '
            'nor pickled; do that after the block of bank_on_disk'
        )

    def close(self) -> None:
        """What is mapped of it can be read no more."""
        with suppress(OSError):  # it cannot be written, and is not needed
            self._opened.close()

    def append(self, block: Block) -> None:
        """Write a block's rows behind the others, of the same C."""
        shapes = {name: tuple(value.shape[1:]) for name, value in block.items()}
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            raise ValueError(
                f'the vectors have {shapes["vectors"][0]} channels, those in '
                f'the file {self._shapes["vectors"][0]}; fill a new bank'
            )
        for name, value in block.items():
            write_field(self._streams[name], value)
            self._streams[name].flush()
        self.rows += len(block['labels'])

    def block(self, start: int = 0) -> Block:
        """The rows from one on."""
        fields: Block = {}
        for name, (dtype, _) in self._kinds.items():
            shape = (self.rows - start, *self._shapes[name])
            offset = start * dtype.itemsize * math.prod(shape[1:])
            offset += _HEADER if name == 'vectors' else 0
            fields[name] = MappedArray(
                self._streams[name], dtype, shape, offset
            )
        return fields

    def finish(self, tensors: Dict[str, Field]) -> None:
        """Make the bank's file of these rows, all of them and no others."""
        first = {n: tensors.pop(n) for n in ('0.vectors', METADATA)}
        # Behind the vectors, JSON may end in spaces up to a whole number.
        note = first[METADATA]
        spaces = -sum(value.nbytes for value in first.values()) % ALIGNED
        note = note[:].new_tensor([*note[:].tolist(), *b' ' * spaces])
        ordered = {**first, METADATA: note, **widest_first(tensors)}
        stream = self._streams['vectors']
        for value in list(ordered.values())[1:]:
            write_field(stream, value)
        stream.seek(0)
        stream.write(header_of(ordered, _HEADER))
        stream.flush()


class _Filled(MemoryBank):
    """A bank whose new pixels go to a spool."""

    def __init__(
        self, dtype: StorageDtype, identity: Mapping[str, str], spool: _Spool
    ) -> None:
        super().__init__(dtype, identity)
        self._spool, self._open = spool, True
        self._settled = self._start = 0  # blocks and rows that grow no more

    def _with(self, added: Block) -> List[Block]:
        if not self._open:
            return super()._with(added)
        self._spool.append(added)
        grown = self._spool.block(self._start)
        return [*self._blocks[: self._settled], grown]

    def _select(self, masks: Iterable[Tensor], change: str) -> int:
        gone = super()._select(masks, change)
        self._settled, self._start = len(self._blocks), self._spool.rows
        return gone

    def end(self, part: Path) -> None:
        """Write the file, and read from it from now on."""
        self.finish()
        file = f'{part}.vectors'
        # The spool may be the file where all of its rows, and no others, are.
        if self._blocks and not self._settled and not self._start:
            self._spool.finish(self._tensors())
        else:
            file = f'{part}.chosen'
            with open(file, 'wb') as stream:
                write_tensors(stream, self._tensors())
        os.replace(file, part)
        tensors = read_file(part, mmap=True)
        tensors.pop(METADATA)
        note = dict(dtype=self.dtype, channels=self.channels)
        self._blocks = read_blocks(tensors, note, str(part))
        self._open = False
        del self._spool  # files cannot be copied, and a bank can

    def drop(self) -> None:
        """Half a memory is none."""
        if self._open:
            self._open = False
            self._replace([], 'load')


@contextmanager
@checked('bank_on_disk')
def bank_on_disk(
    file: Union[str, Path],
    dtype: StorageDtype = 'float32',
    identity: Mapping[str, str] = {},
) -> Iterator[MemoryBank]:
    """A bank whose pixels go to a file as they come.

    The file appears, whole, when the block ends well; an interrupted filling
    leaves nothing. In the block the bank answers as any other, and after it
    reads from the file, as :meth:`MemoryBank.load` with ``mmap=True`` does. A
    filled bank's file is written once, and read once for its checksum; one
    from which pixels were removed is written anew.

    Args:
        file (Path): An existing bank's file is replaced; its folder is made.
        dtype (str): See :class:`~.bank.MemoryBank`.
        identity (Mapping): What fills it.

    Yields:
        MemoryBank: Empty.

    Raises:
        FileExistsError: If another kind of file is there.
        ValueError: If an option is wrong.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(file, FILE_MARK) as part:
        spool = _Spool(part, dtype)
        bank = _Filled(dtype, identity, spool)
        try:
            yield bank
            bank.end(part)
        finally:
            bank.drop()
            spool.close()
