"""Measures the claims C1, C2 and C3 in any network."""

from .accumulators import (
    AngleAccumulator,
    EnergyAccumulator,
    VectorAccumulator,
)
from .circular_tests import (
    ClassAngleSummary,
    circular_correlation,
    holm,
    summarize_class_angles,
)
from .estimate import Estimate
from .information import (
    Dependence,
    class_dependence,
    mutual_information,
    permutation_null,
)
from .probe import Probe, Source, class_labels
from .profile import (
    Concentration,
    EnergySummary,
    Rings,
    Sombrero,
    concentration,
    fit_sombrero,
    make_rings,
    rotational_symmetry,
    symmetry,
)
from .sums import Accumulator
from .verdicts import (
    Finding,
    Test,
    angle_tests,
    claim_verdict,
    concentration_tests,
    judge,
    sombrero_tests,
)

__all__ = [
    'Accumulator',
    'AngleAccumulator',
    'ClassAngleSummary',
    'Concentration',
    'Dependence',
    'EnergyAccumulator',
    'EnergySummary',
    'Estimate',
    'Finding',
    'Probe',
    'Rings',
    'Sombrero',
    'Source',
    'Test',
    'VectorAccumulator',
    'angle_tests',
    'circular_correlation',
    'claim_verdict',
    'class_labels',
    'class_dependence',
    'concentration',
    'concentration_tests',
    'fit_sombrero',
    'holm',
    'judge',
    'make_rings',
    'mutual_information',
    'permutation_null',
    'rotational_symmetry',
    'sombrero_tests',
    'summarize_class_angles',
    'symmetry',
]
