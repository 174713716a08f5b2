"""Changes the core's sources one by one and asks whether a test fails.

::

    cd tools/maintenance
    python mutation_test.py                         # hours on two cores
    python mutation_test.py --files u1_plugin/memory/priors.py
    python mutation_test.py --sample 12 --seed 3    # of each file

Each change is made in a copy of the checkout. A process that has imported
torch and MMPretrain, but not the plugin, forks one that runs the tests which
reach the changed line, the quickest first, until one fails. Results gather in
``results.jsonl``, so that a run which was killed goes on: what was killed
stays so while its file is the same, and what survived is tried again when
tests have changed. ``mutation_test.yml`` says which tests belong to which
sources, and lists changes that no test can notice.
"""

import argparse
import glob
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace as Mutant
from typing import Any, Callable, Dict, List, Set

from mutants import mutants, table

os.environ['OMP_NUM_THREADS'] = '1'  # before torch: no fork with threads
ROOT = Path(__file__).resolve().parents[2]
TABLES = ROOT / 'tools/maintenance/mutation_test.yml'
LEFT_OUT = ('.*', 'build', 'data', 'dist', 'work_dirs')
PYTEST = (
    *('-q', '-p', 'no:cacheprovider', '-p', 'no:randomly'),
    '--hypothesis-profile=mutants',
)


def in_child(function: Callable[..., Any], *args) -> Any:
    """What a function returns in a fork, whose imports end with it."""
    fork = multiprocessing.get_context('fork')
    with ProcessPoolExecutor(1, fork) as pool:
        return pool.submit(function, *args).result()


def enter(copy: Path) -> None:
    """Make a copy of the checkout this process's place, and log beside it."""
    with open(copy.with_suffix('.log'), 'w') as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(copy)
    sys.path[:0] = [str(copy), str(copy / 'tests')]
    os.environ['PYTHONPATH'] = str(copy)


def digest(copy: Path, *names: str) -> str:
    """Of the files' content."""
    content = b'\0'.join((copy / name).read_bytes() for name in names)
    return hashlib.sha256(content).hexdigest()[:16]


def run_tests(copy: Path, *options: str) -> dict:
    """What the plugin ``reached`` says of a run on the sources as they are."""
    enter(copy)
    import pytest

    pytest.main([*PYTEST, '-p', 'reached', '--reached=reached.json', *options])
    return json.loads((copy / 'reached.json').read_text())


def tests_of(mutant: Mutant, baseline: dict, ranks: List[str]) -> List[str]:
    """Tests that reach a change, the quickest first, then those of ranks."""
    lines = baseline['reached'].get(mutant.file, {})
    seconds = dict(baseline['seconds'])
    for test in baseline['failed']:  # as it is: they judge nothing
        seconds.pop(test, None)

    def reaching(first: int, last: int) -> Set[str]:
        rows = (lines.get(str(n), ()) for n in range(first, last + 1))
        return {test for row in rows for test in row} & set(seconds)

    # What runs at import, such as a default, is used further down.
    tests = reaching(*mutant.lines) or reaching(*mutant.scope)
    more = {t for t in seconds if t.split('::')[0] in ranks} - tests
    return sorted(tests, key=seconds.get) + sorted(more, key=seconds.get)


class Limit:
    """A plugin of pytest that ends the process if a test hangs."""

    def __init__(self, seconds: Dict[str, float], least: int) -> None:
        self.seconds, self.least = seconds, least

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        usual = self.seconds.get(nodeid, 0)
        signal.alarm(int(max(self.least, 20 * usual)))


def start(copy: Path, mutant: Mutant, limit: Limit) -> int:
    """Fork a process that tests one change, and give its number."""
    target = copy / mutant.file
    source = target.read_bytes()
    first, last = mutant.span
    target.write_bytes(source[:first] + mutant.new.encode() + source[last:])
    os.utime(target, (0, 0))  # so that no compiled file fits
    child = os.fork()
    if child:
        return child
    os.setsid()
    signal.alarm(120)  # for the imports; then each test has its own
    sys.dont_write_bytecode = True
    os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
    enter(copy)
    import pytest

    files = sorted({test.split('::')[0] for test in mutant.tests})
    for tests in (mutant.tests, files):
        code = pytest.main([*PYTEST, '-x', *tests], plugins=[limit])
        if code != pytest.ExitCode.USAGE_ERROR:  # or tests' names have changed
            break
    os._exit(int(code))


def outcome(copy: Path, status: int) -> Dict[str, str]:
    """What became of a process, and which test killed the mutant."""
    if os.WIFSIGNALED(status):
        hung = os.WTERMSIG(status) == signal.SIGALRM
        by = 'time limit' if hung else f'signal {os.WTERMSIG(status)}'
        return dict(outcome='killed', by=by)
    if os.WEXITSTATUS(status) == 0:
        return dict(outcome='survived', by='')
    text = copy.with_suffix('.log').read_text(errors='replace')
    rows = [t for t in text.splitlines() if t.startswith(('FAILED', 'ERROR'))]
    return dict(outcome='killed', by=rows[-1][:160] if rows else 'no import')


class Campaign:
    """Runs the mutants that are left and keeps what becomes of them."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.results = folder / 'results.jsonl'
        self.copies = [folder / f'copy{n}' for n in range(jobs)]
        self.folder, self.done = folder, {}
        for copy in self.copies:
            shutil.rmtree(copy, ignore_errors=True)
            left_out = shutil.ignore_patterns(*LEFT_OUT, folder.name)
            shutil.copytree(ROOT, copy, ignore=left_out)
        with suppress(FileNotFoundError):
            for line in self.results.read_text().splitlines():
                with suppress(ValueError):  # the last line of a killed run
                    record = json.loads(line)
                    self.done[result_key(record)] = record

    def baseline(self, files: List[str], tests: List[str]) -> dict:
        """Measured, or read if sources and tests are the same."""
        copy = self.copies[0]
        file = self.folder / f'baseline-{digest(copy, *files, *tests)}.json'
        if not file.exists():
            cover = {f'--cov={Path(name).parent}' for name in files}
            cover |= {'--cov-context=test', '--cov-report='}
            traced = in_child(run_tests, copy, *cover, *tests)
            timed = in_child(run_tests, copy, *tests)  # at its usual speed
            timed['reached'] = traced['reached']
            timed['failed'] += traced['failed']
            if set(timed['seconds']) <= set(timed['failed']):
                raise SystemExit(f'no test passes; see {copy}.log')
            file.write_text(json.dumps(timed))
        for copy in self.copies:  # compiles
            in_child(run_tests, copy, '--collect-only', *tests)
        return json.loads(file.read_text())

    def run(self, waiting: List[Mutant], limit: Limit) -> None:
        """Every mutant, as many at a time as there are copies."""
        free, running = list(self.copies), {}
        for mutant in (m for m in waiting if not m.tests):
            self.note(mutant, outcome='survived', by='no test reaches it')
        waiting = [m for m in waiting[::-1] if m.tests]
        while waiting or running:
            if waiting and free:
                mutant, copy = waiting.pop(), free.pop()
                saved = copy / mutant.file
                saved = (saved.read_bytes(), saved.stat().st_mtime_ns)
                child = start(copy, mutant, limit)
                running[child] = copy, mutant, saved, time.monotonic()
                continue
            child, status = os.wait()
            copy, mutant, (source, changed), began = running.pop(child)
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            (copy / mutant.file).write_bytes(source)
            os.utime(copy / mutant.file, ns=(changed, changed))
            took = round(time.monotonic() - began, 1)
            self.note(mutant, seconds=took, **outcome(copy, status))
            free.append(copy)

    def wants(self, mutant: Mutant, listed: Dict[tuple, str]) -> bool:
        """Whether a mutant is still to be run."""
        done = self.done.get(result_key(vars(mutant)))
        again = not done or (
            done['outcome'] == 'survived' and done['tested'] != mutant.tested
        )
        return again and key_of(vars(mutant)) not in listed

    def note(self, mutant: Mutant, **result) -> None:
        """Keep what became of a mutant."""
        fields = ('file', 'version', 'tested', 'lines', 'before', 'after')
        record = {name: getattr(mutant, name) for name in fields} | result
        self.done[result_key(record)] = record
        with self.results.open('a') as file:
            file.write(json.dumps(record) + '\n')
        print('.' if record['outcome'] == 'killed' else 'S', end='', flush=True)


def matching(words: List[str]) -> List[str]:
    """Test files whose names begin with one of the words."""
    starts = tuple(f'test_{word}' for word in words)
    pattern = 'tests/**/test_*.py'
    files = sorted(glob.glob(pattern, root_dir=ROOT, recursive=True))
    return [file for file in files if Path(file).name.startswith(starts)]


def key_of(record: dict) -> tuple:
    """A change wherever it stands in its file."""
    return tuple(record[name] for name in ('file', 'before', 'after'))


def result_key(record: dict) -> tuple:
    """A change of one version of its file."""
    return (*key_of(record), record['version'], *record['lines'])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--files', nargs='+', help='of the core; all')
    parser.add_argument('--sample', type=int, help='mutants a file; all')
    parser.add_argument('--seed', type=int, default=0, help='of the sample')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--limit', type=int, default=30, help='s, a test')
    parser.add_argument('--out', type=Path, default=ROOT / 'work_dirs/mutants')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    import yaml

    tables = yaml.safe_load(TABLES.read_text())
    core = {
        path: row
        for row in tables['core']
        for path in sorted(glob.glob(row['sources'], root_dir=ROOT))
    }
    listed = {key_of(row): row['reason'] for row in tables['equivalent'] or []}
    files = args.files or list(core)
    if unknown := sorted(set(files) - set(core)):
        raise SystemExit(f'--files={unknown}: not of the core, {list(core)}')
    for name in tables['warm']:
        with suppress(ImportError):
            importlib.import_module(name)
    campaign = Campaign(args.out.resolve(), args.jobs)
    tests = {file: matching(core[file]['tests']) for file in files}
    every = sorted(set(sum(tests.values(), [])))
    baseline = campaign.baseline(files, every)
    print('fail as they are:', ', '.join(baseline['failed']) or 'no tests')
    copy, chosen = campaign.copies[0], []
    for file in files:
        changes = mutants(file, (copy / file).read_text())
        changes = [Mutant(**change._asdict()) for change in changes]
        if args.sample and args.sample < len(changes):
            changes = random.Random(args.seed).sample(changes, args.sample)
        version, tested = digest(copy, file), digest(copy, *tests[file])
        ranks = matching(core[file].get('ranks', []))
        for mutant in changes:
            mutant.version, mutant.tested = version, tested
            mutant.tests = tests_of(mutant, baseline, ranks)
        chosen += changes
    waiting = [m for m in chosen if campaign.wants(m, listed)]
    print(f'{len(chosen)} mutants, {len(waiting)} to run')
    campaign.run(waiting, Limit(baseline['seconds'], args.limit))
    outcomes = []
    for mutant in chosen:
        result = campaign.done.get(result_key(vars(mutant)), {}).get('outcome')
        if key_of(vars(mutant)) in listed:
            result = 'equivalent'
        if result == 'survived':
            place = f'{mutant.file}:{mutant.lines[0]}'
            print(f'\n{place} survived:\n {mutant.before}\n {mutant.after}')
        outcomes.append((mutant.file, result))
    print(table(outcomes))


if __name__ == '__main__':
    main()
