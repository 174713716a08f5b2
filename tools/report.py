"""Turn a benchmark's results into a page: tables, words and figures.

Reads ``results.csv`` of ``tools/benchmark.py``, refuses runs that are no pairs,
and writes a new folder: ``README.md``, LaTeX tables, figures, runs, behaviour.
Every sentence on what is shown is computed. Such a folder can be read again:

    python tools/report.py docs/results/rivals work_dirs/pages/rivals
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Dict, List, Optional, Sequence

from rich.console import Console

from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path
from u1_plugin.lab.benchmark import figures
from u1_plugin.lab.benchmark.anchors import anchor_line, load_anchors
from u1_plugin.lab.benchmark.arm_results import (
    LEVEL,
    ArmResult,
    arm_results,
    baseline_of,
    by_seed,
)
from u1_plugin.lab.benchmark.behaviour_runs import (
    check_measured,
    read_behaviour,
)
from u1_plugin.lab.benchmark.frames import (
    ablation_lines,
    arms_frame,
    behaviour_frame,
    conclusions,
    floor_line,
    markdown,
    others_frame,
    processors_line,
    seeds_frame,
    tiers,
    versions_line,
)
from u1_plugin.lab.benchmark.page import PAGE
from u1_plugin.lab.benchmark.page_data import (
    behaviour_folder,
    commands_of,
    keep_data,
)
from u1_plugin.lab.benchmark.primary import (
    SMALLEST_GAIN,
    Primary,
    is_whole,
    load_primary,
    primary_frame,
)
from u1_plugin.lab.benchmark.results import read_plan, read_runs
from u1_plugin.lab.benchmark.table import check_pairs
from u1_plugin.lab.command import number
from u1_plugin.lab.markup import code, fence, file_name, latex, link, terminal
from u1_plugin.lab.markup import markdown as escaped
from u1_plugin.options import Range

with needs('lab'):
    import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


def _save_table(frame: pd.DataFrame, file: Path) -> str:
    """Write a table in LaTeX; return it in Markdown."""
    safe = frame.map(latex).rename(columns=latex)
    safe.to_latex(file, index=False, escape=False)
    return markdown(frame)


def _arms_part(
    main: pd.DataFrame,
    arms: Sequence[str],
    controls: Sequence[str],
    gain: float,
    out: Path,
) -> dict:
    """What the arms with all seeds show on the test split."""
    table = main[main.arm.isin(arms)]
    name = file_name(table.config.iloc[0])
    results = arm_results(table, 'test_top1')
    frame = arms_frame(results, 'top-1 %')
    others = others_frame(table, results, 'test_top1')
    seeds = seeds_frame(results, gain)
    curves = figures.has_curves(table)
    _draw(table, results, curves, out)
    return dict(
        curves=curves,
        conclusions=conclusions(main, results, 'test_top1', controls),
        arms=_save_table(frame, out / f'{name}-arms.tex'),
        floor=floor_line(results),
        others='' if others.empty else markdown(others),
        seeds='' if seeds.empty else markdown(seeds),
    )


def _exploratory_part(
    table: pd.DataFrame,
    arms: Sequence[str],
    seeds: Sequence[int],
    controls: Sequence[str],
    out: Path,
) -> dict:
    """What arms with fewer seeds show, beside the baseline of these seeds."""
    chosen = table.arm.isin(arms) | (table.role == 'baseline')
    few = table[chosen & table.seed.isin(seeds)]
    results = arm_results(few, 'test_top1')
    name = file_name(table.config.iloc[0])
    frame = arms_frame(results, 'top-1 %')
    return dict(
        few=_save_table(frame, out / f'{name}-exploratory.tex'),
        few_lines=conclusions(table, results, 'test_top1', controls),
        few_floor=floor_line(results),
    )


def _ablations_part(table: pd.DataFrame, out: Path) -> dict:
    """What the choices show on the validation split.

    Planes and class angles are choices as well: the arms that vary them stand
    beside the ablations, on the ablations' seeds.
    """
    name = file_name(table.config.iloc[0])
    seeds = table[table.role == 'ablation'].seed.unique()
    chosen = table[(table.role != 'rival') & table.seed.isin(seeds)]
    tried = arm_results(chosen, 'val_top1')
    frame = arms_frame(tried, 'validation top-1 %')
    return dict(
        ablations=_save_table(frame, out / f'{name}-ablations.tex'),
        ablation_lines=ablation_lines(tried),
        ablation_floor=floor_line(tried),
    )


def make_part(
    table: pd.DataFrame,
    behaviour: Optional[pd.DataFrame],
    plan: pd.DataFrame,
    gain: float,
    primary: Primary,
    anchors: Dict[str, float],
    out: Path,
) -> dict:
    """Tables and figures of one config.

    Args:
        table (pd.DataFrame): Its runs.
        behaviour (pd.DataFrame, optional): Of ``tools/behaviour.py``.
        plan (pd.DataFrame): Runs, finished or not. A gain must be shown
            against every control among them.
        gain (float): To be seen, in points.
        primary (Primary): Comparisons that were named before the runs.
        anchors (Dict[str, float]): Published top-1 by config, per cent.
        out (Path): Where figures and LaTeX tables go.
    """
    config = table.config.iloc[0]
    main = table[table.role != 'ablation']
    name = file_name(config)
    part: Dict[str, Any] = dict(title=escaped(config), address=link(name))
    if config in anchors:
        part.update(anchor=anchor_line(main, anchors[config]))
    elif primary.pairs:
        frame, lines = primary_frame(main, primary, 'test_top1')
        part.update(primary=markdown(frame), primary_lines=lines)
    full, few = tiers(plan, config)
    planned = plan[plan.config == config]
    controls = planned[planned.role == 'control'].arm.unique()
    if (main[main.arm.isin(full)].role != 'baseline').any():
        part.update(_arms_part(main, full, controls, gain, out))
    if main.arm.isin(few).any():
        seeds = planned[planned.arm.isin(few)].seed.unique()
        part.update(_exploratory_part(main, few, seeds, controls, out))
    if (table.role == 'ablation').any():
        part.update(_ablations_part(table, out))
    if behaviour is not None:
        rows = behaviour[behaviour.config == config]
        frame, lines = behaviour_frame(rows, baseline_of(main))
        if lines:  # a config that was measured
            part.update(
                behaviour=_save_table(frame, out / f'{name}-behaviour.tex'),
                behaviour_lines=lines,
            )
    return part


def _draw(
    table: pd.DataFrame,
    results: Sequence[ArmResult],
    curves: bool,
    out: Path,
) -> None:
    config = table.config.iloc[0]
    series = by_seed(table, 'test_top1')
    control = series[results[0].arm]
    pairs = {
        arm: (values - control).dropna().to_numpy()
        for arm, values in series.items()
    }
    unit = 'test top-1, points'
    drawn = dict(
        differences=figures.differences(results, pairs, unit, config),
        cost=figures.gain_and_cost(results, unit, config),
    )
    if curves:
        drawn['curves'] = figures.learning_curves(table, results, config)
    for name, figure in drawn.items():
        figure.savefig(out / f'{file_name(config)}-{name}.png', dpi=110)


def write_report(
    options: argparse.Namespace,
    table: pd.DataFrame,
    behaviour: Optional[pd.DataFrame],
    commands: List[str],
) -> None:
    """Write the report's folder; raise ValueError for runs that do not pair."""
    check_pairs(table)
    plan = read_plan(options.results, table)
    primary = load_primary(options.results)
    anchors = load_anchors(options.results)
    with new_folder(options.out) as out:
        parts = [
            make_part(
                runs, behaviour, plan, options.gain, primary, anchors, out
            )
            for _, runs in table.groupby('config', sort=False)
        ]
        page = PAGE.render(
            suite=code(table.suite.iloc[0]),
            runs=len(table),
            planned=len(plan),
            primary_is_whole=is_whole(primary, plan, table),
            hardware=escaped(' and '.join(sorted(set(table.hardware)))),
            versions=escaped(versions_line(table)),
            processors=processors_line(table, ['config', 'seed']),
            baseline=code(baseline_of(table)),
            confidence=95,
            level=LEVEL,
            parts=parts,
            gain=options.gain,
            fence=fence('\n'.join(commands)),
            commands='\n'.join(commands),
        )
        (out / 'README.md').write_text(page, encoding='utf-8')
        made = commands[:-1]
        keep_data(table, made, options.results, options.behaviour, out)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Turn a benchmark's results into a page"
    )
    parser.add_argument(
        'results', type=Path, help='folder of results.csv, or of a report'
    )
    parser.add_argument('out', type=new_path, help='a new folder')
    parser.add_argument(
        '--behaviour', type=Path, help='folder made by tools/behaviour.py'
    )
    parser.add_argument(
        '--gain',
        type=number(Annotated[float, Range(SMALLEST_GAIN)]),
        default=0.2,
        help='to be seen, in points; the least is one image of ten thousand',
    )
    options = parser.parse_args()
    behaviour = None
    try:
        table = read_runs(options.results)
        folder = behaviour_folder(options.results, options.behaviour)
        if folder:
            behaviour = read_behaviour(folder)
            check_measured(behaviour, table)
        suite = table.suite.iloc[0]
        commands = commands_of(options.results, suite, folder, ROOT)
        options.behaviour = folder
    except (OSError, ValueError) as error:
        parser.error(str(error))
    commands.append(shlex.join(['python', 'tools/report.py', *sys.argv[1:]]))
    try:
        write_report(options, table, behaviour, commands)
    except ValueError as error:  # runs that are no pairs, or not there yet
        raise SystemExit(f'{options.results}: {error}') from error
    Console().print(f'Report: {terminal(options.out / "README.md")}')


if __name__ == '__main__':
    main()
