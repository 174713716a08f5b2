"""Small tables that a benchmark keeps in its folder for the report."""

from pathlib import Path
from typing import List, Optional

from ...extras import needs
from .table import read_csv

with needs('lab'):
    import pandas as pd


def read_kept(file: Path, columns: List[str]) -> Optional[pd.DataFrame]:
    """A table, None in folders of versions that did not keep it.

    Args:
        file (Path): Written by ``tools/benchmark.py``.
        columns (List[str]): That it must have.

    Raises:
        ValueError: If it has others.
    """
    if not file.is_file():
        return None
    table = read_csv(file)
    if list(table.columns) != columns:
        raise ValueError(
            f'{file} has the columns {list(table.columns)}, not {columns}; '
            'write it again with tools/benchmark.py'
        )
    return table
