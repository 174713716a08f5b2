"""Paired runs of two arms, from the results of several benchmarks."""

from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

from ...extras import needs
from .across import DataSet, data_set
from .arm_results import by_seed
from .results import is_page, read_plan, read_runs
from .table import PairingError, check_pairs

with needs('lab'):
    import pandas as pd

#: Arm, and what it is compared to.
Pair = Tuple[str, str]
#: Columns that are read here, beside those that every table has.
_NEEDED = ('initial_backbone', 'initial_head_fc', 'order', 'config_hash')


class Results(NamedTuple):
    """The runs of one folder, its suite, and the runs that were planned."""

    folder: Path
    table: pd.DataFrame
    suite: str
    plan: pd.DataFrame


def read_folder(folder: Path) -> Results:
    """The finished runs of a benchmark's folder, or of a report's.

    Raises:
        ValueError: If there are none, a column is missing or wrong, or runs
            are no pairs.
    """
    table = read_runs(folder)
    file = folder / ('runs.csv' if is_page(folder) else 'results.csv')
    if wrong := _wrong(table):
        raise ValueError(
            f'{file}: {wrong}; write it again with tools/benchmark.py or '
            'tools/report.py'
        )
    try:
        check_pairs(table)
    except PairingError as error:
        raise PairingError(f'{file}: {error}') from None
    plan = read_plan(folder, table)
    return Results(folder, table, str(table.suite.iloc[0]), plan)


def _wrong(table: pd.DataFrame) -> str:
    missing = [name for name in _NEEDED if name not in table]
    if missing:
        return f'no column {", ".join(missing)}'
    if table.config_hash.isna().any():
        return 'config_hash is empty in some rows'
    top1 = table.test_top1.dropna()
    number = top1.dtype.kind in 'iuf' or top1.empty
    # In float32 all images are a little more than 100 %.
    if not number or not top1.between(0, 100.001).all():
        return 'test_top1 must hold numbers from 0 to 100, per cent'
    return ''


def runs_of(
    results: Sequence[Results], pair: Pair
) -> Tuple[Dict[str, pd.DataFrame], Dict[str, List[str]]]:
    """The paired runs of each config, and which arms other configs lack.

    A pair is of one folder: the same versions, and as a rule one machine.
    """
    by_config: Dict[str, List[pd.DataFrame]] = {}
    lacking: Dict[str, List[str]] = {}
    for one in results:
        for config, runs in one.table.groupby('config', sort=False):
            series = by_seed(runs, 'test_top1')
            none = [a for a in pair if a not in series or series[a].empty]
            if none:
                lacking.setdefault(config, none)
                continue
            seeds = series[pair[0]].index.intersection(series[pair[1]].index)
            runs = runs[runs.arm.isin(pair) & runs.seed.isin(seeds)]
            runs = runs.assign(results=str(one.folder))
            by_config.setdefault(config, []).append(runs)
    left = {name: lacking[name] for name in lacking if name not in by_config}
    return {name: pd.concat(parts) for name, parts in by_config.items()}, left


def make_set(config: str, runs: pd.DataFrame, pair: Pair) -> DataSet:
    """One data set of a comparison, from its runs of :func:`runs_of`.

    Raises:
        ValueError: If there are fewer than 2 pairs, a run is in two folders,
            or the folders' settings or data differ.
    """
    folders = ' and '.join(runs.results.unique())
    twice = runs[runs.duplicated(['arm', 'seed'])]
    if len(twice):
        raise ValueError(
            f'{config}: seed {twice.seed.iloc[0]} of {twice.arm.iloc[0]} is in '
            f'{folders}, and would count twice; leave one of them out'
        )
    # Tables of earlier versions lack two of them.
    for name in ('config_hash', 'processes', 'data_hash'):
        if name not in runs:
            continue
        settings = runs.groupby('arm')[name].nunique()
        if (settings > 1).any():
            raise ValueError(
                f'{config}: the settings ({name}) of {settings.idxmax()} '
                f'differ within {folders}; make a page for each of them'
            )
    top1 = runs.pivot(index='seed', columns='arm', values='test_top1')
    if len(top1) < 2:
        raise ValueError(
            f'{config} has {len(top1)} pair(s) of {" and ".join(pair)}, of '
            '2 or more that an interval takes; let more seeds finish, or leave '
            'out its results'
        )
    return data_set(config, *(top1[arm].to_numpy() for arm in pair))
