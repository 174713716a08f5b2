"""Controls of image moments: what turns, shifts and centres with the images."""

import math
from typing import Callable, List, NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ...measure.correlations import fisher_lee_correlation, known_pairs
from ...measure.estimate import Estimate, t_estimate
from .images import subset_index
from .layer import angle_sums
from .survey import Survey

#: Shift of the images in a control, in parts of their width.
SHIFT = 8
#: Images whose angles are correlated with the inputs', at most.
_CORRELATED = 1000


class RotationControl(NamedTuple):
    """Whether a layer's image angle turns with the image."""

    layer: str  # where
    #: By how much the images were turned; a positive number is
    #: counter-clockwise.
    degrees: int
    #: Circular mean of the angle's change, degrees in ``(-180, 180]``.
    mean: float
    half_width: float  # of its 95 % interval, degrees; NaN if unbounded
    #: Resultant length of the changes: 1 if all images' angles turn alike.
    length: float
    #: :func:`fisher_lee_correlation`, of the angles before and after.
    correlation: Estimate
    n: int  # images


class ShiftControl(NamedTuple):
    """Whether a layer's image moment follows a shift of the image."""

    layer: str  # where
    #: Mean change of ``Re z_xy`` for a shift to the right; its p-value is
    #: one-sided, of no change that way.
    along: Estimate
    across: Estimate  # the same of ``Im z_xy``, where none is expected
    n: int  # images


class CentringControl(NamedTuple):
    """Where a layer's energy lies on average, and what of it is the data's."""

    layer: str  # where
    x: Estimate  # mean of ``Re z_xy``; p-value two-sided about 0
    y: Estimate  # mean of ``Im z_xy``, up
    #: :func:`fisher_lee_correlation`, over the images, of the layer's image
    #: angle with that of the input image's energy.
    follows: Estimate


def quarter_turn(times: int) -> Callable[[Tensor], Tensor]:
    """Turn images ``(B, C, H, W)`` counter-clockwise."""
    return lambda images: images.rot90(times, (-2, -1))


def shift_right(images: Tensor) -> Tensor:
    """By 1 / :data:`SHIFT` of the width; the left edge is continued."""
    width = images.size(-1)
    by = max(width // SHIFT, 1)
    shifted = F.pad(images, (by, 0, 0, 0), mode='replicate')
    return shifted[..., :width].contiguous()


def _angles(moments: np.ndarray) -> np.ndarray:
    """Radians; NaN where a moment is 0 or not known."""
    theta = np.arctan2(moments[:, 1], moments[:, 0])
    return np.where(np.hypot(*moments.T) > 0, theta, np.nan)


def turns_of(
    before: Survey, after: Survey, degrees: int, index: np.ndarray
) -> List[RotationControl]:
    """Compare the image angles of turned images with those of the images.

    ``index``, ``(n,)``, says which of the images were turned.
    """
    rows = []
    for first, second in zip(before.layers, after.layers):
        old = _angles(first.moments['image'][index])
        new = _angles(second.moments['image'])
        old, new = known_pairs(old, new)
        change = np.exp(1j * (new - old))
        summary = angle_sums(
            np.stack([change.real, change.imag], 1),
            np.zeros(len(change), np.int64),
            1,
        ).summary()
        correlation = fisher_lee_correlation(old, new)
        rows.append(
            RotationControl(
                first.name,
                degrees,
                math.degrees(summary.mean[0]),
                math.degrees(summary.half_width[0]),
                float(summary.length[0]),
                correlation,
                summary.n,
            )
        )
    return rows


def _mean(values: np.ndarray) -> Estimate:
    values = values[np.isfinite(values)]
    error = values.std(ddof=1) / math.sqrt(len(values))
    return t_estimate(float(values.mean()), float(error), len(values) - 1)


def shifts_of(
    before: Survey, after: Survey, index: np.ndarray
) -> List[ShiftControl]:
    """Compare the image moments of shifted images; see :func:`turns_of`."""
    rows = []
    for first, second in zip(before.layers, after.layers):
        change = second.moments['image'] - first.moments['image'][index]
        rows.append(
            ShiftControl(
                first.name,
                _mean(change[:, 0]),
                _mean(change[:, 1]),
                int(np.isfinite(change).all(1).sum()),
            )
        )
    return rows


def centring_of(survey: Survey) -> List[CentringControl]:
    """Where the energy lies on average, against the images' own.

    The first layer is the input image.
    """
    rows = []
    chosen = subset_index(len(survey.labels), _CORRELATED)
    input_angles = _angles(survey.layers[0].moments['image'][chosen])
    for layer in survey.layers:
        moments = layer.moments['image']
        theta = _angles(moments[chosen])
        rows.append(
            CentringControl(
                layer.name,
                _two_sided(_mean(moments[:, 0])),
                _two_sided(_mean(moments[:, 1])),
                fisher_lee_correlation(input_angles, theta),
            )
        )
    return rows


def _two_sided(estimate: Estimate) -> Estimate:
    one = estimate.pvalue
    return estimate._replace(pvalue=2 * min(one, 1 - one))
