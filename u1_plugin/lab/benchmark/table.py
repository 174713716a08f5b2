"""One tidy table of a suite's finished runs, and the check of their pairing.

``OUT/results.csv`` has one row a finished run, in the order of training:

=================  ========================================================
column             content
=================  ========================================================
suite              name of the suite
config             name of the suite's entry, such as
                   ``resnet18-narrow_1xb64_digits``: one data set, one model
arm                name of the arm
role               ``baseline`` | ``u1`` | ``rival`` | ``control`` |
                   ``ablation``; one baseline a suite, which others are
                   paired with by ``seed``
seed               from the suite's ``first_seed`` on
epochs             of the run
val_top1           validation top-1 of the last epoch, per cent
val_top1_best      its maximum over the epochs
test_top1          test top-1 of the last epoch, per cent; empty for ablations,
                   which see the validation split alone
test_top5          the same, more than 10 classes only; else empty
wall_s, cpu_s      seconds of training and validation, without start-up;
                   processor seconds are those of the main process alone
peak_rss_mib       peak resident memory of the process, MiB; empty on Windows
peak_cuda_mib      peak memory that torch allocated, MiB; empty without a GPU
parameters         of the model in training, auxiliary ones included
initial_backbone   hash of the initial weights
initial_head_fc    the same of ``head.fc``; empty where the head has none
order              hash of the samples' order over all epochs
draws              ``seeded by sample`` where random draws do not depend on
                   those before them; empty for runs of earlier versions
run_hash           of the run's whole config, seed included
config_hash        of the same without the seed: equal for all seeds of an arm
data_hash          of the files that it names, measured class angles excepted
processes          that trained together
hardware           GPU, or processor and threads
versions           JSON object: package -> version
val_curve          JSON list, one object a validation: ``epoch`` and the
                   metrics by MMPretrain's names (``accuracy/top1``)
folder             work dir, relative to OUT
=================  ========================================================

Each ``folder`` holds

- ``run_record.json``: the above, from
  :class:`~u1_plugin.lab.run_record_hook.RunRecordHook`;
- ``test_outputs.npz``, but for ablations: ``logits`` ``(N, K)`` float16 and
  ``labels`` ``(N,)`` of the test split in the order of the data set, the same
  in every run, so that rows pair up between arms;
- ``config.py``, complete, and the last checkpoint ``epoch_{epochs}.pth``;
- ``class_angles.json`` of baseline runs that measured them;
- ``train.log``.
"""

import csv
import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Dict, List, Optional

from mmengine.utils import digit_version

from ...extras import needs
from ...files import replaced_file
from ..markup import csv_frame, from_csv
from .runs import ANGLES, RECORD, Run

with needs('lab'):
    import pandas as pd

# Before 3.1 pandas read floats a last digit off, unless asked; since then the
# question is deprecated.
_EXACT: Dict[str, Any] = (
    {'float_precision': 'round_trip'}
    if digit_version(pd.__version__) < digit_version('3.1')
    else {}
)
#: Columns of the small tables that a benchmark keeps for its report.
_KEPT = {
    'planned.csv': ['config', 'arm', 'role', 'seed'],
    'primary.csv': ['arm', 'to', 'gain'],
    'anchors.csv': ['config', 'expected'],
}
#: A run's keys.
PLANNED = _KEPT['planned.csv']
#: Names, of which none is a number or a missing value.
_NAMES = ('suite', 'config', 'arm', 'to', 'role', 'quantity')
_HASHES = (
    'initial_backbone',
    'initial_head_fc',
    'order',
    'config_hash',
    'run_hash',
    'data_hash',
)
#: What the files of a benchmark begin with.
MARKS = {
    name: f'{",".join(columns)}\n'.encode() for name, columns in _KEPT.items()
}
MARKS['results.csv'] = b'suite,config,arm,role,seed,'


class PairingError(ValueError):
    """Runs of one seed that are no pair."""


def _data_hash(run: Run, files: Any) -> str:
    """Of the files that a config names, wherever they lie.

    Without class angles that another seed's run has measured: they differ.
    """
    if not isinstance(files, dict):  # of earlier versions
        return ''
    measured = f'{run.measured_from}/{ANGLES}'
    digests = sorted(str(d) for name, d in files.items() if name != measured)
    return hashlib.sha256(','.join(digests).encode()).hexdigest()[:16]


def _row(run: Run, record: dict, out: Path) -> dict:
    curve = [entry['accuracy/top1'] for entry in record['val']]
    order = ','.join(record['order']).encode()
    peak = record.get('peak_rss_mib')
    return dict(
        suite=run.suite,
        config=run.config,
        arm=run.arm,
        role=run.role,
        seed=run.seed,
        epochs=run.epochs,
        val_top1=curve[-1] if curve else None,
        val_top1_best=max(curve) if curve else None,
        test_top1=record['test'].get('accuracy/top1'),
        test_top5=record['test'].get('accuracy/top5'),
        wall_s=round(record['wall_s'], 2),
        cpu_s=round(record['cpu_s'], 2),
        peak_rss_mib=None if peak is None else round(peak, 1),
        peak_cuda_mib=record.get('peak_cuda_mib'),
        parameters=record['parameters'],
        initial_backbone=record['initial']['backbone'],
        initial_head_fc=record['initial']['head_fc'],
        order=hashlib.sha256(order).hexdigest()[:16],
        draws=record.get('draws', ''),
        run_hash=run.run_hash,
        config_hash=run.config_hash,
        data_hash=_data_hash(run, record['identity'].get('files')),
        processes=run.processes,
        hardware=record['hardware'],
        versions=json.dumps(record['versions'], sort_keys=True),
        val_curve=json.dumps(record['val']),
        folder=str(run.folder.relative_to(out)),
    )


def check_pairs(table: pd.DataFrame) -> None:
    """Whether all arms of a config and seed started and went alike.

    The backbone's initial weights, the order of the samples, the kind of the
    random draws and the packages' versions must be equal, and the initial
    weights of ``head.fc`` wherever the arm has that layer.

    Raises:
        PairingError: Naming config, seed, column and arms.
    """
    columns = ['initial_backbone', 'initial_head_fc', 'order']
    for column in ('draws', 'versions'):
        if column in table:  # tables of earlier versions lack some
            columns.append(column)
            table = table.fillna({column: ''})
    for (config, seed), pair in table.groupby(['config', 'seed']):
        for column in columns:
            values = pair[['arm', column]].dropna()
            kinds = values.groupby(column)['arm'].apply(list)
            if len(kinds) > 1:
                raise PairingError(
                    f'{config}, seed {seed}: {column} differs between the '
                    f'arms {kinds.to_dict()}, so they are no pair; remove '
                    'the runs that another version trained, and train again'
                )


def collect(runs: List[Run], out: Path) -> pd.DataFrame:
    """The table of the finished runs.

    Raises:
        PairingError: If two arms of a seed are no pair.
    """
    records = ((run, run.record()) for run in runs)
    rows = [_row(run, record, out) for run, record in records if record]
    if not rows:
        return pd.DataFrame(columns=['suite', *PLANNED, 'epochs'])
    table = pd.DataFrame(rows)
    check_pairs(table)
    return table


def write_plan(runs: List[Run], out: Path) -> int:
    """Write ``planned.csv``: config, arm, role and seed of every run.

    From it a report knows what is missing; a control that failed, or was taken
    out when it had finished, must not make a gain look like one that beat every
    control. Returns how many runs stay planned that the suite no longer has.
    """
    plan = [(run.config, run.arm, run.role, run.seed) for run in runs]
    dropped = _dropped(plan, out)
    keep([*plan, *dropped], out / 'planned.csv')
    return len(dropped)


def _dropped(plan: List[tuple], out: Path) -> List[tuple]:
    """Runs that were planned, and that the suite no longer has.

    Those of a config stay, all of them so that its arms keep equally many
    seeds, once one of them has finished: its result may be known.
    """
    before = None
    with suppress(ValueError):  # of another's file, which is not replaced
        before = read_kept(out / 'planned.csv')
    if before is None:
        return []
    planned = {(config, arm, seed) for config, arm, _, seed in plan}
    dropped = [
        (config, arm, role, seed)
        for config, arm, role, seed in before.itertuples(index=False)
        if (config, arm, seed) not in planned
    ]
    known = {
        config
        for config, arm, _, seed in dropped
        if (out / config / arm / f'seed{seed}' / RECORD).is_file()
    }
    return [row for row in dropped if row[0] in known]


def keep(rows: List[tuple], file: Path) -> None:
    """Write one of the small tables that a report reads."""
    _replace(file, pd.DataFrame(rows, columns=_KEPT[file.name]))


def read_kept(file: Path) -> Optional[pd.DataFrame]:
    """A table of :func:`keep`; None in folders of versions without it.

    Raises:
        ValueError: If it has other columns.
    """
    if not file.is_file():
        return None
    table, columns = read_csv(file), _KEPT[file.name]
    if list(table.columns) != columns:
        raise ValueError(
            f'{file} has the columns {list(table.columns)}, not {columns}; '
            'write it again with tools/benchmark.py'
        )
    return table


def write_table(runs: List[Run], out: Path) -> Path:
    """Write ``OUT/results.csv`` of the finished runs; its path.

    Raises:
        PairingError: If two arms of a seed are no pair.
    """
    file = out / 'results.csv'
    _replace(file, collect(runs, out))
    return file


def _replace(file: Path, table: pd.DataFrame) -> None:
    with replaced_file(file, MARKS[file.name]) as part:
        save_csv(table, part)


def save_csv(table: pd.DataFrame, file: Path) -> None:
    """Write a table whose text, whatever it holds, is text in any program.

    :func:`read_csv` reads it back.
    """
    table = csv_frame(table)
    cells = table.to_numpy(object).ravel()
    # The csv module takes a lone carriage return for no end of a line.
    ends = any(isinstance(cell, str) and '\r' in cell for cell in cells)
    quoting = csv.QUOTE_NONNUMERIC if ends else csv.QUOTE_MINIMAL
    # Names of files need not be text.
    table.to_csv(file, index=False, quoting=quoting, errors='backslashreplace')


def read_csv(file: Path) -> pd.DataFrame:
    """A table of :func:`save_csv`; an arm named ``007`` or ``NA`` is that."""
    try:
        columns = pd.read_csv(file, nrows=0).columns
    except pd.errors.EmptyDataError:  # not even a line of names
        return pd.DataFrame()
    table = pd.read_csv(
        file,
        dtype=dict.fromkeys([*_NAMES, *_HASHES], str),
        keep_default_na=False,
        na_values={name: [''] for name in columns if name not in _NAMES},
        **_EXACT,
    )
    return from_csv(table)
