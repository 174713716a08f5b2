"""Run MMPretrain's own tests, stock and with u1_plugin imported.

    python tools/maintenance/upstream_tests.py path/to/mmpretrain/tests

takes the folder ``tests`` of a checkout of MMPretrain's sources (its wheel has
none), runs the tests of heads, necks, losses, classifiers, hooks, metrics, data
sets, APIs and utilities against the installed MMPretrain, twice, and lists the
tests that fail with the plugin and not without it: there must be none. Some of
them draw random numbers and fail now and then, so one that looks like that is
run without the plugin again and again before it counts. Exit status 1 if any
is left.
"""

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Dict, List

FOLDERS = (
    'test_models/test_heads.py',
    'test_models/test_necks.py',
    'test_models/test_losses.py',
    'test_models/test_classifiers.py',
    'test_models/test_utils',
    'test_engine/test_hooks',
    'test_evaluation',
    'test_datasets',
    'test_apis',
    'test_utils',
)
_RUNS = 10


def outcomes(tests: Path, folders: List[str], plugin: bool) -> Dict[str, str]:
    """``passed``, ``failed`` or ``skipped`` of every test.

    Args:
        tests (Path): MMPretrain's folder ``tests``.
        folders (List[str]): What to run of it.
        plugin (bool): Whether to import u1_plugin before.

    Raises:
        RuntimeError: If pytest did not run.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / 'report.xml'
        command = [sys.executable, '-m', 'pytest', '-q', '--tb=no']
        command += ['-p', 'no:cacheprovider', f'--junitxml={report}']
        command += ['-p', 'u1_plugin'] if plugin else []
        command += [str(tests / name) for name in folders]
        done = subprocess.run(command, cwd=tests.parent)
        if not report.is_file():
            raise RuntimeError(f'pytest ended with {done.returncode}')
        cases = ElementTree.parse(report).iter('testcase')
        return {
            f'{case.get("classname")}::{case.get("name")}': _outcome(case)
            for case in cases
        }


def fails_without(tests: Path, name: str) -> bool:
    """Whether a test fails once among several runs without the plugin.

    Args:
        tests (Path): MMPretrain's folder ``tests``.
        name (str): Such as ``tests.test_utils.test_x.TestX::test_y``.
    """
    parts, test = name.split('::')[0].split('.'), name.split('::')[1]
    while parts:
        file = tests.parent.joinpath(*parts).with_suffix('.py')
        if file.is_file():
            break
        parts.pop()
    inside = name.split('::')[0].split('.')[len(parts) :]
    node = '::'.join([str(file), *inside, test])
    command = [sys.executable, '-m', 'pytest', '-q', '--tb=no', node]
    return any(
        subprocess.run(
            [*command, '-p', 'no:cacheprovider'],
            cwd=tests.parent,
            stdout=subprocess.DEVNULL,
        ).returncode
        for _ in range(_RUNS)
    )


def _outcome(case: ElementTree.Element) -> str:
    for kind in ('failure', 'error'):
        if case.find(kind) is not None:
            return 'failed'
    return 'passed' if case.find('skipped') is None else 'skipped'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('tests', type=Path, help="MMPretrain's folder `tests`")
    tests = parser.parse_args().tests.resolve()
    folders = [name for name in FOLDERS if (tests / name).exists()]
    if not folders:
        parser.error(f'tests={str(tests)!r} has none of {", ".join(FOLDERS)}')
    stock, with_plugin = (outcomes(tests, folders, on) for on in (False, True))
    for name, results in (('stock', stock), ('u1_plugin', with_plugin)):
        values = list(results.values())
        counts = [f'{values.count(k)} {k}' for k in sorted(set(values))]
        print(f'{name}: {len(results)} tests, {", ".join(counts)}')
    worse = [
        test
        for test, outcome in with_plugin.items()
        if outcome == 'failed' and stock.get(test) != 'failed'
    ]
    unstable = [test for test in worse if fails_without(tests, test)]
    worse = [test for test in worse if test not in unstable]
    print(f'failing now and then without the plugin too: {unstable or "none"}')
    print(f'failing with u1_plugin alone: {worse or "none"}')
    return int(bool(worse) or len(with_plugin) != len(stock))


if __name__ == '__main__':
    sys.exit(main())
