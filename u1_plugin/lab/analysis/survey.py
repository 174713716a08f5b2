"""Measures every chosen layer of a network in one pass over the images.

The sums are streaming; what grows with the number of images (normalised pooled
vectors and image moments) lies in files, so that centred and fitted planes are
read without a second pass of the network.
"""

from pathlib import Path
from typing import (
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ...geometry import (
    energy,
    feature_moment,
    fourier_basis,
    image_moment,
    pca_basis,
    pooled_vector,
    safe_norm,
    to_positive_orthant,
)
from ...measure.accumulators import (
    AngleAccumulator,
    EnergyAccumulator,
    VectorAccumulator,
)
from ...measure.bottlenecks import run
from ...measure.circular_tests import ClassAngleSummary
from ...measure.profile import EnergySummary
from ...nn.taps import MapCollector

#: The image itself, RGB: what of a finding is the data set's own.
INPUT = 'input image'

#: Where angles are read, and how readers are told.
PLANES = dict(
    image='image plane',
    fourier='feature plane, Fourier',
    fourier_centred='feature plane, Fourier, centred',
    pca_centred='feature plane, PCA, centred',
)

#: The two planes of a verdict, and what tests call them.
JUDGED = dict(image='image', pca_centred='PCA feature')

#: Rows of the stored vectors that are read at a time.
_ROWS = 4096

#: Moments of unit vectors below this are rounding: grey pixels have no hue.
_ROUNDING = 1e-6


class LayerFinding(NamedTuple):
    """What one pass found in one layer.

    Attributes:
        name (str): Of the module, or :data:`INPUT`.
        channels (int): C.
        energy (EnergySummary): With the size of the map.
        planes (Dict[str, ClassAngleSummary]): By key of :data:`PLANES`. All
            images are one class if the data have no labels.
        moments (Dict[str, np.ndarray]): ``z`` of every image, ``(N, 2)``; NaN
            for an image without a vector.
        center (np.ndarray): Mean normalised vector, ``(C,)``.
        basis (np.ndarray): PCA plane, ``(2, C)``.
        vectors (np.ndarray): Normalised pooled vectors, ``(N, C)``, in a file.
    """

    name: str
    channels: int
    energy: EnergySummary
    planes: Dict[str, ClassAngleSummary]
    moments: Dict[str, np.ndarray]
    center: np.ndarray
    basis: np.ndarray
    vectors: np.ndarray


class Survey(NamedTuple):
    """One pass of a network over a data set.

    Attributes:
        layers (List[LayerFinding]): The input image first.
        labels (np.ndarray): ``(N,)``, all 0 without labels.
        classes (Sequence[str], optional): Names, or None without labels.
    """

    layers: List[LayerFinding]
    labels: np.ndarray
    classes: Optional[Sequence[str]]


class _Layer:
    """The streaming state of one layer.

    Args:
        name (str): Its name.
        orthant (str): ``rho``.
        images (int): N.
        folder (Path): Where what grows with N lies.
    """

    def __init__(
        self, name: str, orthant: str, images: int, folder: Path
    ) -> None:
        self.name, self.orthant, self.images = name, orthant, images
        self.file = folder / f'{name}.npy'
        self.energy = EnergyAccumulator()
        self.vectors = VectorAccumulator()
        self.image_moments = np.full((images, 2), np.nan)
        self.units: Optional[np.ndarray] = None

    def update(self, activation: Tensor, index: Tensor) -> None:
        """Add a batch ``(B, C, H, W)`` of the images of that index."""
        intensity = to_positive_orthant(activation.float(), self.orthant)
        own = energy(intensity).double()
        self.energy.update(own, index)
        self.image_moments[index] = image_moment(own).cpu().numpy()
        pooled = pooled_vector(intensity)
        if self.images > pooled.size(1):
            self.vectors.update(pooled)
        norm = safe_norm(pooled, 1)
        nothing = ~norm.isfinite() | (norm == 0)
        unit = pooled / torch.where(nothing, 1.0, norm)[:, None]
        unit[nothing] = float('nan')
        if self.units is None:
            self.units = np.lib.format.open_memmap(
                self.file, 'w+', np.float32, (self.images, unit.size(1))
            )
        self.units[index] = unit.cpu().numpy()

    def _center_and_basis(self) -> Tuple[np.ndarray, np.ndarray]:
        if self.vectors.size is not None:
            return self.vectors.center(), self.vectors.pca_basis()
        # Few images: their vectors are smaller than a covariance of channels.
        vectors = torch.from_numpy(np.array(self.units)).double()
        vectors = vectors[vectors.isfinite().all(1)]
        return vectors.mean(0).numpy(), pca_basis(vectors).numpy()

    def finish(
        self, labels: np.ndarray, num_classes: int, planes: Sequence[str]
    ) -> LayerFinding:
        """Read the planes that needed all images first."""
        self.units.flush()
        center, basis = self._center_and_basis()
        channels = self.units.shape[1]
        fourier = fourier_basis(channels, torch.float64).numpy()
        nowhere = np.zeros(channels)
        moments = dict(
            image=self.image_moments,
            fourier=project(self.units, fourier, nowhere),
            fourier_centred=project(self.units, fourier, center),
            pca_centred=project(self.units, basis, center),
        )
        return LayerFinding(
            self.name,
            channels,
            self.energy.summary(),
            {
                plane: angle_sums(moments[plane], labels, num_classes).summary()
                for plane in planes
            },
            moments,
            center,
            basis,
            self.units,
        )


def project(
    units: np.ndarray, basis: np.ndarray, center: np.ndarray
) -> np.ndarray:
    """Moments of stored vectors in a plane, a block at a time.

    Args:
        units (np.ndarray): ``(N, C)``.
        basis (np.ndarray): ``(2, C)``.
        center (np.ndarray): Subtracted first, ``(C,)``.

    Returns:
        np.ndarray: ``(N, 2)``, float64; NaN where there is no angle.
    """
    rows, offset = torch.from_numpy(basis), torch.from_numpy(center)
    parts = [np.zeros((0, 2))]
    for start in range(0, len(units), _ROWS):
        block = torch.from_numpy(np.array(units[start : start + _ROWS]))
        parts.append(feature_moment(block.double() - offset, rows).numpy())
    moments = np.concatenate(parts)
    moments[np.linalg.norm(moments, axis=1) < _ROUNDING] = np.nan
    return moments


def angle_sums(
    moments: np.ndarray, labels: np.ndarray, num_classes: int
) -> AngleAccumulator:
    """Circular sums of moments ``(N, 2)`` by class ``(N,)``."""
    accumulator = AngleAccumulator(num_classes)
    accumulator.update(torch.from_numpy(moments), torch.from_numpy(labels))
    return accumulator


def _raw_images(batch: dict, device: torch.device) -> Tensor:
    """The images before normalisation as RGB in [0, 1], ``(B, 3, H, W)``."""
    inputs = batch['inputs']
    if not isinstance(inputs, Tensor):
        inputs = torch.stack(list(inputs))
    return inputs.to(device).flip(1) / 255  # images are loaded as BGR


def _labels(samples: Sequence, classes: Optional[Sequence[str]]) -> np.ndarray:
    if classes is None:
        return np.zeros(len(samples), np.int64)
    return np.array([int(sample.gt_label) for sample in samples])


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
) -> Survey:
    """Measure the layers of a network, and the images themselves.

    Args:
        model (nn.Module): A classifier of MMPretrain's, in eval mode.
        loader (DataLoader): Of MMPretrain's batches, in order.
        layers (Sequence[str]): Names of modules that give maps.
        folder (Path): An empty folder for the stored vectors.
        classes (Sequence[str], optional): Names of the classes; None says
            that the images have no labels.
        orthant (str): ``rho`` of every layer.
        token_grid (str, optional): See
            :class:`~u1_plugin.nn.taps.MapCollector`.
        planes (Sequence[str]): Where class statistics are computed, keys of
            :data:`PLANES`.
        transform (Callable): Of the preprocessed images, for controls; the
            raw images go through it as well.
        progress (Callable): Told of the images done.

    Returns:
        Survey: The vectors in it lie in ``folder``.
    """
    total = len(loader.dataset)
    states = {
        name: _Layer(name, orthant, total, folder) for name in [INPUT, *layers]
    }
    labels = np.zeros(total, np.int64)
    device = next(model.parameters()).device
    done = 0
    with MapCollector(model, list(layers), token_grid) as collector:
        for batch in loader:
            data = model.data_preprocessor(batch, False)
            inputs = transform(data['inputs'])
            index = torch.arange(done, done + len(inputs))
            labels[index] = _labels(data['data_samples'], classes)
            raw = transform(_raw_images(batch, device))
            states[INPUT].update(raw, index)
            run(model, inputs)
            for name, activation in collector.maps().items():
                states[name].update(activation, index)
            done += len(inputs)
            progress(done)
    if done < 3:
        raise ValueError(f'{done} image(s); the analysis needs at least 3')
    count = 1 if classes is None else len(classes)
    return Survey(
        [state.finish(labels, count, planes) for state in states.values()],
        labels,
        classes,
    )
