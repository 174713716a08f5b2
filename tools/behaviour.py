"""Measure what top-1 does not say, for the finished runs of a benchmark.

Writes a new folder with ``behaviour.csv``, one row a run and quantity
(``config, arm, role, seed, quantity, detail, value``), and ``command.txt``.
From the runs' own records: epochs to a validation accuracy (99 % of the
baseline's mean unless given) and calibration error. With the checkpoints:
top-1 on corrupted test images, and how well softmax, off-axis angle and energy
tell test images from those of other folders. Corrupted images are made once
and shown to all runs.
"""

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Dict, List

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track

import u1_plugin  # noqa: F401
from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path
from u1_plugin.lab.benchmark.behaviour import (
    accuracy,
    detection,
    load_run,
    recorded,
    signals,
)
from u1_plugin.lab.benchmark.images import (
    Images,
    folder_images,
    split_images,
)
from u1_plugin.lab.benchmark.table import read_results, save_csv
from u1_plugin.lab.corrupt import CORRUPTIONS, Corrupt
from u1_plugin.lab.markup import terminal

with needs('lab'):
    import pandas as pd

_KEYS = ['config', 'arm', 'role', 'seed']
CORRUPTED = 'corrupted top-1, %'


def select(table: pd.DataFrame, options: argparse.Namespace) -> pd.DataFrame:
    """The runs to measure: those that saw the test split, as asked for."""
    table = table[table.role != 'ablation']
    if options.arms:
        missing = sorted(set(options.arms) - set(table.arm))
        if missing:
            raise SystemExit(
                f'--arms: no finished run of {missing}; there are '
                f'{sorted(set(table.arm))}'
            )
        table = table[table.arm.isin(options.arms)]
    if options.seeds is not None:
        first = table.groupby('config').seed.transform('min')
        table = table[table.seed < first + options.seeds]
    return table


def target_accuracy(runs: pd.DataFrame) -> float:
    """99 % of the baseline's mean final validation top-1."""
    found = 0.99 * runs[runs.role == 'baseline'].val_top1.mean()
    if math.isnan(found):
        raise SystemExit(
            f'--accuracy: {runs.config.iloc[0]} has no baseline that was '
            'validated; name the per cent to reach'
        )
    return found


def records_rows(runs: pd.DataFrame, root: Path, target: float) -> List[dict]:
    rows = []
    for run in runs.itertuples():
        found = recorded(root / run.folder, run.val_curve, target)
        for quantity, value in found.items():
            keys = {key: getattr(run, key) for key in _KEYS}
            rows.append(dict(keys, quantity=quantity, detail='', value=value))
    return rows


def check_same_images(runs: pd.DataFrame, root: Path) -> Config:
    """One test split and pipeline for all arms, or an error."""
    first = None
    for run in runs.itertuples():
        config = Config.fromfile(root / run.folder / 'config.py')
        dataset = config.test_dataloader.dataset
        if first is None:
            first, name = config, run.folder
        elif dataset != first.test_dataloader.dataset:
            raise SystemExit(
                f'test_dataloader.dataset differs between {name} and '
                f'{run.folder}; measure such arms apart with --arms'
            )
    return first


def models_rows(
    runs: pd.DataFrame, root: Path, options: argparse.Namespace
) -> List[dict]:
    """Corruption and detection: one data set at a time for all models."""
    config = check_same_images(runs, root)
    models = [
        (
            {key: getattr(run, key) for key in _KEYS},
            load_run(root / run.folder, run.epochs),
        )
        for run in runs.itertuples()
    ]
    rows: List[dict] = []
    if options.ood:
        rows += detection_rows(models, config, options)
    corruptions = [
        (name, severity)
        for name in options.corruptions
        for severity in options.severities
    ]
    sums: Dict[int, List[float]] = {i: [] for i in range(len(models))}
    for name, severity in track(corruptions, 'corruptions'):
        images = split_images(config, name, severity, options.images)
        for i, (keys, model) in enumerate(models):
            found = signals(model, images.inputs, options.layer)
            value = accuracy(found.logits, images.labels)
            sums[i].append(value)
            detail = f'{name}/{severity}'
            rows.append(
                dict(keys, quantity=CORRUPTED, detail=detail, value=value)
            )
    for i, (keys, _) in enumerate(models):
        if sums[i]:
            mean = sum(sums[i]) / len(sums[i])
            rows.append(dict(keys, quantity=CORRUPTED, detail='', value=mean))
    return rows


def detection_rows(
    models: list, config: Config, options: argparse.Namespace
) -> List[dict]:
    known = split_images(config, limit=options.images)
    others: Dict[str, Images] = {
        name: folder_images(config, Path(folder), options.images)
        for name, folder in options.ood
    }
    rows = []
    for keys, model in track(models, 'detection'):
        inside = signals(model, known.inputs, options.layer)
        for name, images in others.items():
            outside = signals(model, images.inputs, options.layer)
            for detector, value in detection(inside, outside).items():
                quantity = f'AUROC against {name} by {detector}, %'
                rows.append(
                    dict(keys, quantity=quantity, detail='', value=value)
                )
    return rows


def check_runs(options: argparse.Namespace) -> None:
    """Whether the runs have what is read of them, before hours of work.

    Raises:
        ValueError: If a file is missing.
    """
    for run in options.table.itertuples():
        names = ['test_outputs.npz'] if run.role != 'ablation' else []
        if names and (options.corruptions or options.ood):
            names += ['config.py', f'epoch_{run.epochs}.pth']
        for name in names:
            file = options.results / run.folder / name
            if not file.is_file():
                raise ValueError(
                    f'{file} is missing; train again with tools/benchmark.py, '
                    'or leave out what needs it: --corruptions and --ood need '
                    'the checkpoints'
                )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text!r} must be an integer >= 1')
    return int(text)


def _per_cent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 100:
        raise argparse.ArgumentTypeError(
            f'{text!r} must be a number > 0 and <= 100'
        )
    return value


def _named_folder(text: str) -> tuple:
    name, _, folder = text.partition('=')
    if not folder or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(
            f'{text!r} must be NAME=FOLDER with an existing folder of images'
        )
    return name, folder


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measure what top-1 does not say, for the finished runs '
        'of a benchmark'
    )
    parser.add_argument('results', type=Path, help='folder of results.csv')
    parser.add_argument('out', type=new_path, help='a new folder')
    parser.add_argument('--arms', nargs='+', help='all unless given')
    parser.add_argument('--seeds', type=_positive, help='the first N only')
    parser.add_argument(
        '--accuracy', type=_per_cent, help='validation top-1 to reach, per cent'
    )
    parser.add_argument(
        '--corruptions',
        nargs='*',
        default=[],
        choices=('all', *CORRUPTIONS),
        metavar='NAME',
        help='of ImageNet-C, or "all" fifteen',
    )
    parser.add_argument(
        '--severities', type=int, nargs='+', default=[1, 2, 3, 4, 5]
    )
    parser.add_argument(
        '--ood',
        type=_named_folder,
        nargs='*',
        default=[],
        metavar='NAME=FOLDER',
        help='images of no trained class',
    )
    parser.add_argument(
        '--images', type=_positive, help='so many of each split, evenly spaced'
    )
    parser.add_argument(
        '--layer',
        help='whose map is measured; default: the last before pooling',
    )
    options = parser.parse_args()
    if 'all' in options.corruptions:
        options.corruptions = list(CORRUPTIONS)
    try:
        options.table = read_results(options.results)
        for name in options.corruptions:
            for severity in options.severities:
                Corrupt(name, severity)
        check_runs(options)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    return options


def measure(options: argparse.Namespace) -> List[dict]:
    """All rows of the table."""
    rows: List[dict] = []
    for _, runs in options.table.groupby('config', sort=False):
        target = options.accuracy or target_accuracy(runs)
        runs = select(runs, options)
        rows += records_rows(runs, options.results, target)
        if options.corruptions or options.ood:
            rows += models_rows(runs, options.results, options)
    return rows


def main() -> None:
    options = parse_args()
    init_default_scope('mmpretrain')
    MMLogger.get_instance('behaviour', log_level='ERROR')
    with new_folder(options.out) as part:
        rows = measure(options)
        save_csv(pd.DataFrame(rows), part / 'behaviour.csv')
        command = shlex.join(['python', 'tools/behaviour.py', *sys.argv[1:]])
        (part / 'command.txt').write_text(command + '\n')
    Console().print(f'{len(rows)} values: {terminal(options.out)}')


if __name__ == '__main__':
    main()
