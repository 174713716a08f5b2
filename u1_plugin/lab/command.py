"""What the tools' command lines share: numbers in range, errors in a line."""

import argparse
from contextlib import contextmanager
from typing import Annotated, Any, Callable, Iterator, Sequence, get_args

from ..options import Range, describe_hint, fits


def number(hint: Any) -> Callable[[str], Any]:
    """For argparse's ``type``: a number as an annotation says.

    Args:
        hint (Any): ``Annotated[int, Range(...)]`` or of float, such as those
            of :mod:`~u1_plugin.options`.
    """
    kind = get_args(hint)[0]

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if not fits(value, hint):
            raise argparse.ArgumentTypeError(
                f'{text!r} must be {describe_hint(hint)}'
            )
        return value

    return parse


def at_least(least: int) -> Callable[[str], int]:
    """For argparse's ``type``: an integer that is not below ``least``."""
    return number(Annotated[int, Range(least)])


@contextmanager
def told() -> Iterator[None]:
    """End the command with the message of what its user can mend.

    A missing file, a folder that is none, an option that does not fit: a
    traceback would hide the sentence that names them.

    Raises:
        SystemExit: In place of ImportError, OSError and ValueError.
    """
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


def check_read(given: bool, option: str, readers: Sequence[str]) -> None:
    """Refuse an option that nothing of the command reads.

    Args:
        given (bool): Whether one of its readers is.
        option (str): As the user wrote it, with its value.
        readers (Sequence[str]): The options that read it.

    Raises:
        ValueError: If none of them is given.
    """
    if not given:
        raise ValueError(
            f'{option} is read by none of the options given; give one of '
            f'{", ".join(readers)} as well, or leave it out'
        )
