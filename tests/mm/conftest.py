"""Where the tools train, and pictures for a memory."""

import subprocess
import sys
from pathlib import Path

import pytest
from commands import printed
from memory_runs import pictures


@pytest.fixture(scope='module')
def workplace(root, tmp_path_factory) -> Path:
    """A folder with the digits where the configs look for them."""
    folder = tmp_path_factory.mktemp('workplace')
    converter = root / 'tools/dataset_converters/digits.py'
    subprocess.run([sys.executable, str(converter)], cwd=folder, check=True)
    return folder


@pytest.fixture
def command(root, workplace, environment):
    """Runs a tool to its end and returns what it printed."""

    def run(*args, prefix=(sys.executable,)) -> str:
        return printed(
            [*prefix, root / args[0], *args[1:]],
            cwd=workplace,
            env=dict(environment, PYTHON=sys.executable),
            timeout=600,
        )

    return run


@pytest.fixture
def folder(tmp_path) -> Path:
    """Pictures that a memory is filled from."""
    return pictures(tmp_path / 'data')
