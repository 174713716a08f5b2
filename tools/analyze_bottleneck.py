"""Measure the claims C1 to C3 in every bottleneck of a network.

One pass over the images measures every bottleneck layer: where its energy
lies (C1), whether the radial profile is a Sombrero (C2), and whether each
class has an angle of its own (C3). OUT gets `report.html`, which opens from
disk without a network connection, `numbers.json`, and the planes and class
angles that a U(1) config reads.

    python tools/analyze_bottleneck.py CONFIG CHECKPOINT
    python tools/analyze_bottleneck.py timm:resnet50 --data my/photos
"""

import argparse
import logging
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, List, Tuple

import numpy as np
import torch
from mmengine.config import DictAction
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from u1_plugin.files import check_new, new_folder
from u1_plugin.geometry import ORTHANT_MAPS
from u1_plugin.lab.analysis import controls as control
from u1_plugin.lab.analysis.built_in import BUILT_IN, image_folder
from u1_plugin.lab.analysis.images import (
    class_names,
    make_dataset,
    make_loader,
    remarks,
    subset,
    subset_index,
)
from u1_plugin.lab.analysis.layer import COLOUR
from u1_plugin.lab.analysis.preparation import first_inputs, input_channels
from u1_plugin.lab.analysis.report import (
    CLAIMS,
    Analysis,
    Controls,
    verdict_table,
    write_report,
)
from u1_plugin.lab.analysis.sources import (
    PADDINGS,
    Network,
    load_network,
    set_padding,
)
from u1_plugin.lab.analysis.survey import JUDGED, Survey, survey
from u1_plugin.lab.analysis.verdicts import (
    angle_tests,
    concentration_tests,
    judge,
    sombrero_tests,
)
from u1_plugin.lab.markup import file_name, terminal
from u1_plugin.measure.bottlenecks import find_bottlenecks
from u1_plugin.measure.circular_tests import circular_correlation
from u1_plugin.measure.estimate import Estimate
from u1_plugin.measure.information import class_dependence, permutation_null
from u1_plugin.mm.classifiers import num_classes_of


def parse_args() -> argparse.Namespace:
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
    add('--size', type=int, help='resize images to this many pixels')
    add('--batch-size', type=int, default=32)
    add('--workers', type=int, default=0, help='processes that load images')
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
        type=int,
        default=200,
        help='of the controls that run the network again; 0 leaves them out',
    )
    add('--permutations', type=int, default=9999, help='of every such test')
    add('--alpha', type=float, default=0.05, help='of the verdicts')
    add('--cfg-options', nargs='+', action=DictAction)
    args = parser.parse_args()
    if args.out is None:
        data = Path(args.data).name
        name = Path(args.source.replace(':', '-')).stem
        twin = '' if args.untrained is None else '-untrained'
        name = file_name(f'{name}{twin}-{data}')
        args.out = Path('work_dirs/analysis') / name
    try:
        check_new(args.out, '--out', parents=True)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not 0 < args.alpha < 1:
        parser.error(f'--alpha {args.alpha} must lie between 0 and 1')
    for option, least in (
        ('batch_size', 1),
        ('permutations', 99),
        ('control_images', 0),
    ):
        if getattr(args, option) < least:
            name = option.replace('_', '-')
            parser.error(f'--{name} {getattr(args, option)} must be >= {least}')
    if args.control_images in (1, 2):
        parser.error('--control-images must be 0 or at least 3')
    return args


class Runner:
    """Runs networks over the chosen images and layers.

    Args:
        args (argparse.Namespace): Of the command line.
        dataset: Of MMEngine.
        layers (List[str]): Names of modules.
        classes (List[str], optional): Of the images.
        scratch (Path): An existing folder for stored vectors.
    """

    def __init__(
        self, args, dataset, layers: List[str], classes, scratch: Path
    ):
        self.args, self.dataset = args, dataset
        self.layers, self.scratch = layers, scratch
        self.classes = classes
        self.index = subset_index(len(dataset), args.control_images)
        self._passes = 0

    def run(self, network: Network, title: str, part=False, **more) -> Survey:
        """One pass over all images, or over those of the controls."""
        args, dataset = self.args, self.dataset
        if part:
            dataset = subset(dataset, args.control_images)
        loader = make_loader(dataset, args.batch_size, args.workers)
        self._passes += 1
        folder = self.scratch / str(self._passes)
        folder.mkdir()
        shown = Console().is_terminal
        with Progress(transient=True, disable=not shown) as bar:
            task = bar.add_task(title, total=len(dataset))
            return survey(
                network.model.to(args.device),
                loader,
                self.layers,
                folder,
                self.classes,
                args.orthant,
                args.token_grid,
                progress=lambda done: bar.update(task, completed=done),
                **more,
            )


def run_controls(
    args: argparse.Namespace, runner: Runner, network: Network, found: Survey
) -> Controls:
    """All controls; those that run the network only if images were asked."""
    labelled = found.classes is not None
    layers = found.layers[1:]
    shuffles = [
        control.shuffles_of(layer, found.labels, len(found.classes))
        for layer in (layers if labelled else [])
    ]
    centring = control.centring_of(found)
    if not args.control_images:
        return Controls(centring, shuffles, [], [], [])
    same = runner.run(network, 'controls', part=True, planes=JUDGED)
    variants = control.variants_of(same.layers, 'as analysed', labelled)
    changed = control.changed_networks(
        network,
        seed=0,
        is_untrained=args.untrained is not None,
        padding=args.padding,
    )
    for name, other in changed.items():
        varied = runner.run(other, name, part=True, planes=JUDGED)
        variants += control.variants_of(varied.layers[1:], name, labelled)
    turns = []
    for times in (1, 2, 3):
        turned = runner.run(
            network,
            f'turned by {90 * times}',
            part=True,
            planes=(),
            transform=control.quarter_turn(times),
        )
        turns += control.turns_of(found, turned, 90 * times, runner.index)
    shifted = runner.run(
        network,
        'shifted',
        part=True,
        planes=(),
        transform=control.shift_right,
    )
    shifts = control.shifts_of(found, shifted, runner.index)
    return Controls(centring, shuffles, variants, turns, shifts)


def test_all(args: argparse.Namespace, found: Survey) -> Tuple:
    """Findings, dependence, nulls and agreement of the network's layers."""
    labelled = found.classes is not None
    tests, dependence, nulls = {}, {}, {}
    agreement: Dict[str, Estimate] = {}
    for layer in found.layers[1:]:
        own = concentration_tests(layer.energy) + sombrero_tests(layer.energy)
        if labelled:
            planes = {
                name: layer.planes[plane] for plane, name in JUDGED.items()
            }
            own += angle_tests(planes, args.permutations)
            agreement[layer.name] = circular_correlation(
                *(summary.mean for summary in planes.values()),
                args.permutations,
            )
            tables = {p: s.table for p, s in layer.planes.items()}
            dependence[layer.name] = {
                plane: class_dependence(table, 999)
                for plane, table in tables.items()
            }
            rng = np.random.default_rng(0)
            nulls[layer.name] = {
                plane: permutation_null(table, 199, rng)[:, 0]
                for plane, table in tables.items()
            }
        tests[layer.name] = own
    return judge(tests, args.alpha), dependence, nulls, agreement


def describe(args, network: Network, dataset, classes, image) -> Dict[str, str]:
    """The head of the report."""
    labels = f'{len(classes)} classes' if classes else 'no labels'
    note = f' ({BUILT_IN[args.data]})' if args.data in BUILT_IN else ''
    note += ''.join(f'; {remark}' for remark in remarks(dataset))
    channels, height, width = image.shape
    hue = '' if channels >= COLOUR else ': the input image has no hue'
    return dict(
        network=network.name,
        weights=network.weights,
        images=f'{args.data}: {len(dataset)} images, {labels}{note}',
        input=f'{height}×{width} pixels, {channels} channel(s){hue}',
        orthant=f'ρ = {args.orthant}',
        padding=f'{args.padding} in place of zeros' if args.padding else '',
    )


def show(analysis: Analysis, out: Path, console: Console) -> None:
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
    console.print(f'Report: {terminal(out / "report.html")}')


def main() -> None:
    args = parse_args()
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    network = load_network(
        args.source, args.checkpoint, args.untrained, args.cfg_options
    )
    if args.padding:
        set_padding(network.model, args.padding)
    with ExitStack() as stack:
        data = args.data
        if data in BUILT_IN:
            data = str(stack.enter_context(image_folder(data)))
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        out = stack.enter_context(new_folder(args.out, '--out'))
        dataset = make_dataset(
            network.config, data, args.size, input_channels(network.model)
        )
        classes = class_names(dataset, num_classes_of(network.model))
        network.model.to(args.device)
        batch = next(iter(make_loader(subset(dataset, 2), 2)))
        inputs = first_inputs(network.model, batch)
        layers = args.layers or find_bottlenecks(
            network.model, inputs, args.token_grid
        )
        runner = Runner(args, dataset, layers, classes, scratch)
        found = runner.run(network, 'all layers')
        analysis = Analysis(
            describe(args, network, dataset, classes, batch['inputs'][0]),
            found,
            *test_all(args, found),
            run_controls(args, runner, network, found),
            args.alpha,
        )
        write_report(out, analysis)
    show(analysis, args.out, Console())


if __name__ == '__main__':
    main()
