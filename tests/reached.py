"""A plugin of pytest that writes which lines of the package each test reaches.

::

    pytest -p reached --reached=FILE --cov=u1_plugin --cov-context=test
"""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, Set

import coverage
import pytest

_seconds: Counter = Counter()
_failed: Set[str] = set()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--reached', help='JSON file to write')


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] += report.duration
    if report.failed:
        _failed.add(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Write ``seconds``, ``reached`` and ``failed``.

    ``reached`` is a dict of dicts: of the files, then of their lines, with a
    list of tests each.
    """
    data = coverage.CoverageData('.coverage')
    if config.option.cov_source:
        data.read()
    by_file: Dict[str, Set[str]] = defaultdict(set)
    for test in _seconds:
        by_file[test.split('::')[0]].add(test)

    def users(context: str) -> Set[str]:
        test, _, phase = context.rpartition('|')
        # What a fixture of the file does, counts for all of its tests.
        return {test} if phase == 'run' else by_file[test.split('::')[0]]

    reached = {}
    for file in data.measured_files():
        name = str(Path(file).relative_to(config.rootpath))
        reached[name] = {
            line: sorted(set().union(*map(users, contexts)))
            for line, contexts in data.contexts_by_lineno(file).items()
        }
    found = dict(seconds=_seconds, reached=reached, failed=sorted(_failed))
    Path(config.option.reached).write_text(json.dumps(found))
