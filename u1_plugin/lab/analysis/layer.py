"""What one pass measures in one layer.

The sums are streaming; what grows with the number of images (normalised pooled
vectors and image moments) lies in files, so that centred and fitted planes are
read without a second pass of the network.
"""

from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

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
from ...geometry.moments import without_rounding
from ...measure.accumulators import AngleAccumulator, EnergyAccumulator
from ...measure.circular_tests import ClassAngleSummary
from ...measure.profile import EnergySummary
from ...measure.vectors import VectorAccumulator

#: The image itself, RGB where it has three channels: what of a finding is the
#: data set's own.
INPUT = 'input image'

#: Where angles are read, and how readers are told.
PLANES = dict(
    image='image plane',
    fourier='feature plane, Fourier',
    fourier_centred='feature plane, Fourier, centred',
    pca_centred='feature plane, PCA, centred',
)

#: Channels below which there is no plane of feature space, and no hue.
COLOUR = 3

#: Rows of the stored vectors that are read at a time.
_ROWS = 4096

#: Moments of unit vectors below this are rounding: grey pixels have no hue.
_ROUNDING = 1e-6


def image_weights(index: np.ndarray, resamples: int) -> np.ndarray:
    """How often each image counts in each resample of a bootstrap.

    Each image has weights of its own, by its number in the data set, so that
    two networks that see the same images, in whatever batches, are resampled
    alike and their differences are paired. Weights are Poisson's (Chamandy et
    al., *Estimating uncertainty for massive data streams*, 2012): no image's
    weight depends on the number of images, and what is resampled can be a
    stream.

    Args:
        index (np.ndarray): Numbers of the images in the data set, ``(B,)``.
        resamples (int): R.

    Returns:
        np.ndarray: Counts ``(R, B)``, int64, of mean 1 and variance 1.
    """
    drawn = [
        np.random.default_rng((0, int(number))).poisson(1.0, resamples)
        for number in index
    ]
    return np.stack(drawn, 1) if drawn else np.zeros((resamples, 0), int)


class ResampledMaps:
    """Mean relative energy maps of R resamples, as a stream."""

    def __init__(self, resamples: int) -> None:
        self.resamples = resamples
        self._sums: Optional[Tensor] = None
        self._count = np.zeros(resamples)

    def update(self, energy: Tensor, index: Tensor) -> None:
        """Add a batch ``E``, ``(B, H, W)``, of the images of that index.

        As in :class:`~u1_plugin.measure.EnergyAccumulator`, each image is
        divided by its own mean, and one without energy does not count.
        """
        mean = energy.mean((1, 2))
        valid = mean.isfinite() & (mean > 0)
        relative = energy[valid] / mean[valid][:, None, None]
        weights = image_weights(index[valid.cpu()].numpy(), self.resamples)
        self._count += weights.sum(1)
        weight = torch.from_numpy(weights).to(relative)
        total = torch.einsum('rb,bhw->rhw', weight, relative)
        self._sums = total if self._sums is None else self._sums + total

    def mean_maps(self) -> np.ndarray:
        """``(R, H, W)``; NaN in a resample without an image."""
        count = np.where(self._count > 0, self._count, np.nan)
        return self._sums.cpu().numpy() / count[:, None, None]


class LayerFinding(NamedTuple):
    """What one pass found in one layer."""

    name: str  # of the module, or :data:`INPUT`
    channels: int  # C
    energy: EnergySummary  # with the size of the map
    #: By key of :data:`PLANES`. All images are one class if the data have no
    #: labels. Of an input image with fewer than three channels, which has no
    #: hue, the image plane alone.
    planes: Dict[str, ClassAngleSummary]
    #: ``z`` of every image, ``(N, 2)``, likewise; NaN for an image without
    #: energy or without a vector.
    moments: Dict[str, np.ndarray]
    #: Mean normalised vector, ``(C,)``; None without a hue.
    center: Optional[np.ndarray]
    basis: Optional[np.ndarray]  # PCA plane, ``(2, C)``; likewise
    vectors: np.ndarray  # normalised pooled vectors, ``(N, C)``, in a file
    norms: Optional[np.ndarray] = None  # of the pooled vectors, ``(N,)``
    #: Mean relative energy of resampled images, ``(R, H, W)``; see
    #: :func:`image_weights`.
    resampled: Optional[np.ndarray] = None


class LayerState:
    """The streaming state of one layer.

    What grows with N, the number of images, lies in ``folder``. Of the mean
    map there are as many resamples as are asked for.
    """

    def __init__(
        self,
        name: str,
        orthant: str,
        images: int,
        folder: Path,
        resamples: int = 0,
    ) -> None:
        self.name, self.orthant, self.images = name, orthant, images
        self.maps = ResampledMaps(resamples) if resamples else None
        self.file = folder / f'{name}.npy'
        self.energy = EnergyAccumulator()
        self.vectors = VectorAccumulator()
        self.image_moments = np.full((images, 2), np.nan)
        self.norms = np.zeros(images)
        self.units: Optional[np.ndarray] = None

    def update(self, activation: Tensor, index: Tensor) -> None:
        """Add a batch ``(B, C, H, W)`` of the images of that index."""
        intensity = to_positive_orthant(activation.float(), self.orthant)
        energies = energy(intensity.double())
        self.energy.update(energies, index)
        if self.maps is not None:
            self.maps.update(energies, index)
        # Without energy there is no moment, and not one of 0.
        total = energies.sum((1, 2))
        some = (total.isfinite() & (total > 0))[:, None]
        moment = without_rounding(image_moment(energies)).where(some, torch.nan)
        self.image_moments[index] = moment.cpu().numpy()
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
        self.norms[index] = norm.double().cpu().numpy()

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
        try:
            return self._finish(labels, num_classes, planes)
        except ValueError as error:
            raise ValueError(f'--layers {self.name!r}: {error}') from error

    def _finish(
        self, labels: np.ndarray, num_classes: int, planes: Sequence[str]
    ) -> LayerFinding:
        self.units.flush()
        channels = self.units.shape[1]
        moments = dict(image=self.image_moments)
        center = basis = None
        if channels >= COLOUR:
            center, basis = self._center_and_basis()
            moments.update(_feature_moments(self.units, center, basis))
        elif self.name != INPUT:
            raise ValueError(
                f'its map has {channels} channel(s), and a plane of feature '
                f'space needs {COLOUR}; name other modules'
            )
        return LayerFinding(
            self.name,
            channels,
            self.energy.summary(),
            {
                plane: angle_sums(moments[plane], labels, num_classes).summary()
                for plane in planes
                if plane in moments
            },
            moments,
            center,
            basis,
            self.units,
            self.norms,
            None if self.maps is None else self.maps.mean_maps(),
        )


def _feature_moments(
    units: np.ndarray, center: np.ndarray, basis: np.ndarray
) -> Dict[str, np.ndarray]:
    fourier = fourier_basis(units.shape[1], torch.float64).numpy()
    return dict(
        fourier=project(units, fourier, np.zeros(units.shape[1])),
        fourier_centred=project(units, fourier, center),
        pca_centred=project(units, basis, center),
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
