"""Private folders for what is unfinished, and their removal after kills.

What is unfinished lies in a private folder ``.u1-XXXXXXXX.part`` beside its
place. The name is drawn, nobody else can put links into the folder, and its
file ``lock`` is locked as long as its writer lives: the next writer beside it
removes what dead ones left.
"""

import errno
import os
import shutil
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

try:
    import fcntl
except ImportError:  # Windows: nothing is known of other writers
    fcntl = None

#: What a lock's file says, before the machine's name.
_NOTE = b'u1_plugin writes here: '

#: Locks of other machines may not be seen here: seconds to leave theirs alone.
_FOREIGN = 7 * 24 * 3600.0

_MEANWHILE = 'something appeared there meanwhile'


class PrivateFolder(NamedTuple):
    """A private folder and the descriptor of its locked file ``lock``."""

    folder: Path
    lock: int


def _locked(descriptor: int, wait: bool) -> bool:
    """Whether this process holds the lock; False where none are served."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


def _new_part(parent: Path) -> PrivateFolder:
    """A private folder in ``parent``, locked."""
    while True:
        folder = Path(tempfile.mkdtemp('.part', '.u1-', parent))
        file = folder / 'lock'
        lock = -1
        # Between these steps a sweep may take the folder for a dead writer's;
        # it removes nothing but an empty one, and we begin again.
        try:
            lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            _locked(lock, wait=True)
            if os.path.samestat(os.fstat(lock), os.stat(file)):
                os.write(lock, _NOTE + socket.gethostname().encode())
                return PrivateFolder(folder, lock)
        except FileNotFoundError:
            pass
        except BaseException:
            _remove(folder)
            if lock >= 0:
                os.close(lock)
            raise
        if lock >= 0:
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove a private folder, its lock last."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name != 'lock':
                place = folder / name
                if place.is_dir() and not place.is_symlink():
                    shutil.rmtree(place)
                else:
                    place.unlink()
        (folder / 'lock').unlink(missing_ok=True)
        folder.rmdir()


def sweep(parent: Path) -> None:
    """Remove what writers that were killed left in a folder.

    A folder whose writer lives, on this machine or (for a week) on another, is
    left alone, and so is everything that this module has not made. Where a
    file system serves no locks, nothing is removed.
    """
    for folder in parent.glob('.u1-????????.part'):
        if folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError):  # empty: killed before it made its lock
            folder.rmdir()
        with suppress(OSError):
            flags = os.O_RDWR | getattr(os, 'O_NOFOLLOW', 0)
            lock = os.open(folder / 'lock', flags)
            try:
                if _locked(lock, wait=False) and _is_left(folder, lock):
                    _remove(folder)
            finally:
                os.close(lock)


def _is_left(folder: Path, lock: int) -> bool:
    """Whether a private folder that nobody locks was left by a dead writer."""
    note = os.read(lock, 256)
    if not note:  # killed before it wrote the note, let alone anything else
        return os.listdir(folder) == ['lock']
    age = time.time() - os.fstat(lock).st_mtime
    return note == _NOTE + socket.gethostname().encode() or (
        note.startswith(_NOTE) and age > _FOREIGN
    )


@contextmanager
def unfinished(parent: Path) -> Iterator[PrivateFolder]:
    """A private folder for the time of the block, after a sweep of ``parent``.

    It stays, unseen by sweeps, if the block removes its file ``lock``.
    """
    sweep(parent)
    part = _new_part(parent)
    try:
        yield part
    finally:
        if (part.folder / 'lock').exists():
            _remove(part.folder)
        os.close(part.lock)


def sync(path: Path, content: bool = True) -> None:
    """Have a file, or a folder and its ``content``, on the disk.

    Links are not followed.
    """
    paths = [path]
    if content and path.is_dir() and not path.is_symlink():
        paths += path.rglob('*')
    if len(paths) == 1:
        _sync_one(path)
        return
    # File systems write down together what waits together.
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(_sync_one, paths))


def _sync_one(path: Path) -> None:
    if path.is_symlink():
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:  # some file systems sync no folders, or nothing
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.ENOTSUP):
            raise


def publish(
    work: Path, target: Path, move: Callable[[Path, Path], None]
) -> None:
    """Move finished work to its place, or keep it and say where."""
    try:
        move(work, target)
    except OSError as error:
        kept = _kept(work, target)
        raise type(error)(
            f'the finished work is in {str(kept)!r}, for it could not be '
            f'moved to {str(target)!r}: {error.strerror or error}'
        ) from error
    with suppress(OSError):  # it is there; its entry may not be on disk yet
        sync(target.parent, content=False)


def _kept(work: Path, target: Path) -> Path:
    """Where finished work stays whose own place is taken."""
    stem, suffix = target.name, ''
    if not work.is_dir():
        stem, suffix = target.stem, target.suffix
    for number in range(1, 1000):
        sibling = target.with_name(f'{stem}-{number}{suffix}')
        try:
            move_new(work, sibling)
            return sibling
        except FileExistsError:
            continue
        except OSError:
            break
    (work.parent / 'lock').unlink()  # without it, nobody sweeps the folder
    return work


def move_new(work: Path, target: Path) -> None:
    """Move to where nothing is, or for a folder to an empty one."""
    if not work.is_dir():
        try:
            os.link(work, target)  # a rename would overwrite
            return
        except FileExistsError:
            raise FileExistsError(errno.EEXIST, _MEANWHILE) from None
        except OSError:  # a file system without links
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, _MEANWHILE) from None
    try:
        os.rename(work, target)
    except OSError as error:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, _MEANWHILE) from error
        raise
