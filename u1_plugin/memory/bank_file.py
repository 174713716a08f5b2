"""A bank's tensors in one file, written and read a part at a time."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Dict, Mapping, Optional, Union

import torch
from safetensors import safe_open

from ..files import replaced_file
from .mapped import Field, Mapped, parts

#: What the first KiB of a bank's file holds; see :mod:`u1_plugin.files`.
FILE_MARK = b'u1_plugin memory bank'
#: Names that the format has for what a bank holds.
_KINDS = dict(
    I64=torch.int64, F32=torch.float32, F16=torch.float16, U8=torch.uint8
)
_NAMES = {dtype: name for name, dtype in _KINDS.items()}
_ALIGNED = 8  # bytes
_LONGEST = 2**21  # bytes of a text


def write_file(file: Union[str, Path], tensors: Mapping[str, Field]) -> None:
    """Write a safetensors file, whole or not at all; its folder is made.

    Raises:
        FileExistsError: If another kind of file is there.
    """
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(file, FILE_MARK) as part, open(part, 'wb') as stream:
        write_tensors(stream, tensors)


def write_tensors(stream: BinaryIO, tensors: Mapping[str, Field]) -> None:
    """Write what a safetensors file holds; mapped fields a part at a time."""
    # Wide numbers first: then each lies at a multiple of its width.
    order = sorted((-tensors[n].dtype.itemsize, n) for n in tensors)
    ordered = {name: tensors[name] for _, name in order}
    stream.write(header_of(ordered))
    for value in ordered.values():
        write_field(stream, value)


def write_field(stream: BinaryIO, field: Field) -> None:
    """Write a field's numbers."""
    for part in parts(field):
        stream.write(part.contiguous().numpy().data)


def header_of(
    tensors: Mapping[str, Field], size: Optional[int] = None
) -> bytes:
    """The beginning of a safetensors file.

    It is the length of a JSON text in 8 bytes, and that text, which says
    where each tensor lies, one after the other.

    Args:
        tensors (Mapping): In the order in which they lie.
        size (int, optional): Bytes that it must have.

    Raises:
        ValueError: If it does not fit these.
    """
    content: Dict[str, Dict[str, Any]] = dict(
        __metadata__=dict(content=FILE_MARK.decode())
    )
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.nbytes
        content[name] = dict(
            dtype=_NAMES[value.dtype],
            shape=list(value.shape),
            data_offsets=[start, end],
        )
    text = json.dumps(content).encode()
    length = -(-len(text) // _ALIGNED) * _ALIGNED if size is None else size - 8
    if len(text) > length:
        raise ValueError(f'a header of {len(text)} bytes exceeds {length}')
    return length.to_bytes(8, 'little') + text.ljust(length)


def read_file(file: Union[str, Path], mmap: bool = False) -> Dict[str, Field]:
    """The tensors of a safetensors file, whatever they are.

    Args:
        file (Path): The file.
        mmap (bool): Leave them in it, all but a short text.

    Raises:
        ValueError: If it is none, or truncated.
        MemoryError: If it does not fit into memory.
    """
    if not Path(file).is_file():
        raise ValueError(f'{file}: no memory bank is there')
    try:
        if mmap:
            return _mapped_file(file)
        with safe_open(str(file), framework='pt') as stored:
            # Copies: the tensors would change with the file.
            return {
                name: stored.get_tensor(name).clone() for name in stored.keys()
            }
    except Exception as error:  # whatever the library makes of a file
        if isinstance(error, MemoryError) or 'allocate memory' in str(error):
            raise MemoryError(
                f'{file}: {os.path.getsize(file)} bytes do not fit into '
                'memory; load it with mmap=True'
            ) from error
        raise ValueError(
            f'{file}: no whole safetensors file ({error}); fill the bank again'
        ) from error


def _mapped_file(file: Union[str, Path]) -> Dict[str, Field]:
    # The library checks that the tensors lie side by side in the whole file;
    # it does not tell where.
    with safe_open(str(file), framework='np') as stored:
        names = stored.keys()
    stream = open(file, 'rb')  # as long as what is mapped lasts
    length = int.from_bytes(stream.read(8), 'little')
    header = json.loads(stream.read(length))
    found: Dict[str, Field] = {}
    for name in names:
        entry = header[name]
        if entry['dtype'] not in _KINDS:
            raise ValueError(f'{name} is {entry["dtype"]}, which no bank holds')
        field = Mapped(
            stream,
            _KINDS[entry['dtype']],
            tuple(entry['shape']),
            8 + length + entry['data_offsets'][0],
        )
        text = field.dtype == torch.uint8 and field.ndim == 1
        found[name] = field[:] if text and len(field) < _LONGEST else field
    return found
