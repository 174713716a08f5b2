"""Turn a benchmark's results into a page: tables, words and figures.

Reads ``results.csv`` of ``tools/benchmark.py``, refuses runs that are no
pairs, and writes a new folder: ``README.md``, LaTeX tables, figures and
``runs.csv``. Every sentence on what is shown is computed.
"""

import argparse
import math
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from rich.console import Console

from u1_plugin.extras import needs
from u1_plugin.files import new_folder, new_path
from u1_plugin.lab.benchmark import figures
from u1_plugin.lab.benchmark.analysis import (
    LEVEL,
    ArmResult,
    arm_results,
    baseline_of,
    by_seed,
)
from u1_plugin.lab.benchmark.frames import (
    ablation_lines,
    arms_frame,
    behaviour_frame,
    conclusions,
    floor_line,
    markdown,
    others_frame,
    seeds_frame,
    versions_line,
)
from u1_plugin.lab.benchmark.table import (
    check_pairs,
    read_csv,
    read_plan,
    read_results,
    save_csv,
)
from u1_plugin.lab.markup import code, fence, file_name, latex, link, terminal
from u1_plugin.lab.markup import markdown as escaped

with needs('lab'):
    import jinja2
    import pandas as pd

_PAGE = jinja2.Template(
    """\
# Benchmark {{ suite }}

{{ runs }} runs on {{ hardware }}; {{ versions }}.
{% if runs < planned -%}
**Incomplete: {{ planned - runs }} of {{ planned }} planned runs are not
finished, and nothing below is final.**
{% endif -%}
Top-1 of the last epoch, per cent. Arms are paired by seed: the same
initial weights and order of the samples, checked by their hashes. Differences
are to {{ baseline }}: mean of the pairs with a {{ confidence }} % bootstrap
interval (BCa), Wilcoxon's signed-rank test, the sign-flip permutation test of
the mean, and Holm's correction of the latter over the arms of a table.
An effect is claimed only where the interval excludes 0 and Holm's p is below
{{ level }}; a gain is U(1)'s only where the arm beats every control as well.
{% for part in parts %}
## {{ part.title }}
{% if part.arms %}
{% for line in part.conclusions -%}
- {{ line }}
{% endfor %}
{{ part.arms }}

CPU and memory: a run's processor time and peak memory over the baseline's of
the same seed; median of the pairs, and for the time its quartiles. The machine
was shared with other work
{%- if 'u1-zero' in part.arms %}: u1-zero trains the very same network, and
what it differs by is noise{% endif %}.
{{ part.floor }}

![differences]({{ part.address }}-differences.png)

### U(1) against controls and rivals, on the test split

Difference of the column's arm to the row's, with its interval (uncorrected).

{{ part.others }}

![learning curves]({{ part.address }}-curves.png)

![gain and cost]({{ part.address }}-cost.png)

### How many seeds a gain needs

Standard deviation of the paired differences; the smallest true gain that the
seeds of this table show with a chance of 80 % (two-sided paired t test at 5 %
over the number of compared arms, which is what Holm asks of the smallest p);
and how many seeds it takes to see +{{ gain }} points.

{{ part.seeds }}
{% endif %}{% if part.ablations %}
### Ablations, on the validation split

The ablations never saw the test split. Differences of validation top-1 to
{{ baseline }}; Holm over this table.

{% for line in part.ablation_lines -%}
- {{ line }}
{% endfor %}
What is best here was chosen by the very values of this table, which flatters
it.

{{ part.ablations }}

{{ part.ablation_floor }}
{% endif %}{% if part.behaviour %}
### Behaviour

Mean over seeds and paired difference to {{ baseline }} with its interval;
Holm's correction over the arms of each quantity.

{% for line in part.behaviour_lines -%}
- {{ line }}
{% endfor %}
{{ part.behaviour }}
{% endif %}{% endfor %}
## Commands

{{ fence }}bash
{{ commands }}
{{ fence }}
"""
)


def _save_table(frame: pd.DataFrame, file: Path) -> str:
    """Write a table in LaTeX; return it in Markdown."""
    safe = frame.map(latex).rename(columns=latex)
    safe.to_latex(file, index=False, escape=False)
    return markdown(frame)


def _arms_part(
    table: pd.DataFrame, controls: Sequence[str], gain: float, out: Path
) -> dict:
    """What the arms show on the test split."""
    name = file_name(table.config.iloc[0])
    results = arm_results(table, 'test_top1')
    frame = arms_frame(results, 'top-1 %')
    _draw(table, results, out)
    return dict(
        conclusions=conclusions(table, results, 'test_top1', controls),
        arms=_save_table(frame, out / f'{name}-arms.tex'),
        floor=floor_line(results),
        others=markdown(others_frame(table, results, 'test_top1')),
        seeds=markdown(seeds_frame(results, gain)),
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
    controls: Sequence[str],
    gain: float,
    out: Path,
) -> dict:
    """Tables and figures of one config.

    Args:
        table (pd.DataFrame): Its runs.
        behaviour (pd.DataFrame, optional): Of ``tools/behaviour.py``.
        controls (Sequence[str]): Planned ones, finished or not.
        gain (float): To be seen, in points.
        out (Path): Where figures and LaTeX tables go.
    """
    config = table.config.iloc[0]
    main = table[table.role != 'ablation']
    name = file_name(config)
    part: Dict[str, Any] = dict(title=escaped(config), address=link(name))
    if (main.role != 'baseline').any():
        part.update(_arms_part(main, controls, gain, out))
    if (table.role == 'ablation').any():
        part.update(_ablations_part(table, out))
    if behaviour is not None:
        own = behaviour[behaviour.config == config]
        frame, lines = behaviour_frame(own, baseline_of(main))
        part.update(
            behaviour=_save_table(frame, out / f'{name}-behaviour.tex'),
            behaviour_lines=lines,
        )
    return part


def _draw(table: pd.DataFrame, results: Sequence[ArmResult], out: Path) -> None:
    config = table.config.iloc[0]
    series = by_seed(table, 'test_top1')
    control = series[results[0].arm]
    pairs = {
        arm: (values - control).dropna().to_numpy()
        for arm, values in series.items()
    }
    unit = 'test top-1, points'
    for name, figure in dict(
        differences=figures.differences(results, pairs, unit, config),
        curves=figures.learning_curves(table, results, config),
        cost=figures.gain_and_cost(results, unit, config),
    ).items():
        figure.savefig(out / f'{file_name(config)}-{name}.png', dpi=110)


def write_report(
    options: argparse.Namespace, table: pd.DataFrame, commands: List[str]
) -> None:
    check_pairs(table)
    plan = read_plan(options.results, table)
    controls = plan[plan.role == 'control'].arm.unique()
    behaviour = None
    if options.behaviour:
        behaviour = read_csv(options.behaviour / 'behaviour.csv')
    with new_folder(options.out) as out:
        parts = [
            make_part(runs, behaviour, controls, options.gain, out)
            for _, runs in table.groupby('config', sort=False)
        ]
        page = _PAGE.render(
            suite=code(table.suite.iloc[0]),
            runs=len(table),
            planned=len(plan),
            hardware=escaped(' and '.join(sorted(set(table.hardware)))),
            versions=escaped(versions_line(table)),
            baseline=code(baseline_of(table)),
            confidence=95,
            level=LEVEL,
            parts=parts,
            gain=options.gain,
            fence=fence('\n'.join(commands)),
            commands='\n'.join(commands),
        )
        (out / 'README.md').write_text(page, encoding='utf-8')
        bulky = ['val_curve', 'versions', 'folder']
        save_csv(table.drop(columns=bulky), out / 'runs.csv')


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Turn a benchmark's results into a page"
    )
    parser.add_argument('results', type=Path, help='folder of results.csv')
    parser.add_argument('out', type=new_path, help='a new folder')
    parser.add_argument(
        '--behaviour', type=Path, help='folder made by tools/behaviour.py'
    )
    parser.add_argument(
        '--gain', type=float, default=0.2, help='to be seen, in points'
    )
    options = parser.parse_args()
    if not 0 < options.gain < math.inf:
        parser.error(f'--gain={options.gain} must be a finite number > 0')
    command = ''
    try:
        table = read_results(options.results)
        if options.behaviour:
            command = (options.behaviour / 'command.txt').read_text().strip()
    except (OSError, ValueError) as error:
        parser.error(str(error))
    suite = f'configs/suites/{table.suite.iloc[0]}.yml'
    words = ['python', 'tools/benchmark.py', suite, '--out']
    commands = [shlex.join([*words, str(options.results)])]
    if command:
        commands.append(command)
    commands.append(shlex.join(['python', 'tools/report.py', *sys.argv[1:]]))
    write_report(options, table, commands)
    Console().print(f'Report: {terminal(options.out / "README.md")}')


if __name__ == '__main__':
    main()
