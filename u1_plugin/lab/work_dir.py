"""One training at a time in a work dir."""

import errno
from pathlib import Path
from typing import IO, Optional

try:
    import fcntl
except ImportError:  # Windows: nothing is known of other processes
    fcntl = None


def held(folder: Path) -> Optional[IO]:
    """Lock a work dir, where a killed job's ranks may still train.

    Args:
        folder (Path): Of one training.

    Returns:
        IO, optional: Close it to let go; the end of the process does too. None
        where the system has no such locks.

    Raises:
        RuntimeError: If another process holds it.
    """
    if fcntl is None:
        return None
    lock = (folder / '.lock').open('a')
    try:
        # Of this process alone: processes that it forks do not hold it.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            lock.close()
            raise RuntimeError(
                f'--work-dir={str(folder)!r}: another process trains there; '
                'end it or wait for it'
            ) from error
    return lock
