"""What pip and pytest say of an environment, read from what they write."""

import re
from os import PathLike
from typing import Dict, Iterable, Tuple, Union
from xml.etree import ElementTree

COUNTS = ('passed', 'failed', 'errors', 'skipped')
_KINDS = dict(failure='failed', error='errors', skipped='skipped')
#: Characters that are kept of what pytest says of a test.
_LENGTH = 200


def packages(listed: Iterable[Dict[str, str]]) -> Dict[str, str]:
    """Versions by normalised name, of what pip lists."""
    versions = {
        re.sub('[-_.]+', '-', item['name']).lower(): item['version']
        for item in listed
    }
    return dict(sorted(versions.items()))


def pip_line(log: str) -> str:
    """What pip says is missing, of all that it printed.

    Raises:
        ConnectionError: If it had none: that says nothing about wheels.
    """
    if 'Retrying (' in log or 'Could not fetch URL' in log:
        raise ConnectionError(f'pip had no connection:\n{log[-2000:]}')
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if 'The conflict is caused by:' in lines:
        causes = lines[lines.index('The conflict is caused by:') + 1 :]
        reasons = [line for line in causes if ' depends on ' in line]
        requested = [line for line in causes if ' requested ' in line]
        if reasons or requested:
            conflict = '; '.join(reasons[:1] + requested[-1:])
            # As pip also says where a version that fits has no wheel.
            same = r'.* depends on ([\w.-]+)>=(\S+); .*\(constraint\) \1==\2$'
            return re.sub(same, r'\1 \2 has no wheel for this Python', conflict)
    errors = [line for line in lines if line.lower().startswith('error: ')]
    last = (errors or lines or ['pip said nothing'])[-1]
    return re.sub('(?i)^error: ', '', last)


def outcomes(
    report: Union[str, 'PathLike[str]'], folder: str
) -> Dict[str, Dict[str, str]]:
    """Tests by kind, of pytest's JUnit file (``xunit1``).

    Args:
        report (str | PathLike): The file.
        folder (str): Left out of messages, for it is another one each time.

    Returns:
        Dict[str, Dict[str, str]]: For each of `COUNTS`, what pytest says of
        each test in one line: its error or why it was skipped; empty
        if it passed. A test that fails and whose fixtures fail at its end
        counts as failed.
    """
    tests: Dict[str, Dict[str, str]] = {kind: {} for kind in COUNTS}
    for case in ElementTree.parse(report).iter('testcase'):
        kind, message = _outcome(case)
        message = _line(message.replace(folder, ''))
        tests[kind][_test_name(case)] = message
    return tests


def _test_name(case: ElementTree.Element) -> str:
    """``file::test``, or ``file::class::test``.

    The file of a decorated test is its decorator's, which other files may use
    for tests of the same name; the module that pytest names is the test's.
    """
    file, name = case.get('file', ''), case.get('name', '')
    scope = case.get('classname', '')  # empty where a file is not collected
    module = file[: -len('.py')].replace('/', '.')
    if scope and scope != module and not scope.startswith(f'{module}.'):
        file, module = f'{scope.replace(".", "/")}.py', scope
    classes = [part for part in scope[len(module) + 1 :].split('.') if part]
    return '::'.join([file, *classes, name])


def _outcome(case: ElementTree.Element) -> Tuple[str, str]:
    for tag, kind in _KINDS.items():
        child = case.find(tag)
        if child is not None:
            return kind, child.get('message') or ''
    return 'passed', ''


def _line(message: str) -> str:
    """The first lines as one, without addresses in memory, and short."""
    line = re.sub('0x[0-9a-f]{6,}', '0x...', ' '.join(message.split()))
    return line if len(line) <= _LENGTH else f'{line[:_LENGTH]}...'
