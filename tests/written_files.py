"""The package's files alone, for scripts, and what writing leaves hidden."""

from pathlib import Path

from u1_plugin import files

#: The package without what it imports, which takes seconds.
ALONE = f"""
import sys, types
sys.modules['u1_plugin'] = package = types.ModuleType('u1_plugin')
package.__path__ = [{str(Path(files.__file__).parent)!r}]
"""


def unseen(folder: Path) -> list:
    """What lies in a folder beside what was asked for."""
    return [file.name for file in folder.iterdir() if file.name[0] == '.']
