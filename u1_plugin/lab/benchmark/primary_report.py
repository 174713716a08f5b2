"""What the comparisons show that a suite named before its runs.

Holm's correction is over these alone; whatever else a report compares is
exploratory.
"""

from pathlib import Path
from typing import List, Optional, Tuple

from ...extras import needs
from ..markup import markdown as escaped
from .analysis import LEVEL, by_seed, interval, paired
from .kept import read_kept
from .primary import Primary
from .statistics import Comparison, detectable_gain, holm, seeds_needed
from .table import replace_csv

with needs('lab'):
    import pandas as pd

#: Below a benchmark's folder.
FILE = 'primary.csv'
_COLUMNS = ['arm', 'to', 'gain']


def write_primary(primary: Primary, out: Path) -> None:
    """Keep the comparisons in a benchmark's folder, for its report."""
    rows = [(arm, other, primary.gain) for arm, other in primary.pairs]
    replace_csv(out / FILE, pd.DataFrame(rows, columns=_COLUMNS))


def check_primary(primary: Primary, out: Path, finished: int) -> None:
    """Raise unless the comparisons were named before the runs.

    Args:
        primary (Primary): Of the suite.
        out (Path): A benchmark's folder.
        finished (int): Its finished runs.

    Raises:
        ValueError: If there are some, and what was named is not this.
    """
    named = load_primary(out)
    if finished and primary != named:
        raise ValueError(
            f'suite.primary={primary.pairs} with gain={primary.gain:g} is not '
            f'what was named before the {finished} finished runs in '
            f'{str(out)!r}: {named.pairs}, {named.gain:g}; ask it of new seeds '
            'in another folder'
        )


def load_primary(out: Path) -> Primary:
    """What was asked; nothing in folders of earlier versions.

    Raises:
        ValueError: If the file is no table of comparisons.
    """
    file = out / FILE
    table = read_kept(file, _COLUMNS)
    if table is None:
        return Primary()
    pairs = tuple(zip(table.arm.astype(str), table.to.astype(str)))
    return Primary(pairs, float(table.gain.iloc[0]) if pairs else 0.0)


def primary_frame(
    table: pd.DataFrame, primary: Primary, metric: str
) -> Tuple[pd.DataFrame, List[str]]:
    """The comparisons of one config, and a sentence each.

    Args:
        table (pd.DataFrame): Its runs.
        primary (Primary): Pairs of arms.
        metric (str): A column of the table.

    Returns:
        Tuple[pd.DataFrame, List[str]]: A row a comparison. *Seen* is the
        smallest true gain that so many pairs show with a chance of 80 % by a
        two-sided paired t test at 5 % over the number of comparisons, which is
        what Holm asks of the smallest p; *seeds* how many pairs the suite's
        gain takes.
    """
    series = by_seed(table, metric)
    found = {
        (arm, other): paired(series[arm], series[other])
        if arm in series and other in series
        else None
        for arm, other in primary.pairs
    }
    pvalues = {
        f'{arm}, {other}': 1.0 if c is None else c.permutation
        for (arm, other), c in found.items()
    }
    corrected = holm(pvalues)
    alpha = LEVEL / max(len(found), 1)
    rows, lines = [], []
    for (arm, other), c in found.items():
        p = corrected[f'{arm}, {other}']
        row = dict(comparison=f'{arm} less {other}', n='0', difference='')
        row |= {'permutation p': '', 'Holm p': '', 'sd': '', 'seen': ''}
        row[f'seeds for +{primary.gain:g}'] = ''
        if c is not None:
            row |= {'n': str(c.n), 'difference': interval(c)}
            row |= {'permutation p': f'{c.permutation:.3f}'}
            row |= {'Holm p': f'{p:.3f}', 'sd': f'{c.sd:.2f}'}
            if c.sd > 0:
                seen = detectable_gain(c.sd, c.n, alpha=alpha)
                needed = seeds_needed(c.sd, primary.gain, alpha=alpha)
                row['seen'] = f'{seen:+.2f}'
                row[f'seeds for +{primary.gain:g}'] = f'{needed:,}'
        rows.append(row)
        words = _words(c, p)
        lines.append(f'**{escaped(arm)} less {escaped(other)}**: {words}.')
    return pd.DataFrame(rows), lines


def _words(comparison: Optional[Comparison], corrected: float) -> str:
    if comparison is None:
        return 'fewer than 2 pairs: nothing can be said'
    shown = comparison.verdict != 'no effect here' and corrected < LEVEL
    if not shown:
        return f'no effect is shown, {interval(comparison)}'
    return f'{comparison.verdict}, {interval(comparison)}'
