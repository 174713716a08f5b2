"""Measures every chosen layer of a network in one pass over the images."""

from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...measure.probe_options import class_labels, written_as
from ...nn.collector import MapCollector
from .bottlenecks import run
from .judging import ClaimTest
from .layer import COLOUR, INPUT, PLANES, LayerFinding, LayerState
from .verdicts import angle_tests, concentration_tests, sombrero_tests

#: The two planes of a verdict, and what tests call them.
JUDGED = dict(image='image', pca_centred='PCA feature')

#: How messages of what reads maps name the tool's options.
OPTIONS = {
    'u1.neck.layers': '--layers',
    'u1.neck.token_grid': '--token-grid',
}


class Survey(NamedTuple):
    """One pass of a network over a data set."""

    layers: List[LayerFinding]  # the input image first
    labels: np.ndarray  # ``(N,)``, all 0 without labels
    classes: Optional[Sequence[str]]  # names, or None without labels


def _raw_images(batch: dict, device: torch.device, rgb: bool) -> Tensor:
    """The images before normalisation, ``(B, C, H, W)``, bytes in [0, 1].

    Three channels are turned to RGB; others stay as they come.
    """
    inputs = batch['inputs']
    if not isinstance(inputs, Tensor):
        inputs = torch.stack(list(inputs))
    if inputs.size(1) == COLOUR and not rgb:
        inputs = inputs.flip(1)
    return inputs.to(device).float() / 255


def _labels(samples: Sequence, classes: Optional[Sequence[str]]) -> np.ndarray:
    if classes is None:
        return np.zeros(len(samples), np.int64)
    labels = class_labels(samples).numpy()
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(
            f'--data: labels from {labels.min()} to {labels.max()}, but '
            f'{len(classes)} classes; give the data set a name for each class '
            '(test_dataloader.dataset.metainfo.classes)'
        )
    return labels


@torch.no_grad()
def survey(
    model: nn.Module,
    loader: DataLoader,
    layers: Sequence[str],
    folder: Path,
    classes: Optional[Sequence[str]] = None,
    orthant: str = 'relu',
    token_grid: Optional[str] = None,
    planes: Sequence[str] = tuple(PLANES),
    transform: Callable[[Tensor], Tensor] = lambda images: images,
    progress: Callable[[int], None] = lambda images: None,
    resamples: int = 0,
) -> Survey:
    """Measure the layers of a network, and the images themselves.

    Args:
        model (nn.Module): A classifier of MMPretrain's, in eval mode.
        loader (DataLoader): Of MMPretrain's batches, in order; its data set
            may say by ``rgb=True`` that three channels are no BGR.
        layers (Sequence[str]): Names of modules that give maps.
        folder (Path): An empty folder for the stored vectors.
        classes (Sequence[str], optional): None says that the images have no
            labels.
        orthant (str): ``rho`` of every layer.
        planes (Sequence[str]): Where class statistics are computed, keys of
            :data:`PLANES`.
        transform (Callable): Of the images, raw and preprocessed, for controls.
        progress (Callable): Told of the images done.
        resamples (int): Of the mean maps, for a comparison.

    Returns:
        Survey: The vectors in it lie in ``folder``.

    Raises:
        ValueError: If there are fewer than 3 images, a layer cannot be read,
            or an image has no label of the classes.
    """
    total = len(loader.dataset)
    if total < 3:
        raise ValueError(
            f'--data: {total} image(s), of which no plane can be fitted; give '
            'at least 3'
        )
    states = {
        name: LayerState(name, orthant, total, folder, resamples)
        for name in [INPUT, *layers]
    }
    labels = np.zeros(total, np.int64)
    rgb = getattr(loader.dataset, 'rgb', False)
    device = next(model.parameters()).device
    done = 0
    with (
        written_as(OPTIONS),
        MapCollector(model, list(layers), token_grid) as collector,
    ):
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            inputs = transform(data['inputs'])
            index = torch.arange(done, done + len(inputs))
            labels[index] = _labels(data['data_samples'], classes)
            raw = transform(_raw_images(batch, device, rgb))
            states[INPUT].update(raw, index)
            run(model, inputs)
            for name, activation in collector.maps().items():
                states[name].update(activation, index)
            done += len(inputs)
            progress(done)
    count = 1 if classes is None else len(classes)
    return Survey(
        [state.finish(labels, count, planes) for state in states.values()],
        labels,
        classes,
    )


def tests_of(result: Survey, permutations: int) -> Dict[str, List[ClaimTest]]:
    """All questions to the network's layers, by layer."""
    tests = {}
    for layer in result.layers[1:]:
        layer_tests = concentration_tests(layer.energy) + sombrero_tests(
            layer.energy
        )
        if result.classes is not None:
            planes = {
                name: layer.planes[plane] for plane, name in JUDGED.items()
            }
            layer_tests += angle_tests(planes, permutations)
        tests[layer.name] = layer_tests
    return tests
