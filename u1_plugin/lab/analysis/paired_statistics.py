"""Headline statistics of a layer, and of resampled images.

What a comparison of two networks tells differences of. Planes, centres and
what chance gives are those of all images in every resample.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ...measure.between_share import table_between_share
from ...measure.collapse import Collapse, check_features, collapse_of
from ...measure.correlations import known_pairs, toroidal
from ...measure.information import (
    class_dependence,
    entropy_of,
    mutual_information,
)
from ...measure.profile import concentration, rotational_symmetry, symmetry
from ...measure.sombrero import fit_sombrero, height_rows, trough_ring
from .layer import LayerFinding, image_weights
from .survey import JUDGED
from .verdicts import few_classes, few_images

#: Numbers that the collapse of resampled images may multiply, and its least
#: resamples: their spread is then known to 16 %.
_WORK, _LEAST = 2e11, 20

#: What readers are told, and in which order.
STATISTICS = {
    'concentration': ('C1', 'energy within r = 0.5, less uniform'),
    'symmetry': ('C1', 'correlation with quarter turns'),
    'crown': ('C2', 'crown above the trough'),
    'brim': ('C2', 'brim above the trough'),
    'information image': ('C3', 'information, image plane'),
    'information pca_centred': ('C3', 'information, PCA plane'),
    'means image': ('C3', 'class means differ, image plane'),
    'means pca_centred': ('C3', 'class means differ, PCA plane'),
    'agreement': ('C3', 'planes agree'),
    'nc1': ('collapse', 'NC1'),
    'cdnv': ('collapse', 'CDNV'),
    'separation': ('collapse', 'class separation R²'),
}


class BootstrapStatistic(NamedTuple):
    """One statistic of one layer."""

    value: float  # of all images
    #: Of resampled images, ``(R,)`` or fewer, those of the first resamples; NaN
    #: where it is not defined.
    draws: np.ndarray
    obstacle: Optional[str] = None  # why these images decide nothing


def _energy(layer: LayerFinding) -> Dict[str, BootstrapStatistic]:
    summary, maps = layer.energy, layer.resampled
    rings = summary.rings
    flat = maps.reshape(len(maps), -1)
    profiles = flat @ rings.means()
    result = concentration(summary)
    weights = rings.within(result.radius)
    statistics = {
        'concentration': BootstrapStatistic(
            result.excess.value, profiles @ weights - result.uniform
        ),
        'symmetry': BootstrapStatistic(
            symmetry(summary).value,
            rotational_symmetry(torch.from_numpy(maps)).numpy(),
        ),
    }
    if len(rings.pixels) >= 4:
        value = _heights(layer, summary.profile)
        draws = np.array([_heights(layer, row) for row in profiles])
        for place, name in enumerate(('crown', 'brim')):
            statistics[name] = BootstrapStatistic(
                float(value[place]), draws[:, place]
            )
    few = few_images(summary.n)
    return {
        name: drawn._replace(obstacle=few) for name, drawn in statistics.items()
    }


def _heights(layer: LayerFinding, profile: np.ndarray) -> np.ndarray:
    """Crown and brim; the trough is where this very profile's fit has it."""
    rings = layer.energy.rings
    fit = fit_sombrero(layer.energy._replace(profile=profile))
    trough = trough_ring(rings.radius, fit.coefficients)
    return height_rows(rings.radius, rings.pixels, trough) @ profile


class _Angles:
    """Angles of moments ``(N, 2)`` in one plane, by class, for resampling."""

    def __init__(
        self, moments: np.ndarray, labels: np.ndarray, classes: int, bins: int
    ) -> None:
        known = np.hypot(*moments.T) > 0  # False for NaN
        self.known, self.classes, self.bins = known, classes, bins
        theta = np.arctan2(moments[known, 1], moments[known, 0])
        cell = ((theta / (2 * np.pi) + 0.5) * bins).astype(int)
        self.labels = labels[known]
        self.cells = self.labels * bins + cell.clip(0, bins - 1)
        self.x, self.y = np.cos(theta), np.sin(theta)

    def table(self, weight: np.ndarray) -> np.ndarray:
        """Counts ``(K, bins)`` of images that count so often, ``(N,)``."""
        size = self.classes * self.bins
        counts = np.bincount(self.cells, weight[self.known], size)
        return counts.reshape(self.classes, self.bins)

    def means(self, weight: np.ndarray) -> np.ndarray:
        """Mean angle of each class, ``(K,)``; NaN without an image."""
        known_weight = weight[self.known]
        x, y = (
            np.bincount(self.labels, known_weight * v, self.classes)
            for v in (self.x, self.y)
        )
        return np.where(np.hypot(x, y) > 0, np.arctan2(y, x), np.nan)


def _agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Modulus of the correlation: planes agree by either turn, as in C3."""
    first, second = known_pairs(first, second)
    return abs(float(toroidal(first, second))) if len(first) > 3 else np.nan


def _angles(
    layer: LayerFinding, labels: np.ndarray, weights: np.ndarray, classes: int
) -> Dict[str, BootstrapStatistic]:
    statistics: Dict[str, BootstrapStatistic] = {}
    all_angles: List[_Angles] = []
    for plane in JUDGED:
        if plane not in layer.planes:
            continue
        table = layer.planes[plane].table
        angles = _Angles(layer.moments[plane], labels, classes, table.shape[1])
        all_angles.append(angles)
        statistics.update(_dependence(plane, table, angles, weights))
    if len(all_angles) == len(JUDGED):
        means = [layer.planes[plane].mean for plane in JUDGED]
        draws = [_agreement(*(a.means(w) for a in all_angles)) for w in weights]
        count = int(np.isfinite(means).all(0).sum())
        least = min(int(angles.known.sum()) for angles in all_angles)
        statistics['agreement'] = BootstrapStatistic(
            _agreement(*means),
            np.array(draws),
            few_classes(count) or few_images(least),
        )
    return statistics


def _dependence(
    plane: str, table: np.ndarray, angles: _Angles, weights: np.ndarray
) -> Dict[str, BootstrapStatistic]:
    """Both shares; the information adjusted for chance with all images."""
    dependence = class_dependence(table, 199, resamples=2)
    if np.isnan(dependence.chance):
        return {}
    share = dependence.between_share.value
    # A copy of a class's only image would predict it.
    several = table.sum(1) > 1
    information, means = [], []
    for weight in weights:
        drawn = angles.table(weight)
        if not drawn.any():
            # Keeps its place, for two networks are paired by resamples.
            information.append(np.nan)
            means.append(np.nan)
            continue
        counts = drawn.sum(1)
        room = entropy_of(counts / counts.sum()) - dependence.chance
        value = mutual_information(drawn) - dependence.chance
        information.append(value / room if room > 0 else np.nan)
        means.append(table_between_share(drawn[several]))
    few = few_images(int(angles.known.sum()))
    return {
        f'information {plane}': BootstrapStatistic(
            dependence.information_share.value, np.array(information), few
        ),
        f'means {plane}': BootstrapStatistic(share, np.array(means), few),
    }


def pooled_vectors(layer: LayerFinding) -> torch.Tensor:
    """The pooled vectors as they were before their norms were divided out.

    Returns:
        Tensor: ``(N, C)``, float64; a row of zeros for an image without
        energy, of NaN for one whose map is not finite.
    """
    units = torch.from_numpy(np.array(layer.vectors)).double()
    norms = torch.from_numpy(layer.norms)[:, None]
    # The direction of what is not finite is NaN, and so is the product.
    return torch.where(norms == 0, 0.0, units * norms)


def _features(
    layer: LayerFinding, labels: np.ndarray
) -> Tuple[Tensor, Tensor, np.ndarray]:
    """Finite vectors, their labels, and which of the images they are."""
    vectors = pooled_vectors(layer)
    finite = vectors.isfinite().all(1)
    return vectors[finite], torch.from_numpy(labels)[finite], finite.numpy()


def layer_collapse(
    layer: LayerFinding, labels: np.ndarray, classes: int
) -> Optional[Collapse]:
    """Collapse of a layer's pooled vectors ``mean I``.

    An image whose map is not finite is left out, as by
    :class:`~u1_plugin.mm.angle_measure.AngleMeasure`.

    Returns:
        Collapse, optional: Of the classes with images; None if fewer than two
        have any.
    """
    vectors, kept_labels, _ = _features(layer, labels)
    if len(kept_labels.unique()) < 2:
        return None
    return collapse_of(vectors, kept_labels, classes, seen_only=True)


def _collapse(
    layer: LayerFinding, labels: np.ndarray, weights: np.ndarray, classes: int
) -> Dict[str, BootstrapStatistic]:
    whole = layer_collapse(layer, labels, classes)
    if whole is None:
        return {}
    vectors, kept_labels, kept = _features(layer, labels)
    check_features(vectors, kept_labels, classes)
    work = vectors.numel() * min(classes, vectors.size(1))
    most = min(max(int(_WORK / work), _LEAST), len(weights))
    drawn: List[Optional[Collapse]] = []
    for weight in torch.from_numpy(weights[:most, kept]):
        several = len(kept_labels[weight > 0].unique()) > 1
        drawn.append(
            collapse_of(vectors, kept_labels, classes, weight, True)
            if several
            else None
        )
    few = few_images(len(kept_labels))
    return {
        name: BootstrapStatistic(
            getattr(whole, name),
            np.array([getattr(collapse, name, np.nan) for collapse in drawn]),
            few,
        )
        for name in ('nc1', 'cdnv', 'separation')
    }


def statistics_of(
    layer: LayerFinding, labels: Optional[np.ndarray], classes: int
) -> Dict[str, BootstrapStatistic]:
    """All headline statistics of a layer.

    Args:
        layer (LayerFinding): With ``resampled`` maps.
        labels (np.ndarray, optional): ``(N,)``; None leaves out what needs
            labels.
        classes (int): K.

    Returns:
        Dict[str, BootstrapStatistic]: By key of :data:`STATISTICS`, where it
        is defined.
    """
    statistics = _energy(layer)
    if labels is not None:
        index, count = np.arange(len(labels)), len(layer.resampled)
        weights = image_weights(index, count)
        statistics.update(_angles(layer, labels, weights, classes))
        statistics.update(_collapse(layer, labels, weights, classes))
    return statistics
