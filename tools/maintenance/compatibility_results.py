"""Records of test runs in fresh environments: what they say, and their table.

A record is one line of JSON: the cell, the commit, pytest's options, versions,
the counts of the tests and the names of those that failed.
``tools/maintenance/compatibility.py`` makes them.
"""

import json
import re
from os import PathLike
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)
from xml.etree import ElementTree

from u1_plugin.lab.markup import code, markdown

Record = Dict[str, Any]

#: What a record names beside Python, and the distributions that may be it.
VERSIONS = dict(
    torch=('torch',),
    torchvision=('torchvision',),
    numpy=('numpy',),
    mmpretrain=('mmpretrain', 'onedl-mmpretrain'),
    mmengine=('mmengine', 'onedl-mmengine'),
    mmcv=('mmcv-lite', 'onedl-mmcv', 'mmcv'),
    timm=('timm',),
)
COUNTS = ('passed', 'failed', 'errors', 'skipped')
BEGIN = '<!-- the table: tools/maintenance/compatibility.py writes it -->'
END = '<!-- end of the table -->'
TITLE = '# Compatibility\n'
#: Outcomes with counts; the others are `broken` and `no wheels`.
_RAN = ('passed', 'failed')
_KINDS = dict(failure='failed', error='errors', skipped='skipped')
#: Failing tests that a row of the table names.
_NAMED = 3


class News(NamedTuple):
    """What a record says that the one before it did not.

    Attributes:
        worse (bool): Whether something fails that did not.
        lines (List[str]): For the terminal.
    """

    worse: bool
    lines: List[str]


def packages(listed: Iterable[Dict[str, str]]) -> Dict[str, str]:
    """Versions by normalised name, of what pip lists."""
    versions = {
        re.sub('[-_.]+', '-', item['name']).lower(): item['version']
        for item in listed
    }
    return dict(sorted(versions.items()))


def main_versions(versions: Dict[str, str]) -> Dict[str, str]:
    """Those of Python and of `VERSIONS` among all packages."""
    names = dict(python=('python',), **VERSIONS)
    return {
        name: versions[distribution]
        for name, distributions in names.items()
        for distribution in distributions
        if distribution in versions
    }


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


def outcomes(report: Union[str, 'PathLike[str]']) -> Dict[str, List[str]]:
    """Names of tests by kind, of pytest's JUnit file (``xunit1``).

    Returns:
        Dict[str, List[str]]: For each of `COUNTS`, names as ``file::test``. A
        test that fails and whose fixtures fail at its end counts as failed.
    """
    tests: Dict[str, List[str]] = {kind: [] for kind in COUNTS}
    for case in ElementTree.parse(report).iter('testcase'):
        tags = {child.tag for child in case}
        kind = next((k for tag, k in _KINDS.items() if tag in tags), 'passed')
        tests[kind].append(f'{case.get("file")}::{case.get("name")}')
    return tests


def read_records(file: Union[str, 'PathLike[str]']) -> List[Record]:
    """All records of a file, the oldest first; none if there is no file.

    Raises:
        ValueError: If a line is no record.
    """
    if not Path(file).exists():
        return []
    records = []
    text = Path(file).read_text(encoding='utf-8')
    for number, line in enumerate(text.splitlines(), 1):
        try:
            record = json.loads(line)
            _key(record), record['versions'], record['outcome']
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f'{file}, line {number} is no record: {error!r}; remove it'
            ) from error
        records.append(record)
    return records


def _key(record: Record) -> Tuple[str, Tuple[str, ...]]:
    return record['cell'], tuple(record['tests'])


def latest(
    records: Sequence[Record], cell: str, tests: Sequence[str]
) -> Optional[Record]:
    """The last record of a cell with these options of pytest."""
    fitting = [r for r in records if _key(r) == (cell, tuple(tests))]
    return fitting[-1] if fitting else None


def is_done(earlier: Optional[Record], versions: Dict[str, str]) -> bool:
    """Whether a record tells how these versions do."""
    return (
        earlier is not None
        and earlier['outcome'] in _RAN
        and earlier['versions'] == versions
    )


def failed(record: Optional[Record]) -> bool:
    """Whether tests failed or did not end."""
    return record is not None and record['outcome'] in ('failed', 'broken')


def is_repeated(record: Record, earlier: Optional[Record]) -> bool:
    """Whether both say that no tests ran, for the same reason."""
    return earlier is not None and all(
        record[key] == earlier[key] for key in ('outcome', 'reason')
    )


def not_run(outcome: str, reason: str) -> Record:
    """What a record says of tests that did not run."""
    counts: Record = dict.fromkeys((*COUNTS, 'seconds'), 0)
    return dict(counts, outcome=outcome, reason=reason, failing=[])


def news(record: Record, earlier: Optional[Record]) -> News:
    """Compare two records of a cell.

    Args:
        record (Record): The newer one.
        earlier (Record, optional): Without it every failure is new.
    """
    before: Record = earlier or {}
    failed_before = before.get('failing', [])
    failing = [test for test in record['failing'] if test not in failed_before]
    cut_short = record['outcome'] in ('broken', 'no wheels')
    reason = (
        record['reason']
        if cut_short and before.get('outcome') != record['outcome']
        else ''
    )
    lines = [f'{record["cell"]}: {summary(record)}']
    if earlier is None:
        lines.append('  there is no earlier record to compare with')
    if reason:
        lines.append(f'  new: {record["outcome"]}: {reason}')
    lines += [f'  fails now: {test}' for test in failing]
    if failing or reason:
        lines += [f'  changed: {line}' for line in changes(before, record)]
    return News(bool(failing or reason), lines)


def changes(earlier: Record, record: Record) -> List[str]:
    """Commit and versions that two records do not share."""
    old, new = earlier.get('packages', {}), record['packages']
    pairs = [('commit', earlier.get('commit'), record['commit'])]
    if old and new:
        names = sorted({*old, *new})
        pairs += [(name, old.get(name), new.get(name)) for name in names]
    return [
        f'{name} {a or "none"} -> {b or "none"}'
        for name, a, b in pairs
        if a != b and (a or old)
    ]


def summary(record: Record) -> str:
    """Counts, or why there are none."""
    if record['reason']:
        return f'{record["outcome"]}: {record["reason"]}'
    counts = [f'{record[kind]} {kind}' for kind in COUNTS]
    return f'{", ".join(counts)} in {record["seconds"]} s'


def table(records: Sequence[Record], cells: Sequence[str]) -> str:
    """The last record of each cell and selection of tests, in Markdown.

    Args:
        records (Sequence[Record]): The oldest first.
        cells (Sequence[str]): The order of rows; others come after them.
    """
    last = {_key(record): record for record in records}
    if not last:
        return 'No cell has run yet.'
    place = {cell: number for number, cell in enumerate(cells)}
    rows = sorted(last, key=lambda key: (place.get(key[0], len(place)), *key))
    head = ['cell', 'Python', *VERSIONS, *COUNTS, 'minutes', 'outcome']
    lines = [_row(head), _row(['---'] * len(head))]
    lines += [_row(_cells(last[key])) for key in rows]
    return '\n'.join(lines)


def _row(cells: Iterable[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _cells(record: Record) -> List[str]:
    """A row of the table."""
    name = record['cell']
    if record['tests']:
        name += f' `{" ".join(record["tests"])}`'.replace('|', r'\|')
    ran = record['outcome'] in _RAN
    numbers = [str(record[kind]) if ran else '' for kind in COUNTS]
    minutes = f'{record["seconds"] / 60:.0f}' if ran else ''
    versions = record['versions']
    return [
        name,
        *(versions.get(key, '') for key in ('python', *VERSIONS)),
        *numbers,
        minutes,
        _outcome(record),
    ]


def _outcome(record: Record) -> str:
    failing = record['failing']
    if record['outcome'] == 'failed' and failing:
        names = [code(test).replace('|', r'\|') for test in failing[:_NAMED]]
        more = len(failing) - _NAMED
        rest = f' and {more} more' if more > 0 else ''
        return f'failed: {", ".join(names)}{rest}'
    if record['reason']:
        return markdown(f'{record["outcome"]}: {record["reason"]}')
    return str(record['outcome'])


def page(text: str, body: str) -> str:
    """A page with a new table.

    Args:
        text (str): The page as it is; empty for a new one.
        body (str): What comes between the two comments.

    Raises:
        ValueError: If the page has not each of the comments once.
    """
    text = text if text.strip() else f'{TITLE}\n{BEGIN}\n{END}\n'
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in rest or END in before + after:
        raise ValueError(
            f'the page must have {BEGIN!r} once and {END!r} once after it; '
            'put them where the table belongs'
        )
    return f'{before}{BEGIN}\n\n{body}\n\n{END}{after}'
