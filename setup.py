"""Puts configs, tools and the model index where MMEngine and mim look.

Both look for ``<package>/.mim``. A wheel gets copies there. An editable
installation gets links to the checkout's own folders, so that an edited config
counts at once; on a file system without links, copies that the next
``pip install -e`` renews. Everything else is in ``setup.cfg``.
"""

import os
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ('configs', 'tools', 'model-index.yml')
NOT_SHIPPED = shutil.ignore_patterns(
    '__pycache__', '*.pyc', '*.png', 'maintenance'
)


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=NOT_SHIPPED)
    else:
        shutil.copyfile(source, target)


def link(source: Path, target: Path) -> None:
    """Link to a file or a folder, or copy where links are refused."""
    try:
        relative = os.path.relpath(source, target.parent)
        target.symlink_to(relative, target_is_directory=source.is_dir())
    except (OSError, NotImplementedError):
        copy(source, target)


class BuildPy(build_py):
    """Builds the package, and ``.mim`` in it."""

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            package, place = ROOT / 'u1_plugin', link
        else:
            package, place = Path(self.build_lib) / 'u1_plugin', copy
        folder = package / '.mim'
        if folder.is_dir():
            shutil.rmtree(folder)  # of an earlier build; links stay unfollowed
        folder.mkdir(parents=True)
        for name in SHIPPED:
            place(ROOT / name, folder / name)


setup(cmdclass=dict(build_py=BuildPy))
