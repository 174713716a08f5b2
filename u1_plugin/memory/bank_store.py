"""The blocks of a bank, and how they get into files, checkpoints and back."""

import uuid
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar, Union

from torch import Tensor

from ..files import replaced_file
from ..options import checked
from .bank_file import FILE_MARK, read_file, write_tensors
from .bank_state import (
    Block,
    Contents,
    check_identity,
    read_state,
    write_state,
)
from .memmap import Field, MappedArray
from .storage import StorageDtype

Bank = TypeVar('Bank', bound='BankStore')


def _new_change() -> str:
    """A name of no other change, of any bank in any process.

    A bank in another's place is a change, too, and banks are pickled together
    with what was derived from them.
    """
    return uuid.uuid4().hex


def _copied(field: Field) -> Tensor:
    """In memory, whether it lies in a file or not."""
    return field[:] if isinstance(field, MappedArray) else field.clone()


class BankStore:
    """Holds, writes and reads the blocks of a :class:`~.bank.MemoryBank`.

    Attributes:
        dtype (str): Of the stored vectors.
        identity (dict): What filled the bank.
    """

    @checked('MemoryBank')
    def __init__(
        self, dtype: StorageDtype = 'float32', identity: Mapping[str, str] = {}
    ) -> None:
        self.dtype = dtype
        self.identity = check_identity(identity, 'MemoryBank.identity')
        self._blocks: List[Block] = []
        self._changes = _new_change()
        self._finished = False

    def __len__(self) -> int:
        return sum(len(block['labels']) for block in self._blocks)

    @property
    def changes(self) -> str:
        """For caches: another after each change, never another bank's."""
        return self._changes

    def finish(self) -> None:
        """Call the bank filled: its identity names what changes it later."""
        self._finished = True

    @property
    def channels(self) -> Optional[int]:
        """C, or None while the bank is empty."""
        return self._blocks[0]['vectors'].shape[1] if self._blocks else None

    @property
    def mapped(self) -> bool:
        """Whether a part of it lies in a file."""
        return any(isinstance(b['vectors'], MappedArray) for b in self._blocks)

    @property
    def nbytes(self) -> int:
        """Bytes of everything stored, in memory or in a file."""
        return sum(v.nbytes for b in self._blocks for v in b.values())

    def _replace(self, blocks: List[Block], change: str) -> None:
        before, self._blocks = len(self), blocks
        self._changes = _new_change()
        # A bank of unknown make stays one.
        if self._finished and self.identity and len(self) != before:
            changes = self.identity.get('changes', change).split(', ')
            self.identity['changes'] = ', '.join(sorted({*changes, change}))

    def _tensors(self) -> Dict[str, Field]:
        return write_state(Contents(self.dtype, self.identity, self._blocks))

    def state(self) -> Dict[str, Tensor]:
        """Copies of everything stored, with the metadata to read it.

        Returns:
            dict: ``'{block}.{field}'``, and ``'metadata'``, a uint8 tensor
            that holds a JSON text.
        """
        return {n: _copied(value) for n, value in self._tensors().items()}

    @classmethod
    @checked('MemoryBank')
    def from_state(
        cls: Type[Bank],
        tensors: Mapping[str, Any],
        name: str = 'the bank',
    ) -> Bank:
        """The bank whose :meth:`state` this is, of its own dtype.

        Args:
            tensors (Mapping): Are copied.
            name (str): Of where it is from, for messages.

        Raises:
            ValueError: If the state is of another format, incomplete or
                changed; the message names what differs.
        """
        contents = read_state(tensors, name)
        copies: List[Block] = [
            {field: _copied(value) for field, value in block.items()}
            for block in contents.blocks
        ]
        return cls._of(contents._replace(blocks=copies))

    @classmethod
    def _of(cls: Type[Bank], contents: Contents) -> Bank:
        bank = cls(contents.dtype, contents.identity)
        bank._replace(contents.blocks, 'load')
        bank.finish()
        return bank

    @checked()
    def save(self, file: Union[str, Path]) -> None:
        """Write :meth:`state` to a file (safetensors), whole or not at all.

        The folder is made.

        Raises:
            FileExistsError: If another kind of file is there.
        """
        tensors, file = self._tensors(), Path(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(file, FILE_MARK) as part, open(part, 'wb') as stream:
            write_tensors(stream, tensors)

    @classmethod
    @checked('MemoryBank')
    def load(
        cls: Type[Bank],
        file: Union[str, Path],
        identity: Optional[Mapping[str, str]] = None,
        mmap: bool = False,
    ) -> Bank:
        """Read what :meth:`save` or :func:`~.filling.bank_on_disk` wrote.

        Args:
            file (Path): The safetensors file.
            identity (Mapping, optional): What must have filled the bank; None
                takes any.
            mmap (bool): Check the file, and leave the pixels in it: each
                block is mapped when it is needed. Pixels that are added later
                are held in memory, and those that are removed stay in the
                file, unread. Do not write into the file meanwhile; to replace
                or remove it does no harm.

        Raises:
            ValueError: If it is no whole file of a bank, changed, of another
                format or of another identity; the message names the file and
                what differs.
            MemoryError: If it does not fit into memory.
        """
        tensors = read_file(file, mmap)
        return cls._of(read_state(tensors, str(file), identity))
