"""Geometry of activations: pure tensor functions, nothing of MMEngine in them.

Complex numbers are real pairs ``(..., 2) = [Re, Im]`` throughout, because
complex tensors neither export to ONNX nor fuse in ``torch.compile``. Angles
are in radians.
"""

from .circular import angle_difference, resultant_length
from .directions import direction, weighted_mean
from .energy import (
    ORTHANT_MAPS,
    energy,
    off_axis_angle,
    pooled_vector,
    safe_norm,
    to_positive_orthant,
)
from .moments import (
    angle,
    feature_moment,
    image_moment,
    image_moment_basis,
    image_plane_basis,
    mirrored,
    to_unit,
)
from .planes import fourier_basis, orthonormal_basis, pca_basis, random_basis
from .scales import scale_of, scaled_relu

__all__ = [
    'ORTHANT_MAPS',
    'angle',
    'angle_difference',
    'direction',
    'energy',
    'feature_moment',
    'fourier_basis',
    'image_moment',
    'image_moment_basis',
    'image_plane_basis',
    'mirrored',
    'off_axis_angle',
    'orthonormal_basis',
    'pca_basis',
    'pooled_vector',
    'random_basis',
    'resultant_length',
    'safe_norm',
    'scale_of',
    'scaled_relu',
    'to_positive_orthant',
    'to_unit',
    'weighted_mean',
]
