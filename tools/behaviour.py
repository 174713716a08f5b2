"""Measure what top-1 does not say, for the finished runs of a benchmark.

Writes a new folder with ``behaviour.csv``, one row a run and quantity
(``config, arm, role, seed, quantity, detail, value``), and ``command.txt``.
From the runs' own records: epochs to a validation accuracy (99 % of the
baseline's mean unless given) and calibration error; with
``--mistake-severity``, how bad the mistakes on the test split are: the share
of them that leave the category, and the mean height of the lowest common
ancestor of the true and the predicted class (Bertinetto et al., CVPR 2020), for
classes that are named CATEGORY.SUBCATEGORY as emoji58's are. With the
checkpoints:

``--corruptions``
    top-1 on corrupted test images.
``--ood NAME=FOLDER``
    how well softmax, off-axis angle and energy tell test images from those of
    other folders.
``--also NAME=FOLDER``
    top-1 on the same classes in another folder, such as
    ``drawer=data/emoji58/drawer``.
``--collapse``
    of the train and the test split, both in the test pipeline: neural collapse
    NC1, class-distance normalised variance (CDNV) and class separation R^2 of
    the vector that the classifier takes
    (:class:`u1_plugin.measure.Collapse`, times 100), and the information that
    the angle of the last map gives on the class beyond chance, in per cent of
    what there is to say (:class:`u1_plugin.measure.Dependence`): in the
    centred Fourier plane and in the image plane. Empty where not defined.
``--transfer NAME=CONFIG``
    top-1 of the frozen features on another data set, of that config's loaders
    in its test pipeline: a memory of pooled vectors and one of pixels
    (:class:`u1_plugin.mm.memory_bank_head.MemoryBankHead` as it comes), and a
    linear probe, whose C its validation split chooses.

Images are read once and shown to all runs.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from rich.console import Console

import u1_plugin  # noqa: F401
from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path
from u1_plugin.lab.benchmark.behaviour import load_run, recorded
from u1_plugin.lab.benchmark.behaviour_rows import (
    ImageSettings,
    Trained,
    also_rows,
    collapse_rows,
    corruption_rows,
    detection_rows,
    row,
    severity_rows,
    transfer_rows,
)
from u1_plugin.lab.benchmark.behaviour_runs import (
    LOOKING,
    check_arms,
    check_files,
    check_names,
    check_readers,
    checkpoint_of,
    common_config,
    keys_of,
    select,
    target_accuracy,
)
from u1_plugin.lab.benchmark.evaluated_images import (
    check_colours,
    check_every_class,
    check_folder,
    check_splits,
    trained_classes,
)
from u1_plugin.lab.benchmark.results import read_results
from u1_plugin.lab.benchmark.severity import categories
from u1_plugin.lab.benchmark.suite import PerCent
from u1_plugin.lab.benchmark.table import save_csv
from u1_plugin.lab.command import at_least, number, told
from u1_plugin.lab.corrupt import CORRUPTIONS, Corrupt
from u1_plugin.lab.markup import terminal
from u1_plugin.measure.probe_options import written_as

with needs('lab'):
    import pandas as pd


class Group(NamedTuple):
    """The runs of one config, and what they are measured with."""

    runs: pd.DataFrame
    target: float  # validation top-1 to reach, per cent
    config: Optional[Config]  # of all; None if only their records are read
    names: Sequence[str]  # of the classes, by label, if asked for


def group_of(runs: pd.DataFrame, options: argparse.Namespace) -> Group:
    """What is asked of the runs of one config, checked before the work.

    Raises:
        ValueError: If a run lacks something, or an option does not fit.
    """
    target = options.accuracy or target_accuracy(runs)
    runs, root = select(runs, options.arms, options.seeds), options.results
    looking = [name for name in LOOKING if getattr(options, name)]
    check_files(runs, root, looking)
    if not (looking or options.severity) or runs.empty:
        return Group(runs, target, None, ())
    config = common_config(runs, root, train=options.collapse)
    names: Sequence[str] = ()
    if options.collapse:
        check_every_class(config, options.images, '--collapse')
    if options.severity:
        first = next(runs.itertuples())
        names = trained_classes(config, checkpoint_of(first, root)) or ()
        categories(names, f'--mistake-severity: {first.config}')
    for name, folder in options.also:
        check_folder(config, Path(folder), f'--also {name}')
    for name, other in options.transfer:
        check_colours(config, other, f'--transfer {name}')
    return Group(runs, target, config, names)


def measured(group: Group, options: argparse.Namespace) -> List[dict]:
    """All rows of the runs of one config."""
    root, config = options.results, group.config
    rows = [
        row(keys_of(run), quantity, value)
        for run in group.runs.itertuples()
        for quantity, value in recorded(
            root / run.folder, run.val_curve, group.target
        ).items()
    ]
    if options.severity:
        folders = [
            (keys_of(run), root / run.folder) for run in group.runs.itertuples()
        ]
        rows += severity_rows(folders, group.names)
    if config is not None and any(getattr(options, n) for n in LOOKING):
        rows += looking_rows(group, options)
    return rows


def looking_rows(group: Group, options: argparse.Namespace) -> List[dict]:
    """What models make of images: one data set at a time for all."""
    models = [
        Trained(
            keys_of(run), load_run(options.results / run.folder, run.epochs)
        )
        for run in group.runs.itertuples()
    ]
    shown = ImageSettings(group.config, options.images, options.layer)
    rows: List[dict] = []
    if options.ood:
        rows += detection_rows(models, shown, options.ood)
    rows += also_rows(models, shown, options.also)
    if options.corruptions:
        corruptions = [
            (name, level)
            for name in options.corruptions
            for level in options.severities
        ]
        rows += corruption_rows(models, shown, corruptions)
    if options.collapse:
        rows += collapse_rows(models, shown)
    return rows + transfer_rows(models, shown, options.transfer)


def _named(kind: str, exists: Callable[[Path], bool]) -> Callable[[str], tuple]:
    """For argparse's ``type``: a name and something that exists."""

    def parse(text: str) -> Tuple[str, str]:
        name, _, place = text.partition('=')
        if not name or not place or not exists(Path(place)):
            raise argparse.ArgumentTypeError(
                f'{text!r} must be NAME={kind} that exists'
            )
        return name, place

    return parse


def parse_args() -> argparse.Namespace:
    """Read the command line and check it; ``table`` is ``results.csv``."""
    parser = argparse.ArgumentParser(
        description='Measure what top-1 does not say, for the finished runs '
        'of a benchmark'
    )
    add = parser.add_argument

    def several(name: str, kind: str, exists: Callable, words: str) -> None:
        add(
            name,
            type=_named(kind, exists),
            nargs='*',
            default=[],
            metavar=f'NAME={kind}',
            help=words,
        )

    add('results', type=Path, help='folder of results.csv')
    add('out', type=new_path, help='a new folder')
    add('--arms', nargs='+', help='all unless given')
    add('--seeds', type=at_least(1), help='the first N only')
    add(
        '--accuracy',
        type=number(PerCent),
        help='validation top-1 to reach, per cent',
    )
    add(
        '--mistake-severity',
        dest='severity',
        action='store_true',
        help='by category',
    )
    add(
        '--corruptions',
        nargs='*',
        default=[],
        choices=('all', *CORRUPTIONS),
        metavar='NAME',
        help='of ImageNet-C, or "all" fifteen',
    )
    add('--severities', type=int, nargs='+', help='of --corruptions; 1 to 5')
    several('--ood', 'FOLDER', Path.is_dir, 'images of no trained class')
    several('--also', 'FOLDER', Path.is_dir, 'other images of the classes')
    several('--transfer', 'CONFIG', Path.is_file, 'of another data set')
    add('--collapse', action='store_true', help='of the features, by class')
    add(
        '--images',
        type=at_least(1),
        help='so many of each split, evenly spaced',
    )
    add(
        '--layer',
        help='whose map is measured; default: the last before pooling',
    )
    options = parser.parse_args()
    if 'all' in options.corruptions:
        options.corruptions = list(CORRUPTIONS)
    # Once each, however often they are named: each counts once in a mean.
    options.corruptions = list(dict.fromkeys(options.corruptions))
    try:
        check_readers(options)
        levels = options.severities or (1, 2, 3, 4, 5)
        options.severities = list(dict.fromkeys(levels))
        for name in ('ood', 'also', 'transfer'):
            check_names(f'--{name}', getattr(options, name))
        options.table = read_results(options.results)
        for name in options.corruptions:
            for level in options.severities:
                Corrupt(name, level)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    return options


def groups_of(options: argparse.Namespace) -> List[Group]:
    """One a config; ValueError if something is wrong."""
    options.transfer = [
        (name, Config.fromfile(file)) for name, file in options.transfer
    ]
    for name, config in options.transfer:
        check_splits(config, f'--transfer {name}')
    check_arms(options.table, options.arms)
    by_config = options.table.groupby('config', sort=False)
    return [group_of(runs, options) for _, runs in by_config]


def main() -> None:
    options = parse_args()
    init_default_scope('mmpretrain')
    MMLogger.get_instance('behaviour', log_level='ERROR')
    with told():
        groups = groups_of(options)
    names = {'u1.neck.layers': '--layer'}
    with told(), written_as(names), new_folder(options.out) as part:
        rows = [r for group in groups for r in measured(group, options)]
        save_csv(pd.DataFrame(rows), part / 'behaviour.csv')
        command = shlex.join(['python', 'tools/behaviour.py', *sys.argv[1:]])
        (part / 'command.txt').write_text(command + '\n')
    Console().print(f'{len(rows)} values: {terminal(options.out)}')


if __name__ == '__main__':
    main()
