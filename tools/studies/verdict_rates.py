"""How often each verdict of the analysis errs, on data of a known truth.

Judges many simulated data sets of every scenario as `analyze_bottleneck.py`
would, with the default least effects and with others, and writes a new folder
with `rates.md` and `rates.csv`.

    python tools/studies/verdict_rates.py work_dirs/rates
"""

import argparse
from pathlib import Path
from typing import Dict, List, Optional

from rich.console import Console
from rich.progress import track

from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path
from u1_plugin.lab.analysis.error_rates import Rate, Scenario, rate, scenarios
from u1_plugin.lab.analysis.verdicts import (
    MIN_CORRELATION,
    MIN_HEIGHT,
    MIN_SHARE,
)
from u1_plugin.lab.benchmark.table import save_csv
from u1_plugin.lab.command import at_least, number
from u1_plugin.lab.markup import markdown, terminal
from u1_plugin.options import Seed

with needs('lab'):
    import pandas as pd

#: Least effects beside the default, by claim: none, and others.
LEASTS: Dict[str, List[float]] = {
    'C1': [1e-9],
    'C2': [1e-9, 0.02, 0.05, 0.2],
    'C3': [1e-9, 0.005, 0.02],
    'planes agree': [1e-9, 0.05, 0.2],
}
#: What the defaults are, for readers.
DEFAULTS = {
    'C1': f'{MIN_SHARE}, symmetry 0.5',
    'C2': f'{MIN_HEIGHT}',
    'C3': f'{MIN_SHARE}',
    'planes agree': f'{MIN_CORRELATION}',
}


def row_of(scenario: Scenario, least: Optional[float], result: Rate) -> dict:
    """One line of the table; shares in per cent of the runs."""
    name = DEFAULTS[scenario.claim]
    if least is not None:
        name = 'none' if least < 1e-6 else f'{least:g}'
    undecided = 1 - result.supported - result.refuted
    return {
        'claim': scenario.claim,
        'data': scenario.truth,
        'holds': 'yes' if scenario.holds else 'no',
        'n': scenario.n,
        'least effect': name,
        'supported': round(100 * result.supported, 1),
        'not supported': round(100 * result.refuted, 1),
        'undecided': round(100 * undecided, 1),
        'wrong': round(100 * result.wrong, 1),
    }


#: Columns of the first table of the page.
_SHARES = ('supported', 'not supported', 'undecided')


def page(rows: List[dict]) -> str:
    """Two tables of Markdown: the verdicts, and other least effects.

    Args:
        rows (List[dict]): Of :func:`row_of`, the default of each scenario
            first and without a least effect second.
    """
    groups: List[List[dict]] = []
    for row in rows:
        if row['least effect'] == DEFAULTS[row['claim']]:
            groups.append([])
        groups[-1].append(row)
    head = ['claim', 'data', 'holds', 'n', *_SHARES, 'supported without']
    verdicts = [
        [
            *(group[0][name] for name in head[:4]),
            *(f'{group[0][name]:.1f}' for name in _SHARES),
            f'{group[1]["supported"]:.1f}',
        ]
        for group in groups
    ]
    others = [
        [
            *(group[0][name] for name in head[:4]),
            ', '.join(
                f'{row["least effect"]}: {row["supported"]:.1f}'
                for row in group
            ),
        ]
        for group in groups
    ]
    return '\n'.join(
        [
            *_table(head, verdicts),
            '',
            'Supported with other least effects, the default first:',
            '',
            *_table([*head[:4], 'least effect: supported'], others),
            '',
        ]
    )


def _table(head: List[str], rows: List[list]) -> List[str]:
    texts = ('claim', 'data', 'holds', 'least effect: supported')
    lines = [
        f'| {" | ".join(head)} |',
        '|' + ''.join('---|' if c in texts else '---:|' for c in head),
    ]
    for row in rows:
        lines.append(f'| {" | ".join(markdown(cell) for cell in row)} |')
    return lines


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('out', type=new_path, help='a new folder')
    add(
        '--runs',
        type=at_least(1),
        default=200,
        help='data sets of each scenario',
    )
    add(
        '--permutations',
        type=at_least(99),
        default=199,
        help='of every such test',
    )
    add('--seed', type=number(Seed), default=0)
    add('--claims', nargs='+', choices=list(LEASTS), default=list(LEASTS))
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    selected = [
        s for s in scenarios(args.permutations) if s.claim in args.claims
    ]
    console, rows = Console(), []
    with new_folder(args.out) as part:
        for scenario in track(
            selected, 'scenarios', console=console, transient=True
        ):
            leasts = LEASTS[scenario.claim]
            rates = rate(scenario, args.runs, args.seed, leasts)
            rows += [row_of(scenario, *item) for item in rates.items()]
        (part / 'rates.md').write_text(page(rows), encoding='utf-8')
        save_csv(pd.DataFrame(rows), part / 'rates.csv')
    console.print(f'Table: {terminal(Path(args.out) / "rates.md")}')


if __name__ == '__main__':
    main()
