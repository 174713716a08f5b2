"""A bank's tensors in one file, written and read a part at a time."""

import json
import os
from pathlib import Path
from typing import Any, BinaryIO, Dict, Iterable, Mapping, Optional, Union

import torch
from safetensors import safe_open

from .memmap import Field, MappedArray, parts

#: What the first KiB of a bank's file holds; see :mod:`u1_plugin.files`.
FILE_MARK = b'u1_plugin memory bank'
#: Names that the format has for what a bank holds.
_KINDS = dict(
    I64=torch.int64, F32=torch.float32, F16=torch.float16, U8=torch.uint8
)
_NAMES = {dtype: name for name, dtype in _KINDS.items()}
ALIGNED = 8  # bytes
_LONGEST = 2**21  # bytes of a text


def write_tensors(stream: BinaryIO, tensors: Mapping[str, Field]) -> None:
    """Write what a safetensors file holds; mapped fields a part at a time."""
    ordered = widest_first(tensors)
    stream.write(header_of(ordered))
    for value in ordered.values():
        write_field(stream, value)


def widest_first(tensors: Mapping[str, Field]) -> Dict[str, Field]:
    """The order in which each lies at a multiple of its numbers' width."""
    order = sorted((-tensors[n].dtype.itemsize, n) for n in tensors)
    return {name: tensors[name] for _, name in order}


def write_field(stream: BinaryIO, field: Field) -> None:
    """Write a field's numbers."""
    for part in parts(field):
        stream.write(part.contiguous().numpy().data)


def header_of(
    tensors: Mapping[str, Field], size: Optional[int] = None
) -> bytes:
    """The beginning of a safetensors file, in ``size`` bytes if that is given.

    It is the length of a JSON text in 8 bytes, and that text, which says
    where each tensor lies, one after the other.

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
    length = -(-len(text) // ALIGNED) * ALIGNED if size is None else size - 8
    if len(text) > length:
        raise ValueError(f'a header of {len(text)} bytes exceeds {length}')
    return length.to_bytes(8, 'little') + text.ljust(length)


def read_file(file: Union[str, Path], mmap: bool = False) -> Dict[str, Field]:
    """The tensors of a safetensors file, whatever they are.

    With ``mmap`` they stay in it, all but a short text.

    Raises:
        ValueError: If it is none, or truncated.
        MemoryError: If it does not fit into memory.
    """
    if not Path(file).is_file():
        raise ValueError(f'{file}: no memory bank is there')
    try:
        # The library checks that tensors lie side by side in the whole file;
        # PyTorch's reading allocates it.
        with safe_open(str(file), framework='np' if mmap else 'pt') as stored:
            if mmap:
                return _mapped(file, stored.keys())
            # Copies: the tensors would change with the file.
            return {n: stored.get_tensor(n).clone() for n in stored.keys()}
    except Exception as error:  # whatever the library makes of a file
        if isinstance(error, MemoryError) or 'allocate memory' in str(error):
            raise MemoryError(
                f'{file}: {os.path.getsize(file)} bytes do not fit into '
                'memory; load it with mmap=True'
            ) from error
        raise ValueError(
            f'{file}: no whole safetensors file ({error}); fill the bank again'
        ) from error


def _mapped(file: Union[str, Path], names: Iterable[str]) -> Dict[str, Field]:
    stream = open(file, 'rb')  # as long as what is mapped lasts
    length = int.from_bytes(stream.read(8), 'little')
    header = json.loads(stream.read(length))
    fields: Dict[str, Field] = {}
    for name in names:
        entry = header[name]
        if entry['dtype'] not in _KINDS:
            raise ValueError(f'{name} is {entry["dtype"]}, which no bank holds')
        dtype, shape = _KINDS[entry['dtype']], tuple(entry['shape'])
        offset = 8 + length + entry['data_offsets'][0]
        field = MappedArray(stream, dtype, shape, offset)
        text = dtype == torch.uint8 and len(shape) == 1
        fields[name] = field[:] if text and len(field) < _LONGEST else field
    return fields
