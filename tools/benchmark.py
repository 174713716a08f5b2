"""Train every arm of a suite with every seed; write one table.

    python tools/benchmark.py configs/suites/quick.yml

Each run is a real ``tools/train.py`` process. Finished runs are not repeated:
call the command again after an interruption, or after adding arms or seeds.
``tools/report.py`` makes tables and figures of the results.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import u1_plugin  # noqa: F401  (lets configs inherit from u1_plugin::)
from u1_plugin.lab.benchmark.pool import locked, make_slots, run_all
from u1_plugin.lab.benchmark.runs import expand
from u1_plugin.lab.benchmark.suite import Suite, load_suite
from u1_plugin.lab.benchmark.table import PairingError, write_plan, write_table

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / 'configs'


def parse_args() -> argparse.Namespace:
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


def prepare(suite: Suite) -> None:
    """Write the suite's data where it is missing."""
    for tool, *arguments in suite.prepare:
        if not Path(arguments[-1]).exists():
            command = [sys.executable, str(TOOLS / tool), *arguments]
            subprocess.run(command, check=True)


def main() -> None:
    args = parse_args()
    try:
        suite = load_suite(args.suite)
        out = args.out or Path('work_dirs/benchmark') / suite.name
        runs = expand(suite, out, CONFIGS)
        slots = make_slots(args.workers, args.gpus, suite.processes, args.slurm)
        finished = sum(run.record() is not None for run in runs)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f'{args.suite}: {error}') from error
    print(f'{suite.name}: {len(runs)} runs, {finished} of them finished')
    if args.dry_run:
        for run in runs:
            print(run.run_hash, run.folder)
        return

    def report(line: str) -> None:
        """After every run, so that a killed benchmark leaves its table."""
        print(line, flush=True)
        try:
            write_table(runs, out)
        except PairingError as error:  # the other runs go on
            print(error, flush=True)

    with locked(out) as lock:
        prepare(suite)
        write_plan(runs, out)
        failures = run_all(
            runs,
            slots,
            TOOLS,
            lock,
            report,
        )
        try:
            print(f'Table: {write_table(runs, out)}')
        except PairingError as error:
            raise SystemExit(str(error)) from error
    if failures:
        raise SystemExit(
            f'{len(failures)} run(s) failed; the same command tries them '
            'again:\n' + '\n'.join(failures)
        )


if __name__ == '__main__':
    main()
