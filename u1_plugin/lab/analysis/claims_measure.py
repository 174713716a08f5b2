"""Measures one cell of the table of claims, in one pass over its images."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, List, Tuple

import numpy as np
import torch

from ...geometry import to_positive_orthant
from ...measure.probe_options import written_as
from ...measure.profile import concentration
from ...mm.memory_inputs import plane_of
from ...nn.collector import MapCollector
from ..environment import hardware, package_versions
from ..folds import accuracies, image_scores, split_images
from ..memory_study import run_arms, run_split
from .claims_cell import CENTRE, Measured, memory_tests
from .claims_plan import ZEROS, Cell, NetworkSource, Plan
from .images import ImageDataset, class_names, make_dataset, make_loader
from .preparation import input_channels
from .sources import Network, load_network, set_padding
from .survey import JUDGED, survey, tests_of

_ORTHANT = 'relu'


def centre(maps: torch.Tensor) -> torch.Tensor:
    """The middle half of a map's height and width, ``(N, C, h, w)``.

    As many pixels are cut from one side as from the other, and one is left.
    """
    height, width = maps.shape[2:]
    top, left = (
        min(int(length / 4 + 0.5), (length - 1) // 2)
        for length in (height, width)
    )
    return maps[:, :, top : height - top, left : width - left]


def vote(
    maps: torch.Tensor, labels: np.ndarray, splits: int
) -> Tuple[Dict[str, List[float]], Dict[str, np.ndarray]]:
    """C4's votes: every arm of the study, and the central pixels.

    Returns:
        Tuple: Top-1 by arm and split, and by arm and image
        (:func:`~..folds.image_scores`), per cent.
    """
    plane = plane_of({}, maps.size(1), 'feature').eval()
    done = []
    for seed in range(splits):
        split = run_split(maps, labels, plane, seed)
        parts = split_images(labels, seed)
        middle = run_arms(
            centre(maps), labels, plane, parts, seed, 'pixel', ['pixel']
        )
        split.right[CENTRE] = middle.right['pixel']
        done.append(split)
    return accuracies(done), image_scores(done)


def read(
    network: Network, dataset: ImageDataset, net: NetworkSource, batch_size: int
) -> tuple:
    """One pass: what the survey found, and the maps in the orthant.

    Returns:
        tuple: :class:`~.survey.Survey` of the input and the layer, whose
        stored vectors are gone; ``(N, C, H, W)``.
    """
    classes = dataset.metainfo.get('classes') and class_names(dataset)
    maps: List[torch.Tensor] = []
    with (
        TemporaryDirectory() as scratch,
        MapCollector(network.model, [net.layer]) as collector,
    ):

        def keep(done: int) -> None:
            activation = collector.maps()[net.layer]
            maps.append(to_positive_orthant(activation, _ORTHANT).cpu())

        result = survey(
            network.model,
            make_loader(dataset, batch_size),
            [net.layer],
            Path(scratch),
            classes,
            _ORTHANT,
            planes=JUDGED,
            progress=keep,
        )
    return result, torch.cat(maps)


def measure(plan: Plan, cell: Cell, folder: Path, device: str) -> Measured:
    """One cell: a pass over its images, and the tests of all claims.

    The folder has one folder a class or no classes.
    """
    net, settings = plan.networks[cell.network], plan.settings
    seed = settings.seed if cell.weights == 'untrained' else None
    network = load_network(net.config, net.checkpoint, seed)
    if cell.padding != ZEROS:
        set_padding(network.model, cell.padding)
    network.model.to(device)
    dataset = make_dataset(
        network.config, str(folder), net.size, input_channels(network.model)
    )
    with written_as({'u1.neck.layers=': f'networks.{cell.network}.layer='}):
        result, maps = read(network, dataset, net, settings.batch_size)
    (tests,) = tests_of(result, settings.permutations).values()
    accuracy: Dict[str, List[float]] = {}
    if result.classes and cell not in plan.without_memory:
        accuracy, scores = vote(maps, result.labels, settings.splits)
        tests += memory_tests(scores)
    return Measured(
        cell,
        len(result.labels),
        len(result.classes or ()),
        tuple(maps.shape[1:]),
        tests,
        concentration(result.layers[0].energy).excess,
        accuracy,
        hardware(),
        package_versions(),
    )
