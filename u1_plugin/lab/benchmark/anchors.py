"""Published accuracies of stock recipes, where a wrong baseline shows.

A comparison is worth as much as its baseline. An anchor is a recipe that others
have published with its accuracy; a suite trains it once, unchanged.
"""

from pathlib import Path
from typing import Dict, Tuple

from ...extras import needs
from .suite import SuiteEntry
from .table import keep, read_kept

with needs('lab'):
    import pandas as pd

#: Below a benchmark's folder.
FILE = 'anchors.csv'


def write_anchors(anchors: Tuple[SuiteEntry, ...], out: Path) -> None:
    """Keep what is expected in a benchmark's folder, for its report."""
    keep([(entry.name, entry.expected) for entry in anchors], out / FILE)


def load_anchors(out: Path) -> Dict[str, float]:
    """Top-1 in per cent by config; nothing in folders of earlier versions.

    Raises:
        ValueError: If the file is no table of anchors.
    """
    table = read_kept(out / FILE)
    if table is None:
        return {}
    expected = pd.to_numeric(table.expected, errors='coerce')
    if expected.isna().any():
        raise ValueError(
            f'{out / FILE} expects {list(table.expected)}, which are no '
            'numbers; write it again with tools/benchmark.py'
        )
    return dict(zip(table.config.astype(str), expected.astype(float)))


def anchor_line(runs: pd.DataFrame, expected: float) -> str:
    """What came out beside what was published.

    Args:
        runs (pd.DataFrame): Of the anchor: the baseline's, with ``test_top1``.
        expected (float): Top-1, per cent.
    """
    top1 = runs.test_top1.mean()
    seeds = len(runs)
    return (
        f'An anchor: the unchanged recipe gives {top1:.2f} % with {seeds} '
        f'seed{"s" if seeds != 1 else ""}, and {expected:.2f} % is published: '
        f'{top1 - expected:+.2f} points. Far from it, no comparison of this '
        'suite is worth reading.'
    )
