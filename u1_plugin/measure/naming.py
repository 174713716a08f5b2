"""Errors that name an option as the user wrote it."""

from contextlib import contextmanager
from typing import Dict, Iterator


@contextmanager
def written_as(names: Dict[str, str]) -> Iterator[None]:
    """Let ValueErrors of the block name other options.

    What finds the maps of a network speaks of ``u1.neck.layers``, the option
    of a U(1) branch. A hook's user has written ``AngleStatsHook.layers``, and
    that of a tool ``--layers``.

    Args:
        names (Dict[str, str]): What stands in a message, and what is to.
    """
    try:
        yield
    except ValueError as error:
        text = str(error)
        for name, written in names.items():
            text = text.replace(name, written)
        if text == str(error):
            raise
        raise ValueError(text) from error
