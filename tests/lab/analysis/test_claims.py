"""The table of claims: cells, verdicts, sentences, tables and figure."""

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.lab.analysis.claims_cell import (
    COMPARISONS,
    Measured,
    from_json,
    memory_tests,
    to_json,
)
from u1_plugin.lab.analysis.claims_figure import DRAWN, draw
from u1_plugin.lab.analysis.claims_lines import Page
from u1_plugin.lab.analysis.claims_page import render
from u1_plugin.lab.analysis.claims_plan import (
    Cell,
    ImageSource,
    NetworkSource,
    Plan,
    Settings,
)
from u1_plugin.lab.analysis.claims_table import (
    COLUMNS,
    accuracy_table,
    csv_table,
    judge_table,
)
from u1_plugin.lab.analysis.judging import ClaimTest, judge
from u1_plugin.lab.analysis.verdicts import concentration_tests
from u1_plugin.lab.benchmark.table import read_csv, save_csv
from u1_plugin.measure.accumulators import EnergyAccumulator
from u1_plugin.measure.estimate import Estimate
from u1_plugin.measure.profile import EnergySummary

#: Of what the page is.
PLAN = Plan(
    Settings(3, 9, 2, 99),
    dict(small=NetworkSource('small.py', 'small.pth', 32)),
    dict(
        photos=ImageSource(built_in='photos'),
        digits=ImageSource(['digits']),
        turned=ImageSource(['turned'], of='digits'),
    ),
    dict(
        first=[Cell('small', 'photos'), Cell('small', 'digits')],
        more=[
            Cell('small', 'digits', 'untrained'),
            Cell('small', 'turned', 'trained', 'reflect'),
        ],
    ),
    {Cell('small', 'digits', 'untrained')},
)


def estimate(value: float, pvalue: float = 1e-9, width: float = 0.1):
    return Estimate(value, value - width, value + width, pvalue)


#: The least effect of each aspect, where it is not 0.
_LEAST = {'symmetric': 0.5, 'planes agree': -math.inf}


def cell_of(
    name: str,
    values: dict,
    pvalue: float = 1e-9,
    labelled: bool = True,
    **accuracy: list,
) -> Measured:
    """A cell whose aspects all have one p-value."""
    tests = [
        ClaimTest(
            column.split()[0],
            aspect,
            'what it is',
            50,
            estimate(values.get(aspect, 1.0), pvalue),
            _LEAST.get(aspect, 0.0),
        )
        for column, aspects in COLUMNS.items()
        for aspect in aspects
        if labelled or column in ('C1', 'C2')
    ]
    return Measured(
        Cell('small', name),
        50,
        5 if labelled else 0,
        (8, 5, 5),
        tests,
        estimate(0.01),
        accuracy,
        'a processor',
        dict(torch='2'),
    )


def test_cells_of_a_column_are_corrected_together():
    def supported(count: int, pvalue: float) -> dict:
        cells = [cell_of(f'd{k}', {}, pvalue) for k in range(count)]
        verdicts = judge_table(cells)
        return {
            column: {own[column].verdict for own in verdicts.values()}
            for column in COLUMNS
        }

    # 0.012 times the aspects: one, two or three of them in a cell.
    alone = supported(1, 0.012)
    assert all(kinds == {'supported'} for kinds in alone.values())
    pair = supported(2, 0.012)
    assert pair['C1'] == {'supported'} == pair['C4 image angle beyond position']
    assert pair['C2'] == {'undecided'}  # six aspects: 0.072
    assert supported(5, 0.012)['C4 image angle beyond position'] == {
        'undecided'
    }


@given(st.integers(1, 6), st.floats(1e-6, 1))
def test_more_cells_support_no_more(count, pvalue):
    cells = [cell_of(f'd{k}', {}, pvalue) for k in range(count + 1)]
    few, many = (judge_table(cells[:n]) for n in (count, count + 1))
    for cell, own in few.items():
        for column, verdict in own.items():
            if many[cell][column].verdict == 'supported':
                assert verdict.verdict == 'supported'


def test_a_cell_alone_has_the_verdict_of_an_analysis():
    """Of C1, on a real summary."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-2:3, -2:3]
    peak = np.exp(-(x**2 + y**2) / 3)
    accumulator = EnergyAccumulator()
    energy = peak * rng.uniform(0.5, 1.5, (40, 5, 5))
    accumulator.update(torch.from_numpy(energy))
    summary = accumulator.summary()
    assert isinstance(summary, EnergySummary)
    tests = concentration_tests(summary)
    cell = cell_of('d', {})._replace(tests=tests)
    own = judge_table([cell])[cell.cell]
    assert list(own) == ['C1']
    expected = judge(dict(layer=tests))
    assert [f.test for f in own['C1'].findings] == [f.test for f in expected]
    assert [f.corrected for f in own['C1'].findings] == [
        f.corrected for f in expected
    ]
    assert own['C1'].verdict == 'supported'


def test_the_weakest_aspect_decides():
    cell = cell_of('d', dict(symmetric=0.1))
    verdict = judge_table([cell])[cell.cell]['C1']
    assert verdict.verdict == 'not supported'
    assert verdict.number == estimate(1.0)
    assert verdict.deciding.test.aspect == 'symmetric'


def test_cells_are_stored_as_they_are():
    cell = cell_of('d', {}, image=[50.0, 25.0])
    undefined = [math.nan] * 3
    odd = ClaimTest('C1', 'x', 'y', 3, Estimate(1.0, *undefined), -math.inf)
    cell = cell._replace(tests=[*cell.tests, odd._replace(obstacle='few')])
    again = from_json(to_json(cell))
    assert repr(again) == repr(cell)  # NaN is not equal to itself


def test_no_gain_of_half_a_point_is_no_support():
    others = ('pixel', 'position', 'radius', 'shuffled', 'feature')
    half = np.repeat([100.0, 0.0], 2000)
    scores = dict.fromkeys(others, half)
    scores['image'] = np.append(half[:-1], 100.0)
    scores['centre'] = np.where(np.arange(4000) % 10, half, 0)
    cell = cell_of('d', {})._replace(tests=memory_tests(scores))
    own = judge_table([cell])[cell.cell]
    kinds = {column: verdict.verdict for column, verdict in own.items()}
    assert kinds.pop('C4 image angle beyond the central pixels') == 'supported'
    assert set(kinds.values()) == {'not supported'}


ARMS = ('pixel', 'image', 'position', 'centre', 'linear')


@pytest.fixture
def page() -> Page:
    arms = dict.fromkeys(ARMS, [50.0, 60.0])
    cells = [
        cell_of('photos', dict(concentrated=0.25), labelled=False),
        cell_of('digits', dict(concentrated=0.45, symmetric=0.2), **arms),
        cell_of('digits', dict(concentrated=-0.3))._replace(
            cell=Cell('small', 'digits', 'untrained')
        ),
    ]
    cells[-1] = cells[-1]._replace(
        tests=[test for test in cells[-1].tests if test.claim != 'C4']
    )
    verdicts = judge_table(cells[:2]) | judge_table(cells[2:])
    measured = {one.cell: one for one in cells}
    return Page(
        PLAN, measured, verdicts, 'python tools/studies/claims.py plan out'
    )


def test_sentences_are_computed(page):
    text = render(page)
    assert (
        '**C1: supported in part.** Supported in 1 of 2 cells, not supported '
        'in 1, undecided in 0; elsewhere it rests on symmetric (1). Its '
        'number: median 0.350, from 0.250 to 0.450.'
    ) in text
    assert '**C2: supported throughout.** Supported in 2 of 2' in text
    # Cells of one data set are one observation of it.
    assert 'Over the' not in text
    more = cell_of('photos', {aspect: 3.0 for aspect in COMPARISONS})
    verdicts = page.verdicts | judge_table([more])
    again = render(page._replace(verdicts=verdicts))
    # Two data sets, 1 and 3 points: 2 with a standard error of 1, and
    # 12.706 is Student's quantile.
    assert "networks' means: +2.00 [-10.71, +14.71]." in again
    assert (
        '**untrained** (1 cells): C1 0.450 → -0.300 (supported 0 → 0); '
        'C3 feature plane 1.000 → 1.000 (supported 1 → 1); '
        'C3 image plane 1.000 → 1.000 (supported 1 → 1).'
    ) in text
    assert 'Incomplete: 1 of 4 planned cells' in text
    assert 'C4 was not asked of 1 cells' in text
    assert '9 images' not in text and '`photos` 50 images without' in text
    rows = [line for line in text.splitlines() if line.startswith('| small')]
    assert len(rows) == 2 + 1 + 2 + 1  # two tables, each with C4 below
    photos, digits = rows[:2]
    assert (
        '✓ 0.250 [0.150, 0.350] |' in photos and photos.count('–') == 5
    )  # C3 and C4
    assert '✗ 0.450 [0.350, 0.550]; symmetric 0.20 |' in digits
    assert '| 55.0 |' in rows[2]


def test_columns_of_all_rows_are_alike(page):
    for block in re.findall(r'(?:^\|.*\n)+', render(page), re.MULTILINE):
        widths = {
            len(re.findall(r'(?<!\\)\|', row)) for row in block.split('\n')[:-1]
        }
        assert len(widths) == 1


def test_names_are_text(page):
    name = 'a|b<script> *x*'
    odd = Cell(name, 'digits')
    cell = page.measured[Cell('small', 'digits')]._replace(cell=odd)
    tables = dict(first=[odd])
    verdicts = judge_table([cell])
    shown = page._replace(
        plan=PLAN._replace(tables=tables),
        measured={odd: cell},
        verdicts=verdicts,
    )
    text = render(shown)
    assert name not in text and r'a\|b\<script> \*x\*' in text
    draw([odd], verdicts).savefig('/dev/null', format='png')


def test_tables_hold_all_numbers(page, tmp_path):
    cells = [page.measured[cell] for cell in page.plan.tables['first']]
    frame = csv_table('first', cells, page.verdicts)
    save_csv(frame, tmp_path / 'claims.csv')
    again = read_csv(tmp_path / 'claims.csv')
    assert len(again) == sum(len(cell.tests) + 1 for cell in cells)
    row = again[(again.aspect == 'symmetric') & (again.data == 'digits')]
    assert row.verdict.item() == row.aspect_verdict.item() == 'not supported'
    assert row.value.item() == 0.2
    own = again[again.claim == 'C1']
    assert np.allclose(own.holm_p, 4e-9)  # four aspects with one p
    assert (own.pvalue == 1e-9).all()
    top1 = accuracy_table(cells)
    assert list(top1.arm) == list(ARMS)
    assert (top1.split_0 == 50).all() and (top1.split_1 == 60).all()


def test_the_figure_has_a_mark_for_every_number(page):
    cells = page.plan.tables['first']
    figure = draw(cells, page.verdicts)
    for ax, column in zip(figure.axes, DRAWN):
        marks = [
            line for line in ax.lines if line.get_marker() not in ('None', '')
        ]
        expected = [
            page.verdicts[cell][column].number.value
            for cell in cells
            if column in page.verdicts[cell]
        ]
        found = [float(np.ravel(line.get_xdata())[0]) for line in marks]
        assert found == expected and found
    # And no panel of what no cell was asked.
    (ax,) = draw([Cell('small', 'photos')], page.verdicts).axes
    assert ax.get_title() == DRAWN['C1'] and len(figure.axes) == len(DRAWN)
