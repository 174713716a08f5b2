"""How a bank gets into files and checkpoints, and back."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Type, TypeVar, Union

from torch import Tensor

from ..options import Count, checked
from .bank_file import read_file, write_file
from .bank_state import Block, Contents, read_state, write_state
from .mapped import Field, Mapped
from .storage import StorageDtype

Bank = TypeVar('Bank', bound='BankStore')


def _copied(field: Field) -> Tensor:
    """In memory, whether it lies in a file or not."""
    return field[:] if isinstance(field, Mapped) else field.clone()


class BankStore:
    """Writes and reads what a :class:`~.bank.MemoryBank` holds.

    Attributes:
        dtype (str): Of the stored vectors.
        identity (dict): What filled the bank.
    """

    dtype: StorageDtype
    identity: Dict[str, str]
    _blocks: List[Block]

    def __init__(
        self, dtype: StorageDtype, identity: Mapping[str, str]
    ) -> None:
        raise NotImplementedError

    def _replace(self, blocks: List[Block], change: str) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Call the bank filled."""
        raise NotImplementedError

    def _contents(self) -> Contents:
        return Contents(self.dtype, self.identity, self._blocks)

    def state(self) -> Dict[str, Tensor]:
        """Copies of everything stored, with the metadata to read it.

        Returns:
            dict: ``'{block}.{field}'``, and ``'metadata'``, a uint8 tensor
            that holds a JSON text.
        """
        return {
            name: _copied(value)
            for name, value in write_state(self._contents()).items()
        }

    @classmethod
    @checked('MemoryBank')
    def from_state(
        cls: Type[Bank],
        tensors: Mapping[str, Any],
        identity: Optional[Mapping[str, str]] = None,
        channels: Optional[Count] = None,
        num_classes: Optional[Count] = None,
        name: str = 'the bank',
    ) -> Bank:
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
        """Write a file (safetensors), whole or not at all.

        It holds :meth:`state`. The folder is made.

        Raises:
            FileExistsError: If another kind of file is there.
        """
        write_file(file, write_state(self._contents()))

    @classmethod
    @checked('MemoryBank')
    def load(
        cls: Type[Bank],
        file: Union[str, Path],
        identity: Optional[Mapping[str, str]] = None,
        channels: Optional[Count] = None,
        num_classes: Optional[Count] = None,
        mmap: bool = False,
    ) -> Bank:
        """Read what :meth:`save` or :func:`~.filling.bank_on_disk` wrote.

        Args:
            file (Path): The safetensors file.
            identity (Mapping, optional): What must have filled it.
            channels (int, optional): C that it must have.
            num_classes (int, optional): K, of which its labels must be.
            mmap (bool): Check the file, and leave the pixels in it: each
                block is mapped when it is needed. Pixels that are added later
                are held in memory, and those that are removed stay in the
                file, unread. Do not write into the file meanwhile; to replace
                or remove it does no harm.

        Raises:
            ValueError: See :meth:`from_state`; the message names the file.
        """
        contents = read_state(
            read_file(file, mmap), str(file), identity, channels, num_classes
        )
        return cls._of(contents)
