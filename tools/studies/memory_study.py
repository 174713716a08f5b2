"""Does an angle help a memory's vote, and beyond position?

A frozen backbone runs once over all images of a config, and its last map or
that of ``--layer`` is read. In each of several splits (60 % memory, 20 %
validation, 20 % test; with ``--shots``, so many images a class of the memory's)
every arm takes its k and its kappa or sigma from the validation images, and is
then scored on the test images. Five splits test every image once, the next five
once more, dealt anew:

- ``pooled`` and ``pixel``: the plain vote, kappa = 0, by the cosine;
- ``image``, ``feature``, ``both``: pixel votes with kappa > 0 in that plane;
- controls: ``position`` and ``radius`` kernels, ``shuffled`` angles;
- outside baselines on the pooled vectors: scikit-learn's
  ``KNeighborsClassifier`` and a logistic regression (linear probe).

How pixels are stored, searched and weighted is the study's own, and a config
that says otherwise (such as ``model.head.metric='l2'``) is refused.
Differences to ``pixel`` are paired over test images, each counted once: Agresti
and Min's interval, and an exact test by sign flips (McNemar's where each image
was tested once). Splits share the images of their memories, so that they are no
repetitions of each other and are not counted as such.
"""

import argparse
import json
from pathlib import Path
from typing import Optional

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from u1_plugin.files import new_file
from u1_plugin.lab.command import at_least, told
from u1_plugin.lab.folds import FOLDS, WHOLE_ROUNDS, whole_rounds
from u1_plugin.lab.markup import terminal
from u1_plugin.lab.memory_maps import check_unread, read_maps
from u1_plugin.lab.memory_study import (
    KERNEL,
    beyond_controls,
    run_split,
    summarise,
)
from u1_plugin.lab.statistics import interval_text
from u1_plugin.measure.estimate import jsonable
from u1_plugin.mm.memory_inputs import check_hue


def show(summary: dict, controls: dict, console: Console) -> None:
    """Print the arms, and the image angle's differences to the controls.

    Args:
        summary (dict): Of :func:`u1_plugin.lab.memory_study.summarise`.
        controls (dict): Of :func:`u1_plugin.lab.memory_study.beyond_controls`.
        console (Console): Where to.
    """
    table = Table(
        *('arm', 'top-1 %', 'difference to pixel', 'gained', 'lost', 'p'),
        title=f'{KERNEL}; k, kappa and sigma of validation images',
    )
    for arm, row in summary.items():
        cells = ['', '', '', '']
        if 'difference' in row:
            d = row['difference']
            counts = str(d['gained']), str(d['lost'])
            cells = [_interval(d), *counts, f'{d["pvalue"]:.3f}']
        table.add_row(arm, f'{np.mean(row["accuracy"]):.2f}', *cells)
    console.print(table)
    for control, difference in controls.items():
        console.print(f'image less {control}: {_interval(difference)}')


def _interval(d: dict) -> str:
    return terminal(interval_text(d['mean'], d['low'], d['high']))


def rounds(text: str) -> int:
    """A number of splits that tests no image more often than another."""
    splits = at_least(1)(text)
    if not whole_rounds(splits):
        raise argparse.ArgumentTypeError(f'{text!r} {WHOLE_ROUNDS}')
    return splits


def parse_args() -> argparse.Namespace:
    """Read the command line; it may ask for whole rounds of splits alone."""
    parser = argparse.ArgumentParser(
        description="Does an angle help a memory's vote, and beyond position?"
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--layer', help='such as backbone.layer3')
    parser.add_argument(
        '--shots', type=at_least(1), help='memory images a class'
    )
    parser.add_argument(
        '--splits',
        type=rounds,
        default=FOLDS,
        help='5 (default) test each image once, 10 twice, and so on',
    )
    parser.add_argument('--out', type=Path, help='a new JSON file')
    return parser.parse_args()


def study(args: argparse.Namespace, file: Optional[Path]) -> None:
    """Read, split, show; with a file, write what was found."""
    init_default_scope('mmpretrain')
    config = Config.fromfile(args.config)
    check_unread(config, 'memory_study.py')
    maps, labels, plane, _ = read_maps(config, args.checkpoint, args.layer)
    check_hue(plane)
    results = [
        run_split(maps, labels, plane, seed, args.shots)
        for seed in range(args.splits)
    ]
    summary, controls = summarise(results), beyond_controls(results)
    show(summary, controls, Console())
    if file is not None:
        content = dict(
            summary=summary,
            image_less_control=controls,
            chosen=[split.chosen for split in results],
            kernel=KERNEL.name,
        )
        text = json.dumps(jsonable(content), indent=2, allow_nan=False)
        file.write_text(text)


def main() -> None:
    args = parse_args()
    with told():
        if args.out is None:
            study(args, None)
            return
        with new_file(args.out, '--out') as file:
            study(args, file)


if __name__ == '__main__':
    main()
