"""Streaming sums of energies and angles, and what they say of C1 to C3."""

from .accumulators import AngleAccumulator, EnergyAccumulator
from .circular_tests import (
    ClassAngleSummary,
    holm,
    summarize_class_angles,
)
from .collapse import Collapse, CollapseAccumulator, collapse_of
from .correlations import fisher_lee_correlation
from .estimate import Estimate
from .information import (
    Dependence,
    class_dependence,
    mutual_information,
    permutation_null,
)
from .probe import Probe, ProbedLayer
from .probe_options import class_labels
from .profile import (
    Concentration,
    EnergySummary,
    Rings,
    concentration,
    make_rings,
    rotational_symmetry,
    symmetry,
)
from .sombrero import ProfileHeights, Sombrero, fit_sombrero, heights
from .sums import Accumulator
from .vectors import VectorAccumulator

__all__ = [
    'Accumulator',
    'AngleAccumulator',
    'ClassAngleSummary',
    'Collapse',
    'CollapseAccumulator',
    'Concentration',
    'Dependence',
    'EnergyAccumulator',
    'EnergySummary',
    'Estimate',
    'Probe',
    'ProbedLayer',
    'ProfileHeights',
    'Rings',
    'Sombrero',
    'VectorAccumulator',
    'class_dependence',
    'class_labels',
    'collapse_of',
    'concentration',
    'fisher_lee_correlation',
    'fit_sombrero',
    'heights',
    'holm',
    'make_rings',
    'mutual_information',
    'permutation_null',
    'rotational_symmetry',
    'summarize_class_angles',
    'symmetry',
]
