"""Runs commands to their end, for what they print."""

import subprocess
from typing import Sequence


def printed(command: Sequence, **options) -> str:
    """What a command that must not fail prints, errors included.

    Args:
        command (Sequence): The program and its arguments, of any types.
        **options: Of ``subprocess.run``.
    """
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
