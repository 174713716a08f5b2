"""Comparisons that a suite names before its runs, and what they show.

Holm's correction is over these alone; whatever else a report compares is
exploratory.
"""

from pathlib import Path
from typing import Annotated, Any, Collection, List, NamedTuple, Optional, Tuple

from ...extras import needs
from ...options import Range
from ..markup import markdown as escaped
from .arm_results import LEVEL, by_seed, interval, paired, seen_and_needed
from .arm_statistics import ArmComparison, holm
from .frames import p_text
from .runs import RECORD
from .suite_file import FieldReader
from .table import keep, read_kept

with needs('lab'):
    import pandas as pd

#: Below a benchmark's folder.
FILE = 'primary.csv'
#: In points; the least is one image of ten thousand.
SMALLEST_GAIN = 0.01
Gain = Annotated[float, Range(SMALLEST_GAIN, 100)]


class Primary(NamedTuple):
    """What a suite asks."""

    pairs: Tuple[Tuple[str, str], ...] = ()  # arm, and what it is compared to
    #: In points, that the suite's seeds are to show; 0: nothing is asked.
    gain: float = 0.0


def read_primary(content: Any, arms: Collection[str]) -> Primary:
    """The field ``primary`` of a suite.

    Args:
        content (Any): Its value: ``gain`` and ``comparisons``, pairs of arms.
        arms (Collection[str]): Names of the arms that the suite trains.

    Raises:
        ValueError: If a field is missing or wrong, or an arm is not trained.
    """
    where = 'suite.primary'
    read = FieldReader(where, content, ('gain', 'comparisons'))
    gain = float(read.get('gain', Gain))
    pairs = []
    for i, pair in enumerate(read.get('comparisons', list)):
        two = isinstance(pair, list) and len(pair) == 2
        is_known = two and all(isinstance(a, str) and a in arms for a in pair)
        if not is_known or pair[0] == pair[1] or tuple(pair) in pairs:
            raise ValueError(
                f'{where}.comparisons[{i}]={pair!r} must be two different '
                f'arms among {sorted(arms)}, and stand there once'
            )
        pairs.append((pair[0], pair[1]))
    if not pairs:
        raise ValueError(
            f'{where}.comparisons=[] is empty; name pairs of arms, or leave '
            'suite.primary out'
        )
    return Primary(tuple(pairs), gain)


def write_primary(primary: Primary, out: Path) -> None:
    """Keep the comparisons in a benchmark's folder, for its report."""
    keep([(*pair, primary.gain) for pair in primary.pairs], out / FILE)


def load_primary(out: Path) -> Primary:
    """What was asked; nothing in folders of earlier versions.

    Raises:
        ValueError: If the file is no table of comparisons.
    """
    table = read_kept(out / FILE)
    if table is None or table.empty:
        return Primary()
    gains = pd.to_numeric(table.gain, errors='coerce')
    if not gains.between(0, 100, inclusive='right').all():
        raise ValueError(
            f'{out / FILE} asks for the gains {list(table.gain)}, which are '
            'no points of top-1; write it again with tools/benchmark.py'
        )
    pairs = tuple(zip(table.arm.astype(str), table.to.astype(str)))
    return Primary(pairs, float(gains.iloc[0]))


def check_primary(primary: Primary, out: Path) -> None:
    """Raise unless the comparisons were named before the runs.

    All runs of the folder count, those that the suite no longer has as well:
    it may have them again.

    Args:
        primary (Primary): Of the suite.
        out (Path): A benchmark's folder.

    Raises:
        ValueError: If there are some, and what was named is not this.
    """
    named = load_primary(out)
    finished = sum(1 for _ in out.glob(f'*/*/*/{RECORD}'))
    if finished and primary != named:
        raise ValueError(
            f'suite.primary={primary.pairs} with gain={primary.gain:g} is not '
            f'what was named before the {finished} finished runs in '
            f'{str(out)!r}: {named.pairs}, {named.gain:g}; ask it of new seeds '
            'in another folder'
        )


def is_whole(primary: Primary, plan: pd.DataFrame, table: pd.DataFrame) -> bool:
    """Whether comparisons were named, and all their planned runs are there."""
    arms = [arm for pair in primary.pairs for arm in pair]
    counts = [runs.arm.isin(arms).sum() for runs in (plan, table)]
    return bool(arms) and counts[0] == counts[1]


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
    none = pd.Series(dtype=float)
    comparisons = {
        f'{arm} less {other}': paired(
            series.get(arm, none), series.get(other, none)
        )
        for arm, other in primary.pairs
    }
    corrected = holm(
        {
            name: 1.0 if c is None else c.permutation
            for name, c in comparisons.items()
        }
    )
    alpha = LEVEL / max(len(comparisons), 1)
    rows, lines = [], []
    for name, c in comparisons.items():
        row = dict(comparison=name, n='0', difference='')
        row |= {'permutation p': '', 'Holm p': '', 'sd': '', 'seen': ''}
        row[f'seeds for +{primary.gain:g}'] = ''
        if c is not None:
            row |= {'n': str(c.n), 'difference': interval(c)}
            row |= {'permutation p': p_text(c.permutation)}
            row |= {'Holm p': p_text(corrected[name]), 'sd': f'{c.sd:.2f}'}
            if c.sd > 0:
                seen, needed = seen_and_needed(c, primary.gain, alpha)
                row |= {'seen': seen, f'seeds for +{primary.gain:g}': needed}
        rows.append(row)
        lines.append(f'**{escaped(name)}**: {_words(c, corrected[name])}.')
    return pd.DataFrame(rows), lines


def _words(comparison: Optional[ArmComparison], corrected: float) -> str:
    if comparison is None:
        return 'fewer than 2 pairs: nothing can be said'
    if comparison.verdict == 'no effect here' or corrected >= LEVEL:
        return f'no effect is shown, {interval(comparison)}'
    return f'{comparison.verdict}, {interval(comparison)}'
