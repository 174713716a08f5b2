"""Writes folders and files at once or not at all.

What is unfinished lies in a private folder beside its place
(:mod:`~u1_plugin.unfinished`). Files and folders get the modes that the user's
umask gives; an existing file keeps its own.
"""

import errno
import os
import stat
from argparse import ArgumentTypeError
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Union

from .options import shown
from .unfinished import move_new, publish, sync, unfinished

PathLike = Union[str, 'os.PathLike[str]']

#: How much of a file's beginning is searched for a mark, in bytes.
_HEAD = 1024


def _real(path: PathLike, field: str) -> Path:
    """Where a path leads; ValueError for what no path can be."""
    try:
        if b'\0' in os.fsencode(path):  # Python 3.9 would find it later
            raise ValueError('embedded null byte')
        return Path(os.path.realpath(path))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'{field}={shown(path)} is not a valid path: {error}; choose '
            'another name'
        ) from error


def check_tool_file(file: PathLike, mark: bytes, field: str = 'file') -> None:
    """Raise FileExistsError if a file exists that is not one's own.

    One's own hold ``mark`` in their first KiB; a file that holds nothing that
    could be lost may be anybody's. ``field`` is the option, for messages.
    """
    if os.path.lexists(file) and not (has_mark(file, mark) or _is_blank(file)):
        raise FileExistsError(
            f'{field}={str(file)!r} exists and was not written by this tool '
            '(or was by another version of it); move it away or choose '
            'another place'
        )


def check_tool_folder(
    folder: PathLike, name: str, mark: bytes, field: str
) -> None:
    """Raise unless a folder is missing, empty or one's own.

    One's own hold a file ``name`` with ``mark`` in its first KiB.

    Raises:
        ValueError: If ``folder`` is a file.
        FileExistsError: If it holds something, but no such file.
    """
    if not os.path.lexists(folder):
        return
    if not os.path.isdir(folder):
        raise ValueError(f'{field}={str(folder)!r} is a file; name a folder')
    if os.listdir(folder) and not has_mark(os.path.join(folder, name), mark):
        raise FileExistsError(
            f'{field}={str(folder)!r} holds files, but no {name!r} of this '
            'tool; choose a new or an empty folder'
        )


def has_mark(file: PathLike, mark: bytes) -> bool:
    """Whether a file holds ``mark`` in its first KiB."""
    try:
        if not stat.S_ISREG(os.stat(file).st_mode):
            return False
        with open(file, 'rb') as stream:
            return mark in stream.read(_HEAD)
    except OSError:
        return False


def _is_blank(file: PathLike) -> bool:
    if not os.path.isfile(file) or os.path.getsize(file) > _HEAD:
        return False
    return not Path(file).read_bytes().strip()


def check_new(path: PathLike, field: str, parents: bool = False) -> None:
    """Check, before the work, that a new file or folder can be written.

    For the arguments, and what else is raised, see :func:`check_writable`.

    Raises:
        FileExistsError: If something is there, be it a link.
        ValueError: If it is not a valid path.
    """
    _real(path, field)
    if os.path.lexists(path):
        raise FileExistsError(
            f'{field}={str(path)!r} exists; remove it or choose another place'
        )
    check_writable(path, field, parents)


def short_name(name: str, most: int = 120) -> str:
    """A file's name of so many bytes at most, its beginning and its end.

    What is made of a user's name gets parts of its own before and after it,
    and file systems take 255 bytes.
    """
    raw = os.fsencode(name)
    if len(raw) <= most:
        return name
    half = (most - 3) // 2
    # A character that is cut in two is left out.
    first, last = raw[:half], raw[-half:]
    return '...'.join(part.decode(errors='ignore') for part in (first, last))


def new_path(text: str) -> Path:
    """For argparse's ``type``: what :func:`check_new` lets pass."""
    try:
        check_new(text, 'path', parents=True)
    except (OSError, ValueError) as error:
        raise ArgumentTypeError(str(error).replace('path=', '', 1)) from None
    return Path(text)


def check_writable(
    path: PathLike,
    field: str,
    parents: bool = False,
    mark: Optional[bytes] = None,
) -> None:
    """Check, before the work, that a file can be written.

    It is tried, for permissions alone do not tell; a file that exists stays as
    it is. ``parents`` makes the missing folders above it, ``mark`` is as of
    :func:`replaced_file`.

    Raises:
        PermissionError: If the file or its folder may not be written.
        FileExistsError: If a file without ``mark`` is there.
        ValueError: If it cannot be written for another reason, such as a
            missing folder or a full disk.
    """
    target = _real(path, field)
    if os.path.isdir(target):
        raise ValueError(f'{field}={str(path)!r} is a folder; name a file')
    if mark is not None:
        check_tool_file(target, mark, field)
    try:
        if parents:
            target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if not target.is_file():
                raise OSError(errno.EINVAL, 'it is no regular file')
            os.close(os.open(target, os.O_WRONLY))
        with unfinished(target.parent) as part:
            trial = part.folder / target.name
            trial.write_bytes(b'\0' * 4096)
            sync(trial)
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        kind = PermissionError if denied else ValueError
        raise kind(
            f'{field}={str(path)!r} cannot be written: {error.strerror}; '
            + _REMEDIES.get(error.errno, _REMEDIES[None])
        ) from error


_REMEDIES: Dict[Optional[int], str] = {
    errno.ENOENT: 'make the folder that it is to lie in',
    errno.ENOTDIR: 'choose another place, of which all parts are folders',
    errno.EEXIST: 'choose another place, of which all parts are folders',
    errno.ENOSPC: 'make space or choose another place',
    errno.ENAMETOOLONG: 'choose a shorter name',
    None: 'choose another place or have its permissions changed',
}


@contextmanager
def new_folder(out: PathLike, field: str = 'out') -> Iterator[Path]:
    """A folder that appears at ``out`` when the block ends well.

    Enter it before the work: it raises at once where it cannot write. Missing
    parents are made.

    Args:
        out (Path): Must not exist yet, not even as a link.
        field (str): The option, for messages.

    Yields:
        Path: Where to write, a folder of the final name. It is removed if the
        block raises.

    Raises:
        FileExistsError: If ``out`` exists at the beginning; or at the end,
            unless it is an empty folder. The finished work is then in a
            sibling, ``out-1`` or the next free one, which the message names.
        ValueError, PermissionError: See :func:`check_writable`.
    """
    check_new(out, field, parents=True)
    target = Path(os.path.realpath(out))
    with unfinished(target.parent) as part:
        work = part.folder / target.name
        work.mkdir()
        yield work
        sync(work)
        publish(work, target, move_new)


@contextmanager
def replaced_file(
    file: PathLike, mark: Optional[bytes] = None
) -> Iterator[Path]:
    """A file that changes to its new content when the block ends well.

    A link stays, and the file that it leads to is replaced.

    Args:
        file (Path): May exist; readers see the old or the new content whole.
        mark (bytes, optional): An existing file without it in its first KiB
            is not replaced. Give one wherever a user chooses the name.

    Yields:
        Path: Where to write, of the same name in another folder.

    Raises:
        FileExistsError: If the file is not one's own, at the beginning or at
            the end; the finished work is then beside it, and the message says
            where.
    """
    target = _real(file, 'file')
    if mark is not None:
        check_tool_file(target, mark)

    def move(work: Path, target: Path) -> None:
        if mark is not None:
            try:
                return move_new(work, target)
            except FileExistsError:
                check_tool_file(target, mark)
        os.replace(work, target)

    with _written(target, move) as work:
        yield work


@contextmanager
def new_file(file: PathLike, field: str = 'out') -> Iterator[Path]:
    """A file that appears when the block ends well; else as `new_folder`."""
    check_new(file, field, parents=True)
    with _written(Path(os.path.realpath(file)), move_new) as work:
        yield work


@contextmanager
def _written(
    target: Path, move: Callable[[Path, Path], None]
) -> Iterator[Path]:
    with unfinished(target.parent) as part:
        work = part.folder / target.name
        yield work
        try:
            mode = target.stat().st_mode
        except OSError:  # a new file's mode is that of the lock: by the umask
            mode = os.fstat(part.lock).st_mode
        work.chmod(stat.S_IMODE(mode))
        sync(work)
        publish(work, target, move)
