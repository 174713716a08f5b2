"""The page of :mod:`.claims_table`: tables, and sentences out of numbers."""

import math
from typing import Dict, List, Mapping, Sequence

import numpy as np

from ...extras import needs
from ..benchmark.frames import markdown
from ..markup import code, fence
from ..markup import markdown as escaped
from ..statistics import interval_text
from .claims_cell import MIN_GAIN, Measured
from .claims_lines import Page, column_line, label_of, short, variant_lines
from .claims_plan import Cell, Plan, Settings
from .claims_table import COLUMNS, Verdict, is_gain
from .claims_words import PAGE
from .drawing import show_estimate
from .judging import REFUTED, SUPPORTED, UNDECIDED

with needs('lab'):
    import pandas as pd

MARKS = {SUPPORTED: '✓', REFUTED: '✗', UNDECIDED: '?'}
#: Of what was not asked.
_NOTHING = '–'
#: Of the table of verdicts.
_MAIN = (
    'C1',
    'C2',
    'C3 feature plane',
    'C3 image plane',
    'C3 planes agree',
    'C4 image angle over the plain vote',
    'C4 image angle beyond position',
)
#: Of the table of C4, beside the accuracy of the plain vote.
_C4 = tuple(c for c in COLUMNS if is_gain(c) and c not in _MAIN)


def show(verdict: Verdict) -> str:
    """Mark, number with its interval, and the aspect that decides if another.

    The deciding aspect stands where it is not the first, of which the number
    is.
    """
    number, deciding = verdict.number, verdict.deciding
    if is_gain(verdict.column):
        text = interval_text(*number[:3])
    else:
        text = show_estimate(number)
    if deciding is not verdict.findings[0]:
        value = deciding.test.estimate.value
        name = deciding.test.aspect.split(',')[0]
        shown = '' if math.isnan(value) else f' {value:.2f}'
        text += f'; {name}{shown}'
    return f'{MARKS[verdict.verdict]} {text}'


def rows_of(page: Page, cells: Sequence[Cell]) -> List[Cell]:
    """Cells of a table in order, each variant below what it varies."""
    groups: Dict[Cell, List[Cell]] = {}
    for cell in cells:
        twin = page.plan.twin(cell)
        group = groups.setdefault(twin, [twin])
        if cell != twin:
            group.append(cell)
    return [c for group in groups.values() for c in group if c in page.measured]


def main_frame(page: Page, cells: Sequence[Cell]) -> pd.DataFrame:
    """A row a cell: the verdict of each claim with its number."""
    rows = []
    for cell in cells:
        one, verdicts = page.measured[cell], page.verdicts[cell]
        row = _names(cell, page.plan)
        row['map'] = '×'.join(map(str, one.shape[1:]))
        row['input'] = show_estimate(one.input_excess, 2)
        for column in _MAIN:
            row[short(column)] = (
                show(verdicts[column]) if column in verdicts else _NOTHING
            )
        rows.append(row)
    frame = _without_constants(pd.DataFrame(rows))
    return frame.loc[:, (frame != _NOTHING).any()]


def memory_frame(page: Page, cells: Sequence[Cell]) -> pd.DataFrame:
    """A row a cell with classes: C4 in points, and against each control."""
    rows = []
    for cell in cells:
        accuracy = page.measured[cell].accuracy
        if not accuracy:
            continue
        row = _names(cell, page.plan)
        for arm in ('pixel', 'image', 'position', 'centre', 'linear'):
            row[f'{arm} %'] = f'{np.mean(accuracy[arm]):.1f}'
        for column in _C4:
            row[short(column)] = show(page.verdicts[cell][column])
        rows.append(row)
    return _without_constants(pd.DataFrame(rows))


def _names(cell: Cell, plan: Plan) -> Dict[str, str]:
    return dict(network=cell.network, data=cell.data, weights=cell.variant)


def _without_constants(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the column of weights where all are alike."""
    if len(frame) and frame.weights.nunique() == 1:
        return frame.drop(columns='weights')
    return frame


def _part(page: Page, name: str, planned: Sequence[Cell]) -> Dict[str, object]:
    cells = [cell for cell in planned if cell in page.measured]
    rows = rows_of(page, cells)
    if any(label_of(cell, page.plan) for cell in cells):
        lines = variant_lines(page, cells)
    else:
        lines = [
            column_line(column, verdicts)
            for column in COLUMNS
            if (
                verdicts := {
                    cell: page.verdicts[cell][column]
                    for cell in cells
                    if column in page.verdicts[cell]
                }
            )
        ]
    memory = memory_frame(page, rows)
    return dict(
        title=escaped(name),
        missing=len(planned) - len(cells),
        unasked=sum(cell in page.plan.without_memory for cell in cells),
        planned=len(planned),
        lines=lines,
        main=markdown(main_frame(page, rows)) if rows else '',
        memory=markdown(memory) if len(memory) else '',
    )


def _images_line(page: Page) -> str:
    """How many images, classes, permutations and splits."""
    by_data = {}
    for cell, one in page.measured.items():
        by_data[cell.data] = (one.images, one.classes)
    names = ', '.join(
        f'{code(name)} {images} images'
        + (f' of {classes} classes' if classes else ' without classes')
        for name, (images, classes) in by_data.items()
    )
    settings: Settings = page.plan.settings
    line = f'{names}; {settings.permutations:,} permutations a test of C3'
    if any(one.accuracy for one in page.measured.values()):
        line += (
            f' and {settings.splits} splits (60 % memory, 20 % validation, '
            '20 % test) for C4'
        )
    return f'{line}.'


def _made_line(measured: Mapping[Cell, Measured]) -> str:
    """Hardware and versions of all cells."""
    places = sorted({one.hardware for one in measured.values()})
    versions: Dict[str, set] = {}
    for one in measured.values():
        for package, version in one.versions.items():
            versions.setdefault(package, set()).add(version)
    packages = ', '.join(
        f'{name} {" and ".join(sorted(numbers))}'
        for name, numbers in versions.items()
    )
    return escaped(f'{" and ".join(places)}; {packages}.')


def render(page: Page, alpha: float = 0.05) -> str:
    """The page, in Markdown."""
    tables = page.plan.tables
    networks = [
        f'{code(name)}: {code(net.config)} at {net.size or "its own"} pixels, '
        f'layer {code(net.layer)}'
        for name, net in page.plan.networks.items()
    ]
    return PAGE.render(
        parts=[_part(page, name, cells) for name, cells in tables.items()],
        networks=networks,
        images=_images_line(page),
        made=_made_line(page.measured),
        planned=len(page.plan.cells),
        missing=len(page.plan.cells) - len(page.measured),
        marks=MARKS,
        alpha=alpha,
        gain=MIN_GAIN,
        first=escaped(next(iter(tables))),
        fence=fence(page.command),
        command=page.command,
    )
