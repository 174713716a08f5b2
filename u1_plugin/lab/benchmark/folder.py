"""A benchmark's folder of results: its own, and held by one at a time."""

import fcntl
import os
import time
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Iterator

from ...files import check_tool_file, check_tool_folder, has_mark
from .table import MARKS

#: In the file `.lock` of a folder of results.
_MARK = b'a benchmark of u1_plugin'


def check_folder(out: Path) -> None:
    """Raise unless results may be written there.

    Raises:
        ValueError: If ``out`` is a file.
        FileExistsError: If it holds files, and is no folder of a benchmark.
    """
    lock = out / '.lock'
    if out.is_dir():
        for name, mark in MARKS.items():
            check_tool_file(out / name, mark, '--out')
        # Folders of earlier versions have no mark of their own.
        if any(has_mark(out / name, mark) for name, mark in MARKS.items()):
            return
        names = {
            path.name
            for path in out.iterdir()
            if not fnmatch(path.name, '.u1-*.part')
        }
        if not names or names == {'.lock'} and not lock.stat().st_size:
            return  # empty, but for what a kill at the very beginning left
    check_tool_folder(out, lock.name, _MARK, '--out')


@contextmanager
def locked(out: Path) -> Iterator[int]:
    """Hold a folder against a second benchmark.

    The children inherit the lock, so that it also holds while a killed
    benchmark's last runs are still dying.

    Yields:
        int: File descriptor for the children to inherit.

    Raises:
        RuntimeError: If another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out / '.lock', os.O_CREAT | os.O_RDWR)
    try:
        # A killed benchmark's children die with it, but not at once.
        for attempt in range(50):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 49:
                    raise RuntimeError(
                        f'--out={str(out)!r} is in use by another benchmark; '
                        'wait for it or choose another folder'
                    ) from None
                time.sleep(0.1)
        if not os.fstat(descriptor).st_size:
            os.write(descriptor, _MARK + b' holds this folder\n')
        yield descriptor
    finally:
        os.close(descriptor)
