"""Reads users' files as data, which gain no power of code.

Whatever is wrong with a file is a ValueError that names the option and the
file: a file may come from others, and be damaged or made up.
"""

import io
import json
import os
import stat
import sys
import zipfile
from typing import Any, Dict, List, Tuple, Union

import numpy as np

from ..options import shown

FilePath = Union[str, 'os.PathLike[str]']

#: Larger files are no angles and planes. Bytes, of an archive as unpacked.
_LARGEST = 2**30


def read_bytes(field: str, path: FilePath) -> bytes:
    """A regular file's content; a path such as ``s3://...`` needs MMEngine.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is no file, cannot be read or is too large.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f'{field}={shown(path)} must be the path of a file')
    try:
        if '://' not in str(path):
            return _read_local(os.fspath(path))
        # MMEngine's file clients know the protocol; disk needs no client.
        fileio = sys.modules.get('mmengine.fileio')
        if fileio is None:
            raise ValueError(
                'it is no file of this machine; install MMEngine to read '
                'remote files, or copy it here'
            )
        content: bytes = fileio.get(str(path))
        return content
    except FileNotFoundError:
        raise FileNotFoundError(f'{field}={path!r} does not exist') from None
    except Exception as error:  # a client raises what it likes
        raise ValueError(f'{field}={path!r} cannot be read: {error}') from error


def _read_local(path: str) -> bytes:
    # Without waiting for the other end of a pipe.
    flags = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0)
    with open(path, 'rb', opener=lambda p, _: os.open(p, flags)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('it is no regular file')
        if status.st_size > _LARGEST:
            raise ValueError(f'it has more than {_LARGEST} bytes')
        return file.read()


def read_mapping(field: str, path: FilePath, expected: str) -> Dict[str, Any]:
    """A JSON file, or plain YAML (``.yaml``, ``.yml``), as a dict.

    ``expected`` is what the file should hold, for messages.

    Raises:
        FileNotFoundError: If there is none.
        ImportError: If it is YAML and PyYAML is not installed.
        ValueError: If it is neither, says a key twice or is no mapping. YAML's
            tags and aliases are not read.
    """
    try:
        text = read_bytes(field, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{error}; name a JSON or YAML file that holds {expected}'
        ) from None
    try:
        if str(path).endswith(('.yaml', '.yml')):
            content = load_yaml(text, aliases=False)
        else:
            content = json.loads(text, object_pairs_hook=_once)
    except ImportError:
        raise ImportError(
            f'{field}={path!r} needs PyYAML; install pyyaml or write JSON'
        ) from None
    except (Exception, RecursionError) as error:
        raise ValueError(
            f'{field}={path!r} is neither JSON nor plain YAML: {error}'
        ) from error
    if not isinstance(content, dict):
        raise ValueError(
            f'{field}={path!r} must hold a mapping with {expected}, but holds '
            f'a {type(content).__name__}'
        )
    return content


def _once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f'the key {twice!r} is there twice')
    return mapping


def load_yaml(text: Union[str, bytes], aliases: bool) -> Any:
    """Safe YAML in which no mapping says a key twice.

    ``aliases`` says whether they, and merges of them, are read: a few nested
    ones stand for more than any memory holds.

    Raises:
        ImportError: If PyYAML is not installed.
        yaml.YAMLError: If it is no such YAML, or a key stands there twice.
    """
    import yaml  # MMEngine brings it

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # has no types
        def compose_node(self, parent: Any, index: Any) -> Any:
            if not aliases and self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError('it has aliases; write them out')
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            keys: List[Any] = []
            for key, _ in node.value:
                # What is merged in may well be said again.
                if key.tag == 'tag:yaml.org,2002:merge':
                    continue
                value = self.construct_object(key, deep=True)
                if value in keys:
                    raise yaml.constructor.ConstructorError(
                        problem=f'the key {value!r} is there twice',
                        problem_mark=key.start_mark,
                    )
                keys.append(value)
            return super().construct_mapping(node, deep)

    def number(loader: Any, node: Any) -> Any:
        digits = node.value.replace('_', '').lstrip('+-')
        # 010 is eight and 1:30 ninety, which no reader expects.
        if ':' in digits or (digits[:1] == '0' and digits[1:].isdigit()):
            raise yaml.constructor.ConstructorError(
                problem=f'{node.value!r} would not be read as a decimal '
                'number; write it as one, or as text in quotes',
                problem_mark=node.start_mark,
            )
        kind = node.tag.rpartition(':')[2]
        return getattr(loader, f'construct_yaml_{kind}')(node)

    for kind in ('int', 'float'):
        Loader.add_constructor(f'tag:yaml.org,2002:{kind}', number)
    return yaml.load(text, Loader)  # as safe as yaml.safe_load


def is_numbers(value: Any, depth: int = 3) -> bool:
    """Whether a value is a number or lists of them, and no text or bool."""
    if isinstance(value, list):
        return depth > 0 and all(is_numbers(part, depth - 1) for part in value)
    return type(value) in (int, float)


def read_array(field: str, path: FilePath, name: str, why: str) -> np.ndarray:
    """The array ``name`` of an ``.npz`` file: finite, float64.

    ``why`` is the option that asks for it, for messages.

    Raises:
        FileNotFoundError: If there is no file.
        ValueError: If it is no archive, holds no such array, or one that is
            not of finite real numbers.
    """
    try:
        data = read_bytes(field, path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{error}; write one with numpy.savez'
        ) from None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(part.file_size for part in archive.infolist()) > _LARGEST:
                raise ValueError(f'it unpacks to more than {_LARGEST} bytes')
        with np.load(io.BytesIO(data), allow_pickle=False) as npz:
            names, array = sorted(npz), npz.get(name)
    except Exception as error:  # zipfile, zlib and numpy raise many kinds
        raise ValueError(
            f'{field}={path!r} is not an .npz file of arrays: {error}'
        ) from error
    if array is None:
        raise ValueError(
            f'{field}={path!r} holds {shown(names)}, but {why} needs {name!r}'
        )
    if not isinstance(array, np.ndarray) or array.dtype.kind not in 'fiu':
        kind = getattr(array, 'dtype', type(array).__name__)
        raise ValueError(
            f'{field}={path!r}: {name!r} holds {kind}, but must hold real '
            'numbers'
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(
            f'{field}={path!r}: {name!r} has entries that are not finite; '
            'fit it again'
        )
    return array
