"""A bank that is filled on a disk, and never lies in memory as a whole."""

import math
import os
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Mapping, Tuple, Union

from torch import Tensor

from ..files import replaced_file
from ..options import checked
from .bank import MemoryBank
from .bank_file import (
    FILE_MARK,
    header_of,
    read_file,
    write_field,
    write_tensors,
)
from .bank_state import METADATA, Block, Contents, read_blocks, write_state
from .mapped import Mapped
from .storage import StorageDtype, stored_fields

_HEADER = 4096  # bytes in front of the vectors, for what is known at the end
_ALIGNED = 8


class _Spool:
    """The fields of one block while it grows, each in a file.

    The vectors, nearly all bytes, go to where they will stay; the other
    fields are moved behind them at the end.

    Args:
        part (Path): The bank's future file; the other fields lie beside it.
        dtype (str): Of the vectors.
    """

    def __init__(self, part: Path, dtype: str) -> None:
        self.rows = 0
        self._kinds = stored_fields(dtype)
        self._rest: Dict[str, Tuple[int, ...]] = {}  # shapes without N
        ends = {name: f'.{name}' for name in self._kinds}
        ends['vectors'] = ''
        with ExitStack() as stack:
            self._streams = {
                name: stack.enter_context(
                    open(part.with_name(part.name + end), 'w+b')
                )
                for name, end in ends.items()
            }
            self._streams['vectors'].write(bytes(_HEADER))
            self._opened = stack.pop_all()

    def close(self) -> None:
        """What is mapped of it can be read no more."""
        with suppress(OSError):  # it cannot be written, and is not needed
            self._opened.close()

    def append(self, block: Block) -> None:
        """Write a block's rows behind the others.

        Raises:
            ValueError: If it has not the C of those.
        """
        rest = {name: tuple(value.shape[1:]) for name, value in block.items()}
        self._rest = self._rest or rest
        if rest != self._rest:
            raise ValueError(
                f'the vectors have {rest["vectors"][0]} channels, those in the '
                f'file {self._rest["vectors"][0]}; fill a new bank'
            )
        for name, value in block.items():
            write_field(self._streams[name], value)
            self._streams[name].flush()
        self.rows += len(block['labels'])

    def block(self, start: int = 0) -> Block:
        """The rows from one on."""
        found: Block = {}
        for name, (dtype, _) in self._kinds.items():
            shape = (self.rows - start, *self._rest[name])
            row = dtype.itemsize * math.prod(shape[1:])
            first = _HEADER if name == 'vectors' else 0
            offset = first + start * row
            found[name] = Mapped(self._streams[name], dtype, shape, offset)
        return found

    def finish(self, contents: Contents) -> None:
        """Make the bank's file of these rows, all of them and no others."""
        tensors = write_state(contents)
        vectors = tensors.pop('0.vectors')
        # Behind the vectors, JSON may end in spaces up to a whole number.
        note = tensors.pop(METADATA)
        spaces = -(vectors.nbytes + note.nbytes) % _ALIGNED
        note = note[:].new_tensor([*note[:].tolist(), *b' ' * spaces])
        names = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
        ordered = {'0.vectors': vectors, METADATA: note}
        ordered.update((name, tensors[name]) for name in names)
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

    @property
    def filling(self) -> bool:
        """Whether its pixels go to a file that is not yet there."""
        return self._open

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
        contents = self._contents()
        # The spool may be the file where all of its rows, and no others, are.
        if self._blocks and not self._settled and not self._start:
            self._spool.finish(contents)
        else:
            other = part.with_name(f'{part.name}.chosen')
            with open(other, 'wb') as stream:
                write_tensors(stream, write_state(contents))
            os.replace(other, part)
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
