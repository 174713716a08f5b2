"""Says which extra to install where an optional library is missing."""

from contextlib import contextmanager
from typing import Iterator


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Imports of libraries that an extra of ``setup.cfg`` brings.

    Raises:
        ModuleNotFoundError: Naming the library and the command that installs
            it.

    Examples:
        >>> with needs('lab'):
        ...     import pandas as pd
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or '').partition('.')[0]
        if missing in ('', 'u1_plugin') or 'u1_plugin[' in str(error):
            raise
        raise ModuleNotFoundError(
            f"{missing} is not installed; run pip install 'u1_plugin[{extra}]'",
            name=missing,
        ) from error
