"""A bank as tensors, for files and checkpoints, and back with every check.

What comes from a file is data of others: each field is checked before it is
used, and nothing in it is executed.
"""

import hashlib
import json
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

import torch
from torch import Tensor

from .memmap import Field, MappedArray, parts
from .storage import DTYPES, StorageDtype, check_values, stored_fields

FORMAT_VERSION = 2
METADATA = 'metadata'
_KEY = re.compile(r'(0|[1-9][0-9]{0,8})\.([a-z]+)')
_LONGEST_NAME, _LONGEST_PIECE, _MOST_BYTES = 64, 1024, 2**20
_CHECKED = 2**20  # numbers at a time
_KINDS: Dict[str, Any] = dict(
    version=int,
    dtype=str,
    identity=dict,
    blocks=int,
    pixels=int,
    channels=(int, type(None)),
    sha256=str,
)
Block = Dict[str, Field]


class Contents(NamedTuple):
    """What a state holds: how vectors are stored, what filled it, blocks."""

    dtype: StorageDtype
    identity: Dict[str, str]
    blocks: List[Block]


def check_identity(identity: Mapping[str, str], name: str) -> Dict[str, str]:
    """A copy of an identity.

    Raises:
        ValueError: If a piece is no short string, or its name is none.
    """
    for key, value in identity.items():
        if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_NAME:
            raise ValueError(
                f'{name}: the name of a piece must be a string of 1 to '
                f'{_LONGEST_NAME} characters, not {str(key)[:80]!r}'
            )
        if not isinstance(value, str) or len(value) > _LONGEST_PIECE:
            raise ValueError(
                f'{name}[{key!r}] must be a string of at most {_LONGEST_PIECE} '
                f'characters, such as a digest, not {str(value)[:80]!r}'
            )
    return dict(identity)


def differing(one: Mapping[str, str], two: Mapping[str, str]) -> List[str]:
    """Names of the pieces of two identities that are not the same."""
    return sorted(k for k in {*one, *two} if one.get(k) != two.get(k))


def write_state(contents: Contents) -> Dict[str, Field]:
    """The tensors of a bank: ``'{block}.{field}'``, and their metadata.

    Returns:
        dict: With ``'metadata'``, a uint8 tensor of JSON: version, dtype,
        identity, numbers of blocks, pixels and channels, and the tensors'
        checksum.

    Raises:
        ValueError: If the identity is none that :func:`read_state` takes.
    """
    check_identity(contents.identity, 'identity')
    tensors: Dict[str, Field] = {
        f'{number}.{field}': value
        for number, block in enumerate(contents.blocks)
        for field, value in block.items()
    }
    note = dict(_note(contents), sha256=_checksum(tensors))
    text = bytearray(json.dumps(note).encode())
    if len(text) > _MOST_BYTES:
        raise ValueError(
            f'identity: {len(text)} bytes of JSON with what else is noted, and '
            f'at most {_MOST_BYTES} are read; give fewer or shorter pieces'
        )
    tensors[METADATA] = torch.frombuffer(text, dtype=torch.uint8)
    return tensors


def _note(contents: Contents) -> Dict[str, Any]:
    blocks = contents.blocks
    return dict(
        version=FORMAT_VERSION,
        dtype=contents.dtype,
        identity=contents.identity,
        blocks=len(blocks),
        pixels=sum(len(block['labels']) for block in blocks),
        channels=blocks[0]['vectors'].shape[1] if blocks else None,
    )


def _checksum(tensors: Mapping[str, Field]) -> str:
    digest = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key]
        digest.update(f'{key} {value.dtype} {tuple(value.shape)};'.encode())
        for part in parts(value):
            digest.update(part.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_state(
    tensors: Mapping[str, Field],
    name: str,
    identity: Optional[Mapping[str, str]] = None,
) -> Contents:
    """What :func:`write_state` wrote, with every check.

    For the options see :meth:`~.bank_store.BankStore.load`.

    Raises:
        ValueError: If anything is missing, foreign, changed or out of its
            range; the message names it.
    """
    if not isinstance(tensors, Mapping):
        raise ValueError(f'{name}: no tensors but {type(tensors).__name__}')
    tensors = dict(tensors)
    note = _read_note(tensors.pop(METADATA, None), name)
    _check_identities(note['identity'], identity, name)
    blocks = read_blocks(tensors, note, name)
    contents = Contents(note['dtype'], note['identity'], blocks)
    for key, value in _note(contents).items():
        if note[key] != value:
            raise ValueError(
                f'{name}: metadata: {key} is {note[key]!r}, but the tensors '
                f'have {value!r}; fill the bank again'
            )
    if _checksum(tensors) != note['sha256']:
        raise ValueError(
            f'{name}: the checksum differs, so the tensors are changed; fill '
            'the bank again'
        )
    for number, block in enumerate(blocks):
        rows = max(1, _CHECKED // note['channels'])
        for part in zip(*(parts(value, rows) for value in block.values())):
            where = f'{name}: block {number}'
            check_values(dict(zip(block, part)), where)
    return contents


def _read_note(value: Any, name: str) -> Dict[str, Any]:
    if value is None:
        raise ValueError(
            f'{name}: no {METADATA}, so no memory bank of format '
            f'{FORMAT_VERSION}; fill the bank again'
        )
    name = f'{name}: {METADATA}'
    value = _plain(value, name)
    _check_kind(value, name, torch.uint8, 1)
    if not 0 < len(value) <= _MOST_BYTES:
        raise ValueError(f'{name}: {len(value)} bytes, expected a short JSON')
    try:
        note = json.loads(value[:].numpy().tobytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{name}: no JSON ({error})') from None
    if not isinstance(note, dict) or 'version' not in note:
        raise ValueError(f'{name}: no memory bank, for it has no version')
    version = note['version']
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(
            f'{name}: format version {str(version)[:80]}, this plugin reads '
            f'{FORMAT_VERSION}; fill the bank again'
        )
    if note.keys() != _KINDS.keys():
        raise ValueError(
            f'{name}: its fields differ from {list(_KINDS)}: '
            f'{sorted(_KINDS.keys() ^ note.keys())}'[:500]
        )
    for key, kind in _KINDS.items():
        if not isinstance(note[key], kind) or isinstance(note[key], bool):
            raise ValueError(
                f'{name}: {key} is a {type(note[key]).__name__}, which is wrong'
            )
    if note['dtype'] not in DTYPES:
        raise ValueError(
            f'{name}: dtype is {note["dtype"][:80]!r}, not one of '
            f'{list(DTYPES)}'
        )
    check_identity(note['identity'], f'{name}: identity')
    return note


def _check_identities(
    stored: Dict[str, str], identity: Optional[Mapping[str, str]], name: str
) -> None:
    expected = stored if identity is None else identity
    differences = [
        f'{key} ({stored.get(key)!r}, now {expected.get(key)!r})'
        for key in differing(expected, stored)
    ]
    if differences:
        raise ValueError(
            f'{name}: the bank was made with other {", ".join(differences)}; '
            'fill it again, into another file'
        )


def _plain(value: Any, name: str) -> Field:
    """The tensor on the CPU, or where it lies in a file."""
    if isinstance(value, MappedArray):
        return value
    if not isinstance(value, Tensor):
        raise ValueError(f'{name}: no tensor but {type(value).__name__}')
    if value.layout != torch.strided or value.is_meta:
        raise ValueError(f'{name}: a tensor without plain numbers')
    return value.detach().cpu().contiguous()


def _check_kind(value: Field, name: str, dtype: torch.dtype, ndim: int) -> None:
    if value.dtype != dtype or len(value.shape) != ndim:
        raise ValueError(
            f'{name}: {len(value.shape)} dimensions of {value.dtype}, expected '
            f'{ndim} of {dtype}'
        )


def read_blocks(
    tensors: Dict[str, Field], note: Dict[str, Any], name: str
) -> List[Block]:
    """The blocks of tensors, which are moved to the CPU.

    Raises:
        ValueError: If a name, kind or shape is not that of
            :func:`write_state`, or of the note's ``dtype`` and ``channels``.
    """
    by_number: Dict[int, Block] = {}
    for key in tensors:
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise ValueError(f'{name}: {str(key)[:80]!r} is no field of a bank')
        tensors[key] = _plain(tensors[key], f'{name}: {key}')
        by_number.setdefault(int(match[1]), {})[match[2]] = tensors[key]
    if sorted(by_number) != list(range(len(by_number))):
        raise ValueError(f'{name}: the blocks are not numbered without gaps')
    blocks = [by_number[number] for number in range(len(by_number))]
    for number, block in enumerate(blocks):
        _check_block(block, note, f'{name}: block {number}')
    return blocks


def _check_block(block: Block, note: Dict[str, Any], name: str) -> None:
    fields = stored_fields(note['dtype'])
    if block.keys() != fields.keys():
        raise ValueError(
            f'{name}: its fields differ from {list(fields)}: '
            f'{sorted(fields.keys() ^ block.keys())}'
        )
    for field, (dtype, row_shape) in fields.items():
        value, where = block[field], f'{name}: {field}'
        row_shape = (note['channels'],) if row_shape is None else row_shape
        shape = (*block['labels'].shape[:1], *row_shape)
        _check_kind(value, where, dtype, len(shape))
        if tuple(value.shape) != shape or 0 in shape:
            raise ValueError(
                f'{where}: {tuple(value.shape)}, expected {shape}, not empty'
            )
