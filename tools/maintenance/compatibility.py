"""Run the fast suite with the oldest and the newest packages, each Python.

    TOOL=tools/maintenance/compatibility.py
    python $TOOL --list
    python $TOOL               # all cells; hours
    python $TOOL --cells onedl-newest-3.12 -- tests/nn -x
    python $TOOL --report      # the page alone

A cell is a family of mm packages, a choice of versions and a Python. Each gets
a copy of the last commit and an environment of its own (6 GB, removed after
it). Its versions are found out before anything is installed: a cell whose last
record has the same ones is not run again. What follows ``--`` goes to pytest.
"""

import argparse
import fnmatch
import json
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Dict, List, Optional

import compatibility_results as results
from compatibility_cells import (
    CELLS,
    FAMILIES,
    Cell,
    NoWheels,
    Run,
    interpreter,
)

from u1_plugin.files import check_tool_folder, check_writable, replaced_file

ROOT = Path(__file__).resolve().parents[2]
#: By which earlier files and folders of this tool are known.
_PAGE, _RECORDS = results.TITLE.strip().encode(), b'{"cell": "'
_NOTE, _MARK = 'cells.txt', 'Made and emptied by compatibility.py\n'


def run_cell(cell: Cell, python: str, args: argparse.Namespace) -> bool:
    """Run a cell, if its record is not up to date; whether that is well."""
    folder = args.work_dir / cell.name
    shutil.rmtree(folder, ignore_errors=True)  # of a call that was killed
    free = shutil.disk_usage(args.work_dir).free / 2**30
    if free < args.space:
        raise ValueError(
            f'--work-dir={args.work_dir} has {free:.1f} GiB free, and a cell '
            f'needs {args.space:g} (--space); make space or name another'
        )
    records = results.read_records(args.results)
    earlier = results.latest(records, cell.name, args.tests)
    try:
        current = record(Run(cell, python, ROOT, folder), earlier, args)
        if current is earlier:
            print(f'{cell.name}: no version changed since its record')
            return args.compare or not results.failed(current)
        # Before the removal, which takes a while.
        with replaced_file(args.results, _RECORDS) as part:
            lines = [*results.read_records(args.results), current]
            part.write_text(''.join(f'{json.dumps(x)}\n' for x in lines))
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    new = results.news(current, earlier)
    print('\n'.join(new.lines if args.compare else new.lines[:1]), flush=True)
    return not (new.worse if args.compare else results.failed(current))


def record(
    run: Run, earlier: Optional[results.Record], args: argparse.Namespace
) -> results.Record:
    """A new record, or the earlier one if it says the same."""
    name = run.cell.name
    head = ('git', 'rev-parse', '--short', 'HEAD')
    new_record: results.Record = dict(
        cell=name,
        date=date.today().isoformat(),
        commit=subprocess.check_output(head, cwd=ROOT, text=True).strip(),
        tests=args.tests,
        versions=dict(python=run.cell.python),
        packages={},
    )
    try:
        print(f'{name}: which versions ...', flush=True)
        new_record['versions'] = results.main_versions(run.prepare())
        if (
            earlier
            and not args.again
            and results.is_done(earlier, new_record['versions'])
        ):
            return earlier
        print(f'{name}: installs ...', flush=True)
        new_record['packages'] = run.install()
        print(f'{name}: runs the tests ...', flush=True)
        new_record.update(run.tests(args.tests, args.hours))
    except NoWheels as error:
        new_record.update(results.not_run('no wheels', str(error)))
        if (
            earlier
            and not args.again
            and results.is_repeated(new_record, earlier)
        ):
            return earlier
    return new_record


def write_page(out: Path, file: Path) -> None:
    """Put the table of a file of records into a page."""
    text = out.read_text(encoding='utf-8') if out.exists() else ''
    records, cells = results.read_records(file), list(CELLS)
    parts = results.table(records, cells), results.details(records, cells)
    body = '\n'.join(part for part in parts if part)
    with replaced_file(out, _PAGE) as part:
        part.write_text(results.page(text, body), encoding='utf-8')


def chosen(patterns: List[str]) -> Dict[str, Cell]:
    """The cells that names or patterns stand for.

    Raises:
        ValueError: If one stands for none.
    """
    cell_names = set()
    for pattern in patterns:
        names = fnmatch.filter(CELLS, pattern)
        if not names:
            raise ValueError(
                f'--cells {pattern}: there is no such cell; --list names all, '
                f"and '{next(iter(FAMILIES))}-newest-*' stands for several"
            )
        cell_names.update(names)
    return {name: cell for name, cell in CELLS.items() if name in cell_names}


def parse_args(words: List[str]) -> argparse.Namespace:
    """Read the command line; what follows ``--`` becomes ``tests``.

    ``cells`` becomes the chosen cells by name. Unless they are only listed, the
    records are read, the page is checked, and the folder for environments is
    made where cells will run.
    """
    tool_words = words[: words.index('--')] if '--' in words else words
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='-- OPTIONS: options of pytest, such as files',
    )
    add = parser.add_argument
    add('--cells', nargs='+', default=['*'], help='names or patterns')
    add('--list', action='store_true', help='print the cells')
    add('--report', action='store_true', help='write the page, run nothing')
    add('--again', action='store_true', help='even if no version changed')
    add(
        '--compare',
        action='store_true',
        help='print what fails that did not in the record before; status 1 '
        'for such things alone',
    )
    add('--keep', action='store_true', help='leave the environments')
    add('--hours', type=float, default=3, help='for the tests of a cell')
    add('--space', type=float, default=12, help='GiB that must be free')
    docs = ROOT / 'docs'
    work = Path('work_dirs/compatibility')
    add('--work-dir', type=Path, default=work, help='for environments')
    add('--results', type=Path, default=docs / 'compatibility.jsonl')
    add('--out', type=Path, default=docs / 'compatibility.md', help='the page')
    args = parser.parse_args(tool_words)
    args.tests = words[len(tool_words) + 1 :]
    args.work_dir = args.work_dir.resolve()
    try:
        args.cells = chosen(args.cells)
        if args.list:
            return args
        results.read_records(args.results)
        check_writable(args.out, '--out', mark=_PAGE)
        if args.out.exists():
            results.page(args.out.read_text(encoding='utf-8'), '')
        if not args.report:
            check_writable(args.results, '--results', mark=_RECORDS)
            note = args.work_dir / _NOTE
            check_tool_folder(
                args.work_dir, _NOTE, _MARK.encode(), '--work-dir'
            )
            check_writable(note, '--work-dir', parents=True)
            note.write_text(_MARK)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return args


def main() -> int:
    args = parse_args(sys.argv[1:])
    if args.report:
        write_page(args.out, args.results)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    outcomes = []
    for name, cell in args.cells.items():
        python = interpreter(cell.python, bring=not args.list)
        if args.list or not python:
            print(f'{name}: {python or f"no Python {cell.python} here"}')
            continue
        try:
            outcomes.append(run_cell(cell, python, args))
            write_page(args.out, args.results)
        except (OSError, ValueError) as error:
            raise SystemExit(f'{name}: {error}') from error
    if not (args.list or outcomes):
        raise SystemExit('no cell has its Python here; install one, or uv')
    return 0 if all(outcomes) else 1


if __name__ == '__main__':
    sys.exit(main())
