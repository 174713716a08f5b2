"""What decides a run's result and lies outside its config: files and images."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

#: MMPretrain's `CustomDataset` takes these.
_IMAGES = tuple('.jpg .jpeg .png .ppm .bmp .pgm .tif'.split())


def file_digests(values: Any) -> Dict[str, str]:
    """Digests of the files and the folders of images that a config names.

    Files (class angles, planes, checkpoints, annotations) by their content;
    folders, ``data_root``, by the names and sizes of their images, for to
    read them all takes as long as to train on them. What else lies there may
    be an archive that the data set unpacks.

    Args:
        values (dict): The config. What it names and is not there, or is no
            path of this machine, is left out.

    Returns:
        Dict[str, str]: By path, as the config writes it.
    """
    return {path: _digest(path) for path in sorted(set(_paths(values)))}


def _paths(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        if _is(os.path.isfile, values):
            yield values
    elif isinstance(values, dict):
        root = values.get('data_root')
        if isinstance(root, str) and root and _is(os.path.isdir, root):
            yield root
            annotations = values.get('ann_file')
            if isinstance(annotations, str) and annotations:
                yield from _paths(os.path.join(root, annotations))
        for value in values.values():
            yield from _paths(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _paths(value)


def _is(kind: Any, path: str) -> bool:
    try:
        return bool(kind(path))
    except ValueError:  # no path at all, as with a null byte
        return False


def _digest(path: str) -> str:
    if os.path.isfile(path):
        status = os.stat(path)
        return _content(path, (status.st_mtime_ns, status.st_size))
    return _listing(path)


@cache
def _content(path: str, state: Tuple[int, int]) -> str:
    """Of a file; ``state`` tells when to read it anew."""
    digest = hashlib.sha256()
    with open(path, 'rb') as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]


@cache
def _listing(folder: str) -> str:
    """Of names and sizes; once a process, for there may be a million."""
    digest = hashlib.sha256()
    for place, folders, names in os.walk(folder):
        folders.sort()
        relative = Path(place).relative_to(folder).as_posix()
        for name in sorted(names):
            if not name.lower().endswith(_IMAGES):
                continue
            size = os.stat(os.path.join(place, name)).st_size
            digest.update(f'{relative}/{name} {size}\n'.encode())
    return digest.hexdigest()[:16]
