"""Writes folders and files at once or not at all."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears at ``out`` when the block ends well.

    Args:
        out (Path): Must not exist yet.

    Yields:
        Path: Where to write. It lies beside ``out`` and is removed if the
        block raises.

    Raises:
        FileExistsError: If ``out`` exists.
    """
    if out.exists():
        raise FileExistsError(
            f'out={str(out)!r} exists; remove it or choose another folder'
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f'.{out.name}-', dir=out.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp's folders are private
        os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def replaced_file(file: Path) -> Iterator[Path]:
    """A file that changes to its new content when the block ends well.

    Args:
        file (Path): May exist; readers see the old or the new content whole.

    Yields:
        Path: Where to write, beside ``file`` and with its suffix.
    """
    part = file.with_name(f'.{os.getpid()}-{file.name}')
    try:
        yield part
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
