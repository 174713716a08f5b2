"""Records of test runs in fresh environments: what they say, and their table.

A record is one line of JSON: the cell, the commit, pytest's options, versions,
the counts of the tests, what pytest says of those that failed and why it
skipped others.
``tools/maintenance/compatibility.py`` makes them.
"""

import json
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

from compatibility_logs import COUNTS

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
BEGIN = '<!-- the table: tools/maintenance/compatibility.py writes it -->'
END = '<!-- end of the table -->'
TITLE = '# Compatibility\n'
#: Outcomes with counts; the others are `broken` and `no wheels`.
_RAN = ('passed', 'failed')
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


def main_versions(versions: Dict[str, str]) -> Dict[str, str]:
    """Those of Python and of `VERSIONS` among all packages."""
    names = dict(python=('python',), **VERSIONS)
    return {
        name: versions[distribution]
        for name, distributions in names.items()
        for distribution in distributions
        if distribution in versions
    }


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
    no_tests: Record = dict(failing=[], messages={}, skips={})
    return dict(counts, outcome=outcome, reason=reason, **no_tests)


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
    for test in failing:
        lines.append(f'  fails now: {test}')
        if message := record.get('messages', {}).get(test):
            lines.append(f'    {message}')
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

    Cells that have no record are listed below it.

    Args:
        records (Sequence[Record]): The oldest first.
        cells (Sequence[str]): The order of rows; others come after them.
    """
    rows = _last(records, cells)
    if not rows:
        return 'No cell has run yet.'
    head = ['cell', 'Python', *VERSIONS, *COUNTS, 'minutes', 'date', 'outcome']
    lines = [_row(head), _row(['---'] * len(head))]
    lines += [_row(_cells(record)) for record in rows]
    recorded = {record['cell'] for record in rows}
    absent = [cell for cell in cells if cell not in recorded]
    if absent:
        lines += ['', f'Not run: {", ".join(absent)}.']
    return '\n'.join(lines)


def details(records: Sequence[Record], cells: Sequence[str]) -> str:
    """What pytest says of tests that fail or are skipped, as lists.

    Args:
        records (Sequence[Record]): As for `table`; those of earlier versions
            of this tool say nothing here.
        cells (Sequence[str]): As for `table`.
    """
    failures: List[str] = []
    skips: Dict[str, List[str]] = {}
    for record in _last(records, cells):
        name = _name(record)
        # Workers end in any order.
        for test, message in sorted(record.get('messages', {}).items()):
            failures.append(f'- {name}: {code(test)}: {markdown(message)}')
        for reason, count in record.get('skips', {}).items():
            skips.setdefault(reason, []).append(f'{name} {count}')
    lines = ['', 'What fails:', '', *failures] if failures else []
    if skips:
        lines += ['', 'Why tests are skipped, and how many:', '']
        lines += [
            f'- {markdown(reason)}: {", ".join(who)}'
            for reason, who in sorted(skips.items())
        ]
    return '\n'.join(lines)


def _last(records: Sequence[Record], cells: Sequence[str]) -> List[Record]:
    """The last record of each cell and selection, in the order of rows."""
    last = {_key(record): record for record in records}
    place = {cell: number for number, cell in enumerate(cells)}
    order = sorted(last, key=lambda key: (place.get(key[0], len(place)), *key))
    return [last[key] for key in order]


def _name(record: Record) -> str:
    name = record['cell']
    if record['tests']:
        name += f' `{" ".join(record["tests"])}`'.replace('|', r'\|')
    return str(name)


def _row(cells: Iterable[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _cells(record: Record) -> List[str]:
    """A row of the table."""
    ran = record['outcome'] in _RAN
    numbers = [str(record[kind]) if ran else '' for kind in COUNTS]
    minutes = f'{record["seconds"] / 60:.0f}' if ran else ''
    versions = record['versions']
    return [
        _name(record),
        *(versions.get(key, '') for key in ('python', *VERSIONS)),
        *numbers,
        minutes,
        record['date'],
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
