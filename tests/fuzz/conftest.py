from collections import Counter
from typing import Dict

import pytest
from oracle import COUNTS

_COLUMNS = ('cases', 'right', 'refused', 'fault')
_TOTAL: Dict[str, Counter] = {}


def _add(counts: Dict[str, Counter]) -> None:
    for component, count in counts.items():
        _TOTAL.setdefault(component, Counter()).update(count)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, 'workeroutput'):  # of xdist
        counts = {name: dict(count) for name, count in COUNTS.items()}
        session.config.workeroutput['fuzz'] = counts


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    _add(getattr(node, 'workeroutput', {}).get('fuzz', {}))


def pytest_terminal_summary(terminalreporter) -> None:
    """A table of cases by component, in Markdown."""
    _add(COUNTS)
    if not _TOTAL or terminalreporter.config.option.verbose < 0:
        return
    terminalreporter.section('fuzz')
    terminalreporter.line(f'| component | {" | ".join(_COLUMNS)} |')
    terminalreporter.line('|---' + '|---:' * len(_COLUMNS) + '|')
    for component in sorted(_TOTAL):
        cells = ' | '.join(str(_TOTAL[component][c]) for c in _COLUMNS)
        terminalreporter.line(f'| {component} | {cells} |')
