"""Train every arm of a suite with every seed; write one table.

    python tools/benchmark.py configs/suites/quick.yml

Each run is a real ``tools/train.py`` process. Finished runs are not repeated,
and interrupted ones go on or begin anew: call the command again after an
interruption, or after adding arms or seeds. ``tools/report.py`` makes tables
and figures of the results.
"""

import argparse
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import List

# Before torch counts the GPUs: runs are forks, which CUDA must not precede.
os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')

import u1_plugin  # noqa: F401  (lets configs inherit from u1_plugin::)
import u1_plugin.lab  # noqa: F401  (whose parts a suite may name)
from u1_plugin.files import check_writable
from u1_plugin.lab.benchmark.anchors import write_anchors
from u1_plugin.lab.benchmark.expand import expand
from u1_plugin.lab.benchmark.folder import check_folder, locked
from u1_plugin.lab.benchmark.plan import check_plan
from u1_plugin.lab.benchmark.pool import make_slots, run_all
from u1_plugin.lab.benchmark.primary import check_primary, write_primary
from u1_plugin.lab.benchmark.runs import Run
from u1_plugin.lab.benchmark.suite import Suite, load_suite
from u1_plugin.lab.benchmark.table import write_plan, write_table
from u1_plugin.lab.image_folders import RECORD
from u1_plugin.mm.launch import die_with

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs'


def parse_args() -> argparse.Namespace:
    """Read the command line and check that ``--workers`` is at least 1."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('suite', type=Path, help='YAML file')
    parser.add_argument(
        '--out', type=Path, help='default: work_dirs/benchmark/NAME'
    )
    parser.add_argument(
        '--workers', type=int, default=os.cpu_count(), help='runs at a time'
    )
    parser.add_argument('--gpus', help='such as 0,1, in place of --workers')
    parser.add_argument('--slurm', help='partition; one job a run')
    parser.add_argument(
        '--dry-run', action='store_true', help='list the runs and stop'
    )
    args = parser.parse_args()
    if args.workers < 1:
        parser.error(f'--workers {args.workers}: use 1 or more')
    return args


def check_tools(suite: Suite) -> None:
    """Raise ValueError if a tool that is to write data is missing."""
    for i, (tool, *_) in enumerate(suite.prepare):
        if not (TOOLS / tool).is_file():
            raise ValueError(
                f'suite.prepare[{i}]: {tool!r} is no file in {TOOLS}'
            )


def prepare(suite: Suite) -> None:
    """Write the suite's data where it is missing.

    Of a folder that says how it was made, the converter checks that.
    """
    for tool, *arguments in suite.prepare:
        out = Path(arguments[-1])
        if not out.exists() or (out / RECORD).exists():
            command = [sys.executable, str(TOOLS / tool), *arguments]
            done = subprocess.run(
                command, preexec_fn=partial(die_with, os.getpid())
            )
            if done.returncode:
                raise SystemExit(f'suite.prepare: {" ".join(command)} failed')


def check_runs(runs: List[Run], suite: Suite, out: Path) -> None:
    """Check what needs the data, and say how many runs the folder holds."""
    finished = sum(run.record() is not None for run in runs)
    check_primary(suite.primary, out)
    check_plan(runs)
    print(f'{suite.name}: {len(runs)} runs, {finished} of them finished')


def train(
    runs: List[Run], slots: list, suite: Suite, out: Path, lock: int
) -> List[str]:
    """Train what is not finished, and write the table; what failed and why."""

    def report(line: str) -> None:
        """After every run, so that a killed benchmark leaves its table."""
        print(line, flush=True)
        try:
            write_table(runs, out)
        except (ValueError, OSError) as error:  # the other runs go on
            print(error, flush=True)

    if dropped := write_plan(runs, out):
        print(
            f'{dropped} runs that the suite no longer has stay planned, for '
            'some have finished; a page is incomplete without them'
        )
    write_primary(suite.primary, out)
    write_anchors(suite.anchors, out)
    failures = run_all(runs, slots, TOOLS, lock, report)
    try:
        print(f'Table: {write_table(runs, out)}')
    except (ValueError, OSError) as error:
        failures.append(str(error))
    return failures


def main() -> None:
    args = parse_args()
    try:
        suite = load_suite(args.suite, CONFIGS)
        out = args.out or Path('work_dirs/benchmark') / suite.name
        check_folder(out)
        check_tools(suite)
        # Before data are written: what is refused here needs none.
        runs = expand(suite, out)
        if args.dry_run:
            check_runs(runs, suite, out)
            for run in runs:
                print(run.run_hash, run.folder)
            return
        slots = make_slots(args.workers, args.gpus, suite.processes, args.slurm)
        check_writable(out / 'results.csv', '--out', parents=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f'{args.suite}: {error}') from error
    try:
        with locked(out) as lock:
            prepare(suite)  # before models are built, which may read files
            try:
                check_runs(runs, suite, out)
            except ValueError as error:
                raise SystemExit(f'{args.suite}: {error}') from error
            failures = train(runs, slots, suite, out, lock)
    except (RuntimeError, OSError) as error:
        raise SystemExit(f'{args.suite}: {error}') from error
    if failures:
        raise SystemExit(
            f'{len(failures)} run(s) failed; the same command tries them '
            'again:\n' + '\n'.join(failures)
        )


if __name__ == '__main__':
    main()
