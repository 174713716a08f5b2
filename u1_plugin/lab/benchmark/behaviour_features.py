"""What training did to the features that a classifier takes."""

import math
from functools import partial
from typing import Dict, Iterator, List, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor, nn

from ...geometry import (
    energy,
    fourier_basis,
    image_moment,
    pooled_vector,
    safe_norm,
    to_positive_orthant,
)
from ...geometry.moments import without_rounding
from ...measure import CollapseAccumulator, class_dependence
from ...mm.classifiers import num_classes_of
from ...options import checked
from ..analysis.layer import COLOUR, angle_sums, project
from .behaviour import BATCH, batches
from .evaluated_images import LabelledImages

#: Draws of the null. Its mean alone is used, whose error is then far below
#: the scatter over seeds.
_PERMUTATIONS = 199


class Features(NamedTuple):
    """What a model makes of a batch."""

    vectors: Tensor  # what the classifier takes, (B, C)
    maps: Tensor  # A of the layer, (B, C', H, W)


def _vectors(model: nn.Module, inputs: Tensor) -> Tensor:
    try:
        vectors = model.extract_feat(inputs, stage='pre_logits')
    except (AssertionError, AttributeError, TypeError) as error:
        raise ValueError(
            f'model.type={type(model).__name__} gives no features of the '
            f'stage "pre_logits": {error}; measure an ImageClassifier whose '
            'head has them'
        ) from error
    if not isinstance(vectors, Tensor) or vectors.ndim != 2:
        raise ValueError(
            f'model.head={type(model.head).__name__} gives no pooled vector '
            '(B, C) as "pre_logits"; let model.neck pool the map'
        )
    return vectors


@checked()
def features(
    model: nn.Module, images: Tensor, layer: Optional[str] = None
) -> Iterator[Features]:
    """Vectors and maps, batch by batch; arguments as of :func:`batches`.

    Raises:
        ValueError: If the model has no pooled features, or the layer no map.
    """
    read = partial(_vectors, model)
    for vectors, maps in batches(model, images, read, layer):
        yield Features(vectors.float().cpu(), maps.cpu())


def collapse_values(
    model: nn.Module, images: LabelledImages, layer: Optional[str] = None
) -> Dict[str, float]:
    """Collapse of the classifier's features, and what angles tell of classes.

    Collapse is :class:`~u1_plugin.measure.Collapse`, of the vectors that the
    classifier takes. Angles are those of ``I = relu(A)`` of the layer: in the
    Fourier plane, of the normalised pooled vectors less their mean over these
    very images, and in the image plane; each with the information that it
    gives on the class beyond what labels dealt at random give (see
    :class:`~u1_plugin.measure.Dependence`).

    Args:
        model (nn.Module): A classifier of MMPretrain, in eval mode.
        images (LabelledImages): With labels; of every class of the model.
        layer (str, optional): See :func:`features`.

    Returns:
        Dict[str, float]: By name, 100 times the fractions, for a report of two
        decimals; NaN for what is not defined or infinite.

    Raises:
        ValueError: If a class has no image, or a feature is not finite.
    """
    classes = num_classes_of(model) or int(images.labels.max()) + 1
    labels = torch.from_numpy(images.labels).split(BATCH)
    collapse = CollapseAccumulator(classes)
    pooled: List[Tensor] = []
    moments: List[Tensor] = []
    read = features(model, images.inputs, layer)
    for (vectors, maps), batch_labels in zip(read, labels):
        collapse.update(vectors, batch_labels)
        intensity = to_positive_orthant(maps)
        pooled.append(pooled_vector(intensity).double())
        moment = image_moment(energy(intensity).double())
        moments.append(without_rounding(moment))
    summary = collapse.summary()
    planes = {'image plane': torch.cat(moments).numpy()}
    if pooled[0].size(1) >= COLOUR:
        planes['feature plane'] = _feature_moments(torch.cat(pooled))
    return {
        'NC1 (x 100)': _hundredfold(summary.nc1),
        'CDNV (x 100)': _hundredfold(summary.cdnv),
        'class separation R2 (x 100)': _hundredfold(summary.separation),
        **{
            f'information of angle on class, {plane}, %': _information(
                values, images.labels, classes
            )
            for plane, values in planes.items()
        },
    }


def _hundredfold(value: float) -> float:
    return 100 * value if math.isfinite(value) else math.nan


def _feature_moments(pooled: Tensor) -> np.ndarray:
    """Centred, in the Fourier plane, ``(N, 2)``; NaN for a zero vector."""
    norm = safe_norm(pooled, 1)
    some = norm > 0
    units = pooled / torch.where(some, norm, math.nan)[:, None]
    center = units[some].mean(0)
    basis = fourier_basis(pooled.size(1), torch.float64)
    return project(units.numpy(), basis.numpy(), center.numpy())


def _information(moments: np.ndarray, labels: np.ndarray, k: int) -> float:
    table = angle_sums(moments, labels, k).summary().table
    if not table.sum():
        return math.nan
    dependence = class_dependence(
        table, permutations=_PERMUTATIONS, resamples=2
    )
    return _hundredfold(dependence.information_share.value)
