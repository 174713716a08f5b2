"""Reads the finished runs of a benchmark, from its folder or from a page."""

import json
from pathlib import Path

import numpy as np

from ...extras import needs
from ...options import shown
from .table import PLANNED, read_csv, read_kept

with needs('lab'):
    import pandas as pd

_TEXT = ('suite', *PLANNED[:3], 'hardware', 'versions')
#: What a page's table lacks: the folders of the runs, and, where the networks
#: were validated once, curves.
_BENCHMARK_ONLY = ('val_curve', 'folder')
_INTEGERS = ('seed', 'epochs', 'parameters')
_NUMBERS = ('val_top1', 'test_top1', 'cpu_s', 'peak_rss_mib', 'peak_cuda_mib')
_JSON = dict(versions=dict, val_curve=list)


def read_results(folder: Path) -> pd.DataFrame:
    """The finished runs of a benchmark's folder, ``results.csv``.

    Raises:
        ValueError: If there is no such table, or no run of it is finished.
    """
    if not (folder / 'results.csv').is_file():
        raise ValueError(f'{folder} has no results.csv of a benchmark')
    return _read(folder / 'results.csv', (*_TEXT, *_BENCHMARK_ONLY))


def is_page(folder: Path) -> bool:
    """Whether a folder is that of a report, and no benchmark's."""
    return (folder / 'runs.csv').is_file() and not (
        folder / 'results.csv'
    ).is_file()


def read_runs(folder: Path) -> pd.DataFrame:
    """The finished runs of a benchmark's folder or of a report's page.

    Raises:
        ValueError: If there is neither table, or no run of it is finished.
    """
    if is_page(folder):
        return _read(folder / 'runs.csv', _TEXT)
    if not (folder / 'results.csv').is_file():
        raise ValueError(
            f'RESULTS {str(folder)!r} has neither results.csv of '
            'tools/benchmark.py nor runs.csv of tools/report.py'
        )
    return read_results(folder)


def read_plan(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    """What was planned; a folder without a plan planned what it has."""
    plan = read_kept(folder / 'planned.csv')
    return table[PLANNED] if plan is None else plan


def _read(file: Path, text: tuple) -> pd.DataFrame:
    """A table that has columns of text, and those of numbers."""
    tool = 'report' if file.name == 'runs.csv' else 'benchmark'
    try:
        table = read_csv(file)
    except ValueError as error:
        raise ValueError(
            f'{file} is no table of a benchmark: {error}'
        ) from error
    if table.empty:
        raise ValueError(
            f'{file} has no finished run; see the errors of tools/benchmark.py'
        )
    if fault := _fault(table, text):
        raise ValueError(f'{file}{fault}; write it again with tools/{tool}.py')
    return table


def _fault(table: pd.DataFrame, text: tuple) -> str:
    """What tells a table from that of a benchmark; empty if nothing does."""
    columns = (*text, *_INTEGERS, *_NUMBERS)
    missing = [name for name in columns if name not in table]
    if missing:
        return f' has no column {", ".join(missing)}'
    for name in (*PLANNED[:3], 'suite', 'hardware'):
        if (table[name].isna() | (table[name] == '')).any():
            return f': {name} is empty in some rows'
    wrong = [n for n in _INTEGERS if table[n].dtype.kind not in 'iu']
    for name in _NUMBERS:
        number = table[name].dtype.kind in 'iuf'
        if (np.isinf(table[name]) if number else table[name].notna()).any():
            wrong.append(name)
    if wrong:
        return f': {", ".join(wrong)} must hold finite numbers'
    for name in _JSON.keys() & set(table.columns):
        for value in table[name].unique():
            try:
                fits = isinstance(json.loads(value), _JSON[name])
            except (TypeError, ValueError, RecursionError):
                fits = False
            if not fits:
                return f': {name}={shown(value)} is no JSON'
    return ''
