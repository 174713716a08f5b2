"""Train one-hot and one-hot + U(1) twins on digits; report the difference.

Every run is a real ``tools/train.py`` process. Finished runs are not repeated
and interrupted ones resume, so the command can be stopped and called again.
"""

import argparse
import json
import logging
import os
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import List, NamedTuple, Optional

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from u1_plugin.files import check_tool_folder, check_writable, replaced_file

ROOT = Path(__file__).resolve().parent.parent
DATA = Path('data/digits')
CONFIGS = dict(
    baseline=ROOT / 'configs/digits/resnet18-narrow_1xb64_digits.py',
    u1=ROOT / 'configs/digits/resnet18-narrow_1xb64_digits_u1.py',
)
#: How warnings begin that nobody can do anything about here: of an operator
#: that mmcv-lite lacks, and of what MMEngine imports from setuptools.
_NOISE = ('Fail to import', 'pkg_resources is deprecated')
_STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*\d+/\d+\]')


class Run(NamedTuple):
    """One training: an arm of the comparison with a seed."""

    arm: str
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """What the run is called in the progress and in errors."""
        return f'{self.arm} seed {self.seed}'

    def overrides(self, epochs: Optional[int]) -> List[str]:
        """Options of ``--cfg-options`` that set the run apart.

        Args:
            epochs (int, optional): In place of the config's own number.
        """
        options = [f'randomness.seed={self.seed}']
        if epochs:
            options += [
                f'train_cfg.max_epochs={epochs}',
                f'param_scheduler.total_steps={epochs}',
            ]
        return options


def final_checkpoint(run: Run, epochs: int) -> Optional[Path]:
    """The last epoch's checkpoint, if the run has got there."""
    checkpoint = run.folder / f'epoch_{epochs}.pth'
    # MMEngine writes this file after the checkpoint, so it vouches for it.
    latest = run.folder / 'last_checkpoint'
    if latest.is_file() and Path(latest.read_text()).name == checkpoint.name:
        return checkpoint
    return None


def train(run: Run, options: List[str], epochs: int, on_epoch) -> None:
    """Run ``tools/train.py`` to the end, from where it stopped before.

    Raises:
        RuntimeError: If it fails, with the end of its log.
    """
    if final_checkpoint(run, epochs):
        on_epoch(epochs)
        return
    run.folder.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        str(ROOT / 'tools/train.py'),
        str(CONFIGS[run.arm]),
        '--work-dir',
        str(run.folder),
        '--resume',
        '--cfg-options',
        *options,
    ]
    # One thread a run: the runs share the cores.
    environment = dict(os.environ, OMP_NUM_THREADS='1', MKL_NUM_THREADS='1')
    log = run.folder / 'train.log'
    with (
        log.open('a') as file,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        ) as process,
    ):
        for line in process.stdout:
            file.write(line)
            step = _STEP.search(line)
            if step:
                on_epoch(int(step[1]))
    if process.returncode or not final_checkpoint(run, epochs):
        tail = ''.join(log.read_text().splitlines(keepends=True)[-15:])
        raise RuntimeError(
            f'{run.name} failed (exit status '
            f'{process.returncode}); {log} ends with\n{tail}'
        )


def train_all(
    runs: List[Run],
    epochs: int,
    custom: Optional[int],
    jobs: int,
    console: Console,
) -> None:
    """Train the runs that are not finished, and show the progress.

    Args:
        runs (List[Run]): All that the demo needs.
        epochs (int): Of each run.
        custom (int, optional): The same, if it is not the config's own number.
        jobs (int): How many are trained at a time.
        console (Console): Where bars move, or lines tell of finished runs.

    Raises:
        RuntimeError: If a training fails.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('epochs'),
        TimeElapsedColumn(),
        TextColumn('eta'),
        TimeRemainingColumn(),
    )
    # Minutes, so that slow epochs have a time as well.
    with Progress(
        *columns, console=console, speed_estimate_period=300
    ) as progress:
        total = progress.add_task('all runs', total=len(runs) * epochs)
        tasks = {
            run: progress.add_task(run.name, total=epochs, start=False)
            for run in runs
        }
        done = dict.fromkeys(runs, 0)

        def start(run: Run) -> None:

            def on_epoch(epoch: int) -> None:
                done[run] = epoch
                progress.update(tasks[run], completed=epoch)
                progress.update(total, completed=sum(done.values()))

            progress.start_task(tasks[run])
            train(run, run.overrides(custom), epochs, on_epoch)

        with ThreadPoolExecutor(jobs) as pool:
            futures = {pool.submit(start, run): run for run in runs}
            for ended, future in enumerate(as_completed(futures), 1):
                future.result()
                if not console.is_terminal:  # where the bars do not move
                    left = progress.tasks[0].time_remaining or 0
                    console.print(
                        f'{futures[future].name}: trained, '
                        f'{ended} of {len(runs)}'
                        + (f'; {left / 60:.1f} min left' if left > 5 else '')
                    )


def _quiet() -> str:
    """``PYTHONWARNINGS`` without `_NOISE`, for processes of the demo."""
    filters = os.environ.get('PYTHONWARNINGS', '')
    noise = [f'ignore:{message}:UserWarning' for message in _NOISE]
    return ','.join(filter(None, [filters, *noise]))


def check_settings(out: Path, settings: dict) -> None:
    """Refuse to mix results of different configs in one folder."""
    file = out / 'settings.json'
    if not file.is_file():
        with replaced_file(file) as part:
            part.write_text(json.dumps(settings, indent=1))
    elif json.loads(file.read_text()) != settings:
        raise SystemExit(
            f'{out} holds runs of other settings or configs; '
            'keep them and choose another folder with --out'
        )


def parse_args() -> argparse.Namespace:
    """Read the command line; check that OUT is new or of an earlier demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=5, help='number of pairs')
    parser.add_argument(
        '--epochs', type=int, help="in place of the configs' own number"
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='runs at a time'
    )
    args = parser.parse_args()
    if args.seeds < 2:
        parser.error(f'--seeds {args.seeds}: an interval needs at least 2')
    settings = args.out / 'settings.json'
    try:
        check_tool_folder(args.out, settings.name, b'"configs": {', '--out')
        check_writable(settings, '--out', parents=True)
        if settings.is_file():
            json.loads(settings.read_text())
    except (OSError, ValueError) as error:
        parser.error(f'--out: {error}')
    return args


def main() -> None:
    args = parse_args()
    console = Console()
    for message in _NOISE:
        warnings.filterwarnings('ignore', message, UserWarning)
    from mmengine import Config

    from u1_plugin.lab.demo_report import print_next, write_report

    # Else each model that is loaded is a line or two among the results.
    logging.disable(logging.INFO)
    configs = {arm: Config.fromfile(file) for arm, file in CONFIGS.items()}
    epochs = args.epochs or configs['u1'].train_cfg.max_epochs
    check_settings(
        args.out,
        dict(
            epochs=epochs,
            configs={arm: cfg.pretty_text for arm, cfg in configs.items()},
        ),
    )
    subprocess.run(
        [
            sys.executable,
            str(ROOT / 'tools/dataset_converters/digits.py'),
            str(DATA),
        ],
        check=True,
        env=dict(os.environ, PYTHONWARNINGS=_quiet()),
    )
    runs = [
        Run(arm, seed, args.out / f'seed{seed}' / arm)
        for seed in range(args.seeds)
        for arm in CONFIGS
    ]
    train_all(runs, epochs, args.epochs, args.workers, console)
    checkpoints = {
        arm: [final_checkpoint(run, epochs) for run in runs if run.arm == arm]
        for arm in CONFIGS
    }
    write_report(configs, checkpoints, args.out, console)
    print_next(ROOT, console)


if __name__ == '__main__':
    main()
