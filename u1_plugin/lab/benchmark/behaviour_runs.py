"""Which finished runs are measured, and whether they can be."""

import math
from argparse import Namespace
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np
from mmengine.config import Config

from ...extras import needs
from ...mm.data import described
from ..command import check_read
from .evaluated_images import split_dataset
from .table import read_csv

with needs('lab'):
    import pandas as pd

#: Options for which models look at images.
LOOKING = ('corruptions', 'ood', 'also', 'collapse', 'transfer')
#: Options that change nothing without one of some others.
_READERS = dict(
    severities=('corruptions',),
    images=LOOKING,
    layer=('ood', 'collapse', 'transfer'),
)
KEYS = ['config', 'arm', 'role', 'seed']


def check_readers(options: Namespace) -> None:
    """Raise ValueError for an option that nothing asked for reads."""
    for name, readers in _READERS.items():
        value = getattr(options, name)
        if value is not None:
            values = value if isinstance(value, list) else [value]
            check_read(
                any(getattr(options, reader) for reader in readers),
                f'--{name} {" ".join(map(str, values))}',
                [f'--{reader}' for reader in readers],
            )


def select(
    table: pd.DataFrame,
    arms: Optional[Sequence[str]] = None,
    seeds: Optional[int] = None,
) -> pd.DataFrame:
    """The runs to measure: those that saw the test split, as asked for.

    Args:
        table (pd.DataFrame): Of a benchmark.
        arms (Sequence[str], optional): Their names; None takes all. A config
            need not have them: anchors have the baseline alone.
        seeds (int, optional): The first so many of each config; None takes
            all.
    """
    table = table[table.role != 'ablation']
    if arms:
        table = table[table.arm.isin(arms)]
    if seeds is not None:
        first = table.groupby('config').seed.transform('min')
        table = table[table.seed < first + seeds]
    return table


def check_arms(table: pd.DataFrame, arms: Optional[Sequence[str]]) -> None:
    """Raise ValueError for an arm that has no finished run of any config."""
    there = set(table[table.role != 'ablation'].arm)
    missing = sorted(set(arms or ()) - there)
    if missing:
        raise ValueError(
            f'--arms: no finished run of {missing}; there are {sorted(there)}'
        )


def target_accuracy(runs: pd.DataFrame) -> float:
    """99 % of the mean final validation top-1 of a config's baseline.

    Raises:
        ValueError: If there is no baseline that was validated.
    """
    target = 0.99 * runs[runs.role == 'baseline'].val_top1.mean()
    if math.isnan(target):
        raise ValueError(
            f'--accuracy: {runs.config.iloc[0]} has no baseline that was '
            'validated; name the per cent to reach'
        )
    return target


def keys_of(run: Any) -> dict:
    """What names a run in the table's rows, and what it was."""
    return {key: getattr(run, key) for key in (*KEYS, 'run_hash')}


def read_behaviour(folder: Path) -> pd.DataFrame:
    """``behaviour.csv`` of ``tools/behaviour.py``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a column is missing, or a value is no finite number.
    """
    file = folder / 'behaviour.csv'
    table = read_csv(file)
    missing = [
        name
        for name in (*KEYS, 'quantity', 'detail', 'value')
        if name not in table
    ]
    if missing:
        raise ValueError(
            f'{file} has no column {", ".join(missing)}; write it again with '
            'tools/behaviour.py'
        )
    values = pd.to_numeric(table['value'], errors='coerce')
    # Empty where a run never reached what was asked.
    wrong = table[(values.isna() & table['value'].notna()) | np.isinf(values)]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(
            f'{file}: {row.quantity} of {row.config}/{row.arm} seed {row.seed} '
            f'is {row["value"]}, and no finite number; write it again with '
            'tools/behaviour.py'
        )
    return table


def check_measured(behaviour: pd.DataFrame, table: pd.DataFrame) -> None:
    """Raise ValueError unless values were measured of a benchmark's runs.

    Files of earlier versions do not tell a run that was trained again.
    """
    keys = [key for key in (*KEYS, 'run_hash') if key in behaviour]
    known = set(table[keys].astype(str).itertuples(index=False, name=None))
    for row in behaviour[keys].drop_duplicates().astype(str).values:
        if tuple(row) not in known:
            config, arm, _, seed = row[: len(KEYS)]
            raise ValueError(
                f'--behaviour measured {config}/{arm} seed {seed}, which is no '
                'run of these results, or was trained again since; measure '
                'them with tools/behaviour.py'
            )


def checkpoint_of(run: Any, root: Path) -> Path:
    """The last checkpoint of a run; it may have been removed."""
    return root / run.folder / f'epoch_{run.epochs}.pth'


def check_names(option: str, pairs: Sequence[Tuple[str, Any]]) -> None:
    """Raise ValueError if two things have one name."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(
                f'{option}: {name} is there twice; give each a name of its own'
            )


def check_files(runs: pd.DataFrame, root: Path, options: List[str]) -> None:
    """Raise ValueError if a run lacks what is read of it.

    Args:
        runs (pd.DataFrame): That are measured.
        root (Path): The folder of the benchmark.
        options (List[str]): The given ones for which models look at images.
    """
    for run in runs.itertuples():
        files = [root / run.folder / 'test_outputs.npz']
        if options:
            files.append(root / run.folder / 'config.py')
            files.append(checkpoint_of(run, root))
        for file in files:
            if not file.is_file():
                words = ', '.join(f'--{name}' for name in options)
                raise ValueError(
                    f'{file} is missing; train again with tools/benchmark.py, '
                    'or leave out what needs it'
                    + (f': {words} look at images' if options else '')
                )


def common_config(runs: pd.DataFrame, root: Path, train: bool) -> Config:
    """The config of the first run, whose data sets are those of all.

    Args:
        runs (pd.DataFrame): Of one config.
        root (Path): The folder of the benchmark.
        train (bool): Whether the train split is shown, too.

    Raises:
        ValueError: If the runs have different images or prepare them
            differently.
    """
    first, expected, name = None, {}, ''
    for run in runs.itertuples():
        config = Config.fromfile(root / run.folder / 'config.py')
        datasets = {
            f'{split}_dataloader': described(
                split_dataset(config, split, '--collapse')
            )
            for split in ('test', *['train'] * train)
        }
        if first is None:
            first, expected, name = config, datasets, run.folder
        for loader, text in datasets.items():
            if text != expected[loader]:
                raise ValueError(
                    f'{loader}.dataset differs between {name} and '
                    f'{run.folder}; measure such arms apart with --arms'
                )
    return first
