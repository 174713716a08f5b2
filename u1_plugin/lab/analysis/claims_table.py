"""Verdicts of many cells: each claim corrected over the cells of its table.

A cell (:class:`~.claims_plan.Cell`) has been measured once; what it showed is
a list of :class:`~.judging.ClaimTest`, C1 to C3 as the analysis makes them and
C4 of :func:`~.claims_cell.memory_tests`. A *column* is a claim or a part of
one, and holds in a cell where all of its aspects do.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

from ...extras import needs
from ...measure.estimate import Estimate
from .claims_cell import COMPARISONS, Measured
from .claims_plan import Cell
from .judging import (
    REFUTED,
    SUPPORTED,
    UNDECIDED,
    Finding,
    claim_verdict,
    judge,
)

with needs('lab'):
    import pandas as pd

#: Aspects of each column. The first gives the column's number.
COLUMNS: Dict[str, Tuple[str, ...]] = {
    'C1': ('concentrated', 'symmetric'),
    'C2': ('crown', 'quartic', 'brim'),
    'C3 feature plane': (
        'class means differ, PCA feature plane',
        'angle depends on class, PCA feature plane',
    ),
    'C3 image plane': (
        'class means differ, image plane',
        'angle depends on class, image plane',
    ),
    'C3 planes agree': ('planes agree',),
    **{f'C4 {aspect}': (aspect,) for aspect in COMPARISONS},
}


class Verdict(NamedTuple):
    """One cell of one column."""

    column: str  # key of :data:`COLUMNS`
    verdict: str  # ``'supported'``, ``'not supported'`` or ``'undecided'``
    findings: List[Finding]  # its aspects, the column's number first

    @property
    def number(self) -> Estimate:
        """The estimate of the first aspect."""
        return self.findings[0].test.estimate

    @property
    def deciding(self) -> Finding:
        """The aspect on which the verdict rests: the weakest."""
        for kind in (REFUTED, UNDECIDED):
            for finding in self.findings:
                if finding.verdict == kind:
                    return finding
        return self.findings[0]


Verdicts = Dict[Cell, Dict[str, Verdict]]


def judge_table(cells: Sequence[Measured]) -> Verdicts:
    """Verdicts of all cells of a table, column by column.

    Returns:
        Verdicts: By cell and column; a cell has no column of which nothing
        was asked. The p-values of a column are corrected by Holm over all
        aspects and cells of the table.
    """
    verdicts: Verdicts = {one.cell: {} for one in cells}
    for column, aspects in COLUMNS.items():
        # One layer of the judge's is one cell here.
        tests = {
            one.cell.title: [
                test
                for aspect in aspects
                for test in one.tests
                if test.aspect == aspect
            ]
            for one in cells
        }
        findings: Dict[str, List[Finding]] = {}
        for finding in judge(tests):
            findings.setdefault(finding.layer, []).append(finding)
        for one in cells:
            cell_findings = findings.get(one.cell.title)
            if cell_findings:
                verdicts[one.cell][column] = Verdict(
                    column, claim_verdict(cell_findings), cell_findings
                )
    return verdicts


def csv_table(
    table: str, cells: Sequence[Measured], verdicts: Verdicts
) -> pd.DataFrame:
    """All numbers of a table, a row an aspect.

    Returns:
        pd.DataFrame: ``verdict`` is the column's, ``aspect_verdict`` that of
        the row alone; ``pvalue`` is one-sided but for C3's agreement, and
        ``holm_p`` corrected. Numbers have six digits.
    """
    rows = []
    for one in cells:
        names = dict(
            table=table,
            **one.cell._asdict(),
            map='x'.join(map(str, one.shape)),
            images=one.images,
            classes=one.classes,
        )
        excess = one.input_excess._asdict()
        rows.append(
            dict(names, claim='input images', aspect='concentrated', **excess)
        )
        for column, verdict in verdicts[one.cell].items():
            for finding in verdict.findings:
                test = finding.test
                rows.append(
                    dict(
                        names,
                        claim=column,
                        verdict=verdict.verdict,
                        aspect=test.aspect,
                        aspect_verdict=finding.verdict,
                        statistic=test.statistic,
                        n=test.n,
                        **test.estimate._asdict(),
                        holm_p=finding.corrected,
                        remark=test.remark,
                    )
                )
    frame = pd.DataFrame(rows)
    for name in ('value', 'low', 'high', 'pvalue', 'holm_p'):
        if name in frame:
            frame[name] = frame[name].map('{:.6g}'.format).astype(float)
    return frame


def accuracy_table(cells: Sequence[Measured]) -> pd.DataFrame:
    """Top-1 of every arm of C4, per cent; a column a split."""
    rows = [
        dict(
            one.cell._asdict(),
            arm=arm,
            **{f'split_{k}': round(v, 4) for k, v in enumerate(values)},
        )
        for one in cells
        for arm, values in one.accuracy.items()
    ]
    # Without a row, too, a table has a header.
    return pd.DataFrame(rows, columns=None if rows else [*Cell._fields, 'arm'])


def is_gain(column: str) -> bool:
    """Whether a column's number is a difference of top-1, in points."""
    return column.startswith('C4')


def count(verdicts: Sequence[Verdict]) -> Dict[str, int]:
    """How many of each kind."""
    kinds = [verdict.verdict for verdict in verdicts]
    return {kind: kinds.count(kind) for kind in (SUPPORTED, REFUTED, UNDECIDED)}
