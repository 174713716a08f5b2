"""What a page keeps beside its text, so that it can be made again from it."""

import logging
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
_MEASURES = 'tools/behaviour.py'
_logger = logging.getLogger(__name__)
_SUITES = Path('configs/suites')


def behaviour_folder(
    results: Path, behaviour: Optional[Path]
) -> Optional[Path]:
    """The folder of ``behaviour.csv``: of a page that has it, the page.

    It is said if a page lacks what it has measured.

    Raises:
        OSError: If a page does not name its commands.
    """
    if behaviour is not None or not is_page(results):
        return behaviour
    if (results / 'behaviour.csv').is_file():
        return results
    if any(_MEASURES in line for line in _lines(results)):
        _logger.warning(
            '%s has no behaviour.csv: the new page has no part on behaviour',
            results,
        )
    return None


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
        lines += [line for line in _lines(results) if _MEASURES not in line]
    else:
        file = _SUITES / f'{suite}.yml'
        if not (root / file).is_file():
            file = Path('SUITE.yml')  # a user's own, wherever it lies
        words = ['python', 'tools/benchmark.py', file.as_posix(), '--out']
        lines.append(shlex.join([*words, str(results)]))
    if behaviour is not None:
        lines += [line for line in _lines(behaviour) if _MEASURES in line]
    return lines


def _lines(folder: Path) -> List[str]:
    return (folder / COMMANDS).read_text(encoding='utf-8').splitlines()


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
