"""Measure the claims C1 to C3 in every bottleneck of a network.

One pass over the images measures every bottleneck layer: where its energy
lies (C1), whether the radial profile is a Sombrero (C2), and whether each
class has an angle of its own (C3). OUT gets `report.html`, which opens from
disk without a network connection, `numbers.json`, and the planes and class
angles that a U(1) config reads.

    python tools/analyze_bottleneck.py CONFIG CHECKPOINT
    python tools/analyze_bottleneck.py timm:resnet50 --data my/photos

With a second network, the report shows both side by side and tells the
difference of every statistic, paired over the images:

    python tools/analyze_bottleneck.py CONFIG CHECKPOINT \\
        --against OTHER_CONFIG OTHER_CHECKPOINT
    python tools/analyze_bottleneck.py CONFIG CHECKPOINT --against-untrained
"""

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table

from u1_plugin.files import check_new, new_folder
from u1_plugin.geometry import ORTHANT_MAPS
from u1_plugin.lab.analysis.analysis_run import (
    Runner,
    describe,
    findings_of,
    images_for,
    layers_for,
    ready,
    run_controls,
)
from u1_plugin.lab.analysis.built_in_images import BUILT_IN, image_folder
from u1_plugin.lab.analysis.comparison import ALIKE, compare
from u1_plugin.lab.analysis.drawing import show_estimate
from u1_plugin.lab.analysis.html_report import CLAIMS, write_report
from u1_plugin.lab.analysis.judging import judge
from u1_plugin.lab.analysis.paired_statistics import STATISTICS
from u1_plugin.lab.analysis.report_numbers import Analysis, verdict_table
from u1_plugin.lab.analysis.second_network import (
    second_network,
    second_survey,
    tell_apart,
)
from u1_plugin.lab.analysis.sources import PADDINGS
from u1_plugin.lab.analysis.survey import tests_of
from u1_plugin.lab.command import at_least, number, told
from u1_plugin.lab.markup import file_name, terminal
from u1_plugin.measure.estimate import Chance


def parse_args() -> argparse.Namespace:
    """Read the command line and check its options against each other.

    The options get a default for ``out``, and in ``second`` what is compared,
    or None.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add('source', metavar='CONFIG|timm:NAME')
    add('checkpoint', nargs='?', help='of the config, of timm, or TIMMBackbone')
    add(
        '--data',
        default='config',
        metavar=f'FOLDER|{"|".join(BUILT_IN)}',
        help="images, one folder a class; default: the config's test images",
    )
    add('--out', type=Path, help='a new folder')
    add('--layers', nargs='+', help='names of modules; default: bottlenecks')
    add('--token-grid', help="for tokens, such as 'backbone.patch_embed'")
    add('--orthant', default='relu', choices=ORTHANT_MAPS)
    add('--size', type=at_least(1), help='resize images to this many pixels')
    add('--batch-size', type=at_least(1), default=32)
    add(
        '--workers',
        type=at_least(0),
        default=0,
        help='processes that load images',
    )
    add('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    add(
        '--untrained',
        type=int,
        nargs='?',
        const=0,
        metavar='SEED',
        help='analyse the network with initial weights',
    )
    add('--padding', choices=PADDINGS, help='in place of zeros')
    add(
        '--control-images',
        type=at_least(0),
        default=200,
        help='of the controls that run the network again; 0 leaves them out',
    )
    add(
        '--permutations',
        type=at_least(99),
        default=9999,
        help='of every such test',
    )
    add('--alpha', type=number(Chance), default=0.05, help='of the verdicts')
    add('--cfg-options', nargs='+', action=DictAction)
    against = parser.add_argument_group('a second network, side by side')
    add = against.add_argument
    add(
        '--against',
        nargs='+',
        metavar=('CONFIG|timm:NAME', 'CHECKPOINT'),
        help='another network; a checkpoint of its own may follow',
    )
    add('--against-checkpoint', metavar='FILE', help='of --against or CONFIG')
    add(
        '--against-untrained',
        type=int,
        nargs='?',
        const=0,
        metavar='SEED',
        help='initial weights of --against or CONFIG',
    )
    add('--against-layers', nargs='+', help='default: as --layers')
    add(
        '--against-cfg-options',
        nargs='+',
        action=DictAction,
        help='of --against; without it, beside --cfg-options',
    )
    add('--resamples', type=at_least(20), default=200, help='of the images')
    args = parser.parse_args()
    if args.untrained is not None and args.checkpoint is not None:
        parser.error(
            f'--untrained analyses initial weights, and CHECKPOINT='
            f'{args.checkpoint} would go unread; give one of them'
        )
    if args.out is None:
        args.out = default_folder(args)
    try:
        check_new(args.out, '--out', parents=True)
        args.second = second_network(args)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if args.control_images in (1, 2):
        parser.error('--control-images must be 0 or at least 3')
    return args


def default_folder(args: argparse.Namespace) -> Path:
    """Named after the network and the images."""
    data = Path(args.data).name
    name = Path(args.source.replace(':', '-')).stem
    twin = '' if args.untrained is None else '-untrained'
    return Path('work_dirs/analysis') / file_name(f'{name}{twin}-{data}')


def show(analysis: Analysis, out: Path, console: Console) -> None:
    """Print the verdicts, what differs from a second network, and the path."""
    title = terminal(analysis.facts['network'])
    table = Table('layer', *CLAIMS, title=title)
    for row in verdict_table(analysis.findings):
        verdicts = [
            row['claims'][claim]['verdict']
            if claim in row['claims']
            else 'undecided'
            for claim in CLAIMS
        ]
        table.add_row(terminal(row['layer']), *verdicts)
    console.print(table)
    if analysis.comparison is not None:
        console.print(difference_table(analysis))
        if not any(r.is_shown for r in analysis.comparison.differences):
            console.print(f'{ALIKE} in any statistic')
    console.print(f'Report: {terminal(out / "report.html")}')


def difference_table(analysis: Analysis) -> Table:
    """What differs from the second network, as it is shown."""
    comparison = analysis.comparison
    title = terminal('{} less {}'.format(*comparison.titles(analysis.facts)))
    table = Table('layer', 'statistic', 'difference', title=title)
    for row in comparison.differences:
        if row.is_shown:
            table.add_row(
                terminal(row.first_layer),
                STATISTICS[row.statistic][1],
                f'{show_estimate(row.difference)} {row.verdict}',
            )
    return table


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    network = ready(
        args.source,
        args,
        checkpoint=args.checkpoint,
        seed=args.untrained,
        options=args.cfg_options,
    )
    with ExitStack() as stack:
        data = args.data
        if data in BUILT_IN:
            data = str(stack.enter_context(image_folder(data)))
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        out = stack.enter_context(new_folder(args.out, '--out'))
        dataset, classes, batch = images_for(network, args, data)
        layers = layers_for(network, batch, args, args.layers)
        resamples = args.resamples if args.second else 0
        runner = Runner(args, dataset, layers, classes, scratch, resamples)
        survey = runner.run(network, 'all layers')
        facts = describe(args, network, dataset, classes, batch['inputs'][0])
        comparison = None
        if args.second is not None:
            second_facts, second = second_survey(
                args, data, scratch / 'b', runner
            )
            files = (args.checkpoint, args.second.checkpoint)
            tell_apart(facts, second_facts, files)
            comparison = compare(
                second_facts,
                survey,
                second,
                judge(tests_of(second, args.permutations), args.alpha),
                args.alpha,
                args.resamples,
            )
        analysis = Analysis(
            facts=facts,
            survey=survey,
            controls=run_controls(args, runner, network, survey),
            alpha=args.alpha,
            comparison=comparison,
            **findings_of(args, survey),
        )
        write_report(out, analysis)
    show(analysis, args.out, Console())


if __name__ == '__main__':
    with told():
        main()
