"""What decides a run's result and lies outside its config: files and images."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import Any, Dict, Iterator, Set, Tuple

#: MMPretrain's `CustomDataset` takes these.
_IMAGES = tuple('.jpg .jpeg .png .ppm .bmp .pgm .tif'.split())
#: In place of what cannot be read, as a broken link.
_ABSENT = 'absent'


def file_digests(values: Any) -> Dict[str, str]:
    """Digests of the files and the folders of images that a config names.

    Files (class angles, planes, checkpoints, annotations) by their content;
    folders of data sets by the names and sizes of their images, for to read
    them all takes as long as to train on them. What else lies there may be an
    archive that the data set unpacks.

    Args:
        values (dict): The config. What it names and is not there, or is no
            path of this machine, is left out.

    Returns:
        Dict[str, str]: By path, as the config writes it.
    """
    return {path: _digest(path) for path in sorted(set(_paths(values)))}


def _paths(values: Any) -> Iterator[str]:
    if isinstance(values, str):
        if os.path.isfile(values):
            yield values
    elif isinstance(values, dict):
        if 'type' in values:  # else a config that has such a variable
            yield from _data_paths(values)
        for value in values.values():
            yield from _paths(value)
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _paths(value)


def _data_paths(dataset: dict) -> Iterator[str]:
    """The list of a data set's images, and their folder."""
    root, prefix, annotations = (
        dataset.get(name) or ''
        for name in ('data_root', 'data_prefix', 'ann_file')
    )
    if isinstance(prefix, dict):
        prefix = prefix.get('img_path') or ''
    if not all(isinstance(part, str) for part in (root, prefix, annotations)):
        return
    if annotations and os.path.isfile(os.path.join(root, annotations)):
        yield os.path.join(root, annotations)
    folder = os.path.join(root, prefix) if prefix else root
    if folder and os.path.isdir(folder):
        yield folder


def _digest(path: str) -> str:
    if os.path.isfile(path):
        status = os.stat(path)
        return _content(path, (status.st_mtime_ns, status.st_size))
    return _listing(path)


@cache
def _content(path: str, state: Tuple[int, int]) -> str:
    """The digest of a file; ``state`` tells when to read it anew."""
    digest = hashlib.sha256()
    try:
        with open(path, 'rb') as stream:
            while block := stream.read(2**20):
                digest.update(block)
    except OSError:
        return _ABSENT
    return digest.hexdigest()[:16]


@cache
def _listing(folder: str) -> str:
    """The digest of names and sizes, read once a process: there may be many."""
    digest = hashlib.sha256()
    seen: Set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders.sort()
        relative = Path(place).relative_to(folder).as_posix()
        for name in sorted(names):
            if name.lower().endswith(_IMAGES):
                size = _size(os.path.join(place, name))
                digest.update(f'{relative}/{name} {size}\n'.encode())
    return digest.hexdigest()[:16]


def _size(file: str) -> str:
    try:
        return str(os.stat(file).st_size)
    except OSError:
        return _ABSENT


def changed(before: Any, now: Dict[str, str]) -> str:
    """The first path of which two records have different digests, or ''.

    Records of earlier versions have none, and a folder may have been moved:
    what only one of them names is not compared.
    """
    known = before if isinstance(before, dict) else {}
    return next((p for p in now if known.get(p, now[p]) != now[p]), '')
