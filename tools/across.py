"""Compare arms over the data sets of several benchmarks.

    python tools/across.py work_dirs/benchmark/pilot docs/results/quick OUT

Reads ``results.csv`` of ``tools/benchmark.py``, or ``runs.csv`` of a report,
refuses runs that are no pairs, and writes a new folder: ``README.md``,
``forest.png`` and ``across.csv``. What is compared is what the suites named
before their runs (``primary.csv``), unless other comparisons are given.
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

from rich.console import Console

from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path
from u1_plugin.lab.benchmark.across import Across, pool
from u1_plugin.lab.benchmark.across_page import PageSection, csv_table, render
from u1_plugin.lab.benchmark.across_runs import (
    Pair,
    Results,
    make_set,
    read_folder,
    runs_of,
)
from u1_plugin.lab.benchmark.forest import forest
from u1_plugin.lab.benchmark.frames import processors_line, versions_line
from u1_plugin.lab.benchmark.primary import load_primary
from u1_plugin.lab.benchmark.table import save_csv
from u1_plugin.lab.markup import code, terminal
from u1_plugin.lab.markup import markdown as escaped

with needs('lab'):
    import pandas as pd

#: What tells a run from all others.
_RUN = ['results', 'config', 'arm', 'seed']


def arms_of(text: str) -> Pair:
    """For argparse: ``ARM:REFERENCE``."""
    arm, _, reference = text.partition(':')
    if not arm or not reference or arm == reference:
        raise argparse.ArgumentTypeError(
            f'{text!r} must be ARM:REFERENCE, two different arms, such as '
            'u1-image:one-hot'
        )
    return arm, reference


def primary_pairs(results: Sequence[Results]) -> Dict[Pair, List[str]]:
    """What the suites named before their runs, and in which folders.

    A suite's own file may have been changed since; what ``benchmark.py`` wrote
    beside the runs has not.
    """
    pairs: Dict[Pair, List[str]] = {}
    for one in results:
        for pair in load_primary(one.folder).pairs:
            pairs.setdefault(pair, []).append(str(one.folder))
    return pairs


def standing(pair: Pair, runs: pd.DataFrame, named: Sequence[str]) -> str:
    """Whether a comparison was named before its runs."""
    is_named = runs.results.isin(named)
    primary, others = (
        ' and '.join(map(code, runs[rows].suite.unique()))
        for rows in (is_named, ~is_named)
    )
    if not primary:
        return 'Exploratory: no suite names it as primary.'
    rest = f'; exploratory in {others}' if others else ''
    return f'A primary comparison of {primary}{rest}.'


def compare_all(
    results: Sequence[Results], chosen: Dict[Pair, List[str]]
) -> Tuple[List[PageSection], pd.DataFrame]:
    """Every comparison, and the runs that they rest on."""
    parts, used = [], []
    for pair, named in chosen.items():
        by_config, left = runs_of(results, pair)
        if not by_config:
            arms = sorted({arm for one in results for arm in one.table.arm})
            raise ValueError(
                f'{":".join(pair)}: no RESULTS have test top-1 of both arms on '
                f'one config; there are {", ".join(arms)}'
            )
        sets = [make_set(name, runs, pair) for name, runs in by_config.items()]
        runs = pd.concat(by_config.values())
        used.append(runs)
        across = Across(*pair, sets, pool(sets))
        parts.append(PageSection(across, standing(pair, runs, named), left))
    return parts, pd.concat(used).drop_duplicates(_RUN)


def warnings_of(results: Sequence[Results], used: pd.DataFrame) -> List[str]:
    """What does not go together, and what is not finished, in Markdown."""
    lines = []
    for one in results:
        finished, planned = (
            runs.arm.isin(used.arm).sum() for runs in (one.table, one.plan)
        )
        if finished < planned:
            lines.append(
                f'Incomplete: {finished} of {planned} planned runs of these '
                f'arms in {code(one.suite)} are finished, and nothing here is '
                'final.'
            )
    if used.hardware.nunique() > 1:
        lines.append(
            'The runs are of different processors: '
            f'{escaped("; ".join(sorted(used.hardware.unique())))}.'
        )
    mixed = processors_line(used, ['results', 'config', 'seed'])
    if mixed:
        lines.append(mixed)
    if used.versions.nunique() > 1:
        several = versions_line(used).split(', ')
        several = [text for text in several if ' and ' in text]
        what = ', '.join(several) or 'not all name the same packages'
        lines.append(f'The runs are of different versions: {escaped(what)}.')
    return lines


def results_frame(results: Sequence[Results]) -> pd.DataFrame:
    """What was read, a row a folder."""
    return pd.DataFrame(
        {
            'results': str(one.folder),
            'suite': one.suite,
            'runs': f'{len(one.table):,} of {len(one.plan):,}',
            'hardware': ' and '.join(sorted(set(one.table.hardware))),
            'versions': versions_line(one.table),
        }
        for one in results
    )


def parse_args() -> argparse.Namespace:
    """Read the command line and the folders, and compute the comparisons.

    The options get ``chosen`` (the comparisons, and the folders that named
    each before its runs), ``parts`` and ``used`` (see :func:`compare_all`).
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        'results', type=Path, nargs='+', help='folders of results.csv, runs.csv'
    )
    parser.add_argument('out', type=new_path, help='a new folder')
    parser.add_argument(
        '--comparisons',
        type=arms_of,
        nargs='+',
        default=[],
        metavar='ARM:REFERENCE',
        help='such as u1-image:one-hot; in place of what the results name',
    )
    options = parser.parse_args()
    try:
        options.results = [read_folder(folder) for folder in options.results]
        named = primary_pairs(options.results)
        pairs = options.comparisons or named
        options.chosen = {pair: named.get(pair, []) for pair in pairs}
        if not options.chosen:
            raise ValueError(
                'the results name no comparison; give --comparisons '
                'ARM:REFERENCE'
            )
        options.parts, options.used = compare_all(
            options.results, options.chosen
        )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return options


def main() -> None:
    options = parse_args()
    comparisons = [part.across for part in options.parts]
    with new_folder(options.out) as out:
        page = render(
            options.parts,
            results_frame(options.results),
            warnings_of(options.results, options.used),
            shlex.join(['python', 'tools/across.py', *sys.argv[1:]]),
        )
        (out / 'README.md').write_text(page, encoding='utf-8')
        save_csv(csv_table(comparisons), out / 'across.csv')
        forest(comparisons).savefig(out / 'forest.png', dpi=110)
    Console().print(f'Page: {terminal(options.out / "README.md")}')


if __name__ == '__main__':
    main()
