"""What a cell of the table of claims showed, and C4's part of it."""

import math
from typing import Any, Dict, List, Mapping, NamedTuple, Tuple

import numpy as np

from ...measure.estimate import Estimate
from ..folds import image_difference
from .claims_plan import Cell
from .judging import ClaimTest

#: The arm of C4 that sees the central pixels alone.
CENTRE = 'centre'

#: Percentage points of top-1: less is no gain, however significant.
MIN_GAIN = 0.5

#: C4: each aspect's arm, and the arm that it must beat.
COMPARISONS = {
    'image angle over the plain vote': ('image', 'pixel'),
    'image angle beyond position': ('image', 'position'),
    'image angle beyond radius': ('image', 'radius'),
    'image angle beyond the central pixels': ('image', CENTRE),
    'image angle beyond shuffled angles': ('image', 'shuffled'),
    'feature angle over the plain vote': ('feature', 'pixel'),
    'position over the plain vote': ('position', 'pixel'),
}


class Measured(NamedTuple):
    """What a cell showed."""

    cell: Cell  # which
    images: int  # of the pass
    classes: int  # 0 without labels, and then C3 and C4 are not asked
    shape: Tuple[int, ...]  # of the layer's map, ``(C, H, W)``
    tests: List[ClaimTest]  # of all claims
    input_excess: Estimate  # C1's number of the input images
    #: Top-1 of each arm of C4 in each split, per cent; empty without labels.
    accuracy: Dict[str, List[float]]
    hardware: str  # where it was measured
    versions: Dict[str, str]  # of the packages, by name


def memory_tests(scores: Mapping[str, np.ndarray]) -> List[ClaimTest]:
    """C4: does an angle help a memory's vote, and more than its controls?

    Args:
        scores (Mapping[str, np.ndarray]): Of each arm on each image, as
            :func:`~..folds.image_scores` gives them.

    Returns:
        List[ClaimTest]: One a comparison, in points, paired over images:
        :func:`~..folds.image_difference`, and its p one-sided.
    """
    tests = []
    for aspect, (arm, other) in COMPARISONS.items():
        result = image_difference(scores[arm], scores[other])
        half = result.pvalue / 2
        above = half if result.mean > 0 else 1 - half
        estimate = Estimate(result.mean, result.low, result.high, above)
        name = f'top-1 of {arm} less {other}, points'
        tests.append(
            ClaimTest('C4', aspect, name, result.n, estimate, MIN_GAIN)
        )
    return tests


def _plain(value: Any) -> Any:
    """For JSON, which has no infinite number and no NaN: as text."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    is_odd = isinstance(value, float) and not math.isfinite(value)
    return str(value) if is_odd else value


def to_json(measured: Measured) -> Dict[str, Any]:
    """What :func:`from_json` reads."""
    tests = [test._asdict() for test in measured.tests]
    return _plain(measured._replace(tests=tests)._asdict())


def from_json(content: Mapping[str, Any]) -> Measured:
    """A cell as it was measured."""
    measured = Measured(**{name: content[name] for name in Measured._fields})
    tests = []
    for row in content['tests']:
        test = ClaimTest(**row)._replace(
            estimate=Estimate(*map(float, row['estimate'])),
            least=float(row['least']),
        )
        if test.highest is not None:
            test = test._replace(highest=float(test.highest))
        tests.append(test)
    return measured._replace(
        cell=Cell(*measured.cell),
        shape=tuple(measured.shape),
        tests=tests,
        input_excess=Estimate(*map(float, measured.input_excess)),
    )
