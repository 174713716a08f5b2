"""One call of the analysis: passes, tests and controls in their order."""

import argparse
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from torch import Tensor

from ...extras import needs
from ...measure.estimate import Estimate
from ...measure.information import class_dependence, permutation_null
from ...mm.classifiers import num_classes_of
from .bottlenecks import find_bottlenecks
from .built_in_images import BUILT_IN
from .controls import Controls, changed_networks, shuffles_of, variants_of
from .images import (
    ImageDataset,
    class_names,
    make_dataset,
    make_loader,
    remarks,
    subset,
    subset_index,
)
from .judging import judge
from .layer import COLOUR
from .moment_controls import (
    centring_of,
    quarter_turn,
    shift_right,
    shifts_of,
    turns_of,
)
from .paired_statistics import layer_collapse
from .preparation import first_inputs, input_channels
from .sources import Network, load_network, set_padding
from .survey import JUDGED, Survey, survey, tests_of

with needs('lab'):
    from rich.console import Console
    from rich.progress import Progress


class Runner:
    """Runs networks over the chosen images and layers."""

    def __init__(
        self,
        args: argparse.Namespace,
        dataset: ImageDataset,
        layers: List[str],
        classes: Optional[List[str]],
        scratch: Path,
        resamples: int = 0,
    ) -> None:
        self.args, self.dataset = args, dataset
        self.resamples = resamples
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
                resamples=0 if part else self.resamples,
                **more,
            )


def run_controls(
    args: argparse.Namespace, runner: Runner, network: Network, result: Survey
) -> Controls:
    """All controls; those that run the network only if images were asked."""
    labelled = result.classes is not None
    layers = result.layers[1:]
    shuffles = [
        shuffles_of(layer, result.labels, len(result.classes))
        for layer in (layers if labelled else [])
    ]
    centring = centring_of(result)
    if not args.control_images:
        return Controls(centring, shuffles, [], [], [])
    same = runner.run(network, 'controls', part=True, planes=JUDGED)
    variants = variants_of(same.layers, 'as analysed', labelled)
    changed = changed_networks(
        network,
        seed=0,
        is_untrained=args.untrained is not None,
        padding=args.padding,
    )
    for name, other in changed.items():
        varied = runner.run(other, name, part=True, planes=JUDGED)
        variants += variants_of(varied.layers[1:], name, labelled)
    turns = []
    for times in (1, 2, 3):
        turned = runner.run(
            network,
            f'turned by {90 * times}',
            part=True,
            planes=(),
            transform=quarter_turn(times),
        )
        turns += turns_of(result, turned, 90 * times, runner.index)
    shifted = runner.run(
        network,
        'shifted',
        part=True,
        planes=(),
        transform=shift_right,
    )
    shifts = shifts_of(result, shifted, runner.index)
    return Controls(centring, shuffles, variants, turns, shifts)


def findings_of(args: argparse.Namespace, result: Survey) -> Dict[str, Any]:
    """What an :class:`~.report_numbers.Analysis` tells of the layers."""
    tests = tests_of(result, args.permutations)
    dependence, nulls, collapse = {}, {}, {}
    agreement: Dict[str, Estimate] = {}
    for layer in result.layers[1:] if result.classes is not None else ():
        estimates = {test.aspect: test.estimate for test in tests[layer.name]}
        agreement[layer.name] = estimates['planes agree']
        tables = {p: s.table for p, s in layer.planes.items()}
        dependence[layer.name] = {
            plane: class_dependence(table, 999)
            for plane, table in tables.items()
        }
        rng = np.random.default_rng(0)
        nulls[layer.name] = {
            plane: (
                permutation_null(table, 199, rng)[:, 0]
                if table.any()
                else np.full(199, np.nan)  # no image has an angle there
            )
            for plane, table in tables.items()
        }
        measures = layer_collapse(layer, result.labels, len(result.classes))
        if measures is not None:
            collapse[layer.name] = measures
    return dict(
        findings=judge(tests, args.alpha),
        dependence=dependence,
        nulls=nulls,
        agreement=agreement,
        collapse=collapse,
    )


def describe(
    args: argparse.Namespace,
    network: Network,
    dataset: ImageDataset,
    classes: Optional[List[str]],
    image: Tensor,
) -> Dict[str, str]:
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


def images_for(
    network: Network, args: argparse.Namespace, data: str
) -> Tuple[ImageDataset, Optional[List[str]], dict]:
    """A network's images, its classes, and a batch as it takes it."""
    channels = input_channels(network.model)
    dataset = make_dataset(network.config, data, args.size, channels)
    classes = class_names(dataset, num_classes_of(network.model))
    network.model.to(args.device)
    batch = next(iter(make_loader(subset(dataset, 2), 2)))
    return dataset, classes, batch


def layers_for(
    network: Network,
    batch: dict,
    args: argparse.Namespace,
    names: Optional[List[str]],
) -> List[str]:
    """The layers that were named, or the bottlenecks."""
    inputs = first_inputs(network.model, batch)
    return names or find_bottlenecks(network.model, inputs, args.token_grid)


def ready(source: str, args: argparse.Namespace, **more: Any) -> Network:
    """A network with its padding set."""
    network = load_network(source, size=args.size, **more)
    if args.padding:
        set_padding(network.model, args.padding)
    return network
