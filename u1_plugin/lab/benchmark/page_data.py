"""What a page keeps beside its text, so that it can be made again from it."""

import shlex
import shutil
from pathlib import Path
from typing import List, Optional

from ...extras import needs
from .anchors import FILE as ANCHORS
from .figures import has_curves
from .primary import FILE as PRIMARY
from .results import is_page
from .table import save_csv

with needs('lab'):
    import pandas as pd

#: The commands that made the runs, a line each.
COMMANDS = 'command.txt'
_SUITES = Path('configs/suites')


def behaviour_folder(
    results: Path, behaviour: Optional[Path]
) -> Optional[Path]:
    """The folder of ``behaviour.csv``: of a page that has it, the page."""
    if behaviour is None and is_page(results):
        return results if (results / 'behaviour.csv').is_file() else None
    return behaviour


def commands_of(
    results: Path, suite: str, behaviour: Optional[Path], root: Path
) -> List[str]:
    """The commands that made the runs and their behaviour.

    Args:
        results (Path): Of a benchmark, or a page, which names its own.
        suite (str): Name of the suite.
        behaviour (Path, optional): Folder made by ``tools/behaviour.py``.
        root (Path): The checkout.

    Raises:
        OSError: If a page or ``behaviour`` does not name them.
    """
    lines = []
    if is_page(results):
        lines += (results / COMMANDS).read_text(encoding='utf-8').splitlines()
    else:
        file = _SUITES / f'{suite}.yml'
        if not (root / file).is_file():
            file = Path('SUITE.yml')  # a user's own, wherever it lies
        words = ['python', 'tools/benchmark.py', file.as_posix(), '--out']
        lines.append(shlex.join([*words, str(results)]))
    if behaviour not in (None, results):
        lines.append((behaviour / COMMANDS).read_text().strip())
    return lines


def keep_data(
    table: pd.DataFrame,
    commands: List[str],
    results: Path,
    behaviour: Optional[Path],
    out: Path,
) -> None:
    """Write what a report has read to the folder of its page.

    Curves of a single point and folders of runs are left out.
    """
    left_out = ['folder', *['val_curve'] * (not has_curves(table))]
    save_csv(table.drop(columns=left_out, errors='ignore'), out / 'runs.csv')
    text = ''.join(f'{line}\n' for line in commands)
    (out / COMMANDS).write_text(text, encoding='utf-8')
    files = [results / name for name in (PRIMARY, ANCHORS, 'planned.csv')]
    if behaviour:
        files.append(behaviour / 'behaviour.csv')
    for file in filter(Path.is_file, files):
        shutil.copyfile(file, out / file.name)
