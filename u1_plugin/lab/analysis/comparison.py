"""Two networks on the same images: layers side by side, and differences."""

import math
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from ...measure.circular_tests import holm
from ...measure.estimate import NORMAL_QUANTILE, UNKNOWN, Estimate
from ...options import Count, checked
from .judging import UNDECIDED, Finding
from .layer import LayerFinding
from .paired_statistics import STATISTICS, BootstrapStatistic, statistics_of
from .survey import Survey

HIGHER, LOWER, ALIKE = 'higher', 'lower', 'no difference shown'

#: Claims whose statistics depend on the size of the map.
GRID_CLAIMS = ('C1', 'C2')


class LayerPair(NamedTuple):
    """Layers that are compared."""

    first: LayerFinding  # of the network that is analysed
    second: LayerFinding  # of the one that it is held against
    how: str  # matched by ``'name'``, or by ``'order'`` from the last

    @property
    def remark(self) -> str:
        """Why C1 and C2 are left out; empty where they are not.

        Rings, and with them crown, brim and the share about the axis, are
        those of the grid: one and the same profile has other heights on maps
        of other sizes.
        """
        one, other = (
            '×'.join(str(side) for side in layer.energy.mean_map.shape)
            for layer in (self.first, self.second)
        )
        if one == other:
            return ''
        return (
            f'maps of {one} and {other}: what C1 and C2 measure depends on '
            'the grid, and their differences are left out'
        )


class LayerDifference(NamedTuple):
    """A statistic of a pair of layers."""

    first_layer: str  # name
    second_layer: str  # name
    statistic: str  # key of :data:`~.paired_statistics.STATISTICS`
    first: Estimate  # of the first network, with its bootstrap interval
    second: Estimate  # of the second
    #: First less second. The interval is normal, with the spread of the
    #: difference over the same resampled images for both; the p-value is
    #: two-sided. NaN where either is not defined, the p-value also where there
    #: is an obstacle.
    difference: Estimate
    corrected: float  # p-value after Holm, over all differences
    #: ``'higher'``, ``'lower'``, ``'no difference shown'``, or ``'undecided'``
    #: where there is an obstacle.
    verdict: str
    #: Why one of the networks, or both, cannot decide; otherwise empty.
    obstacle: str = ''

    @property
    def is_shown(self) -> bool:
        """Whether one of the networks is shown to have more."""
        return self.verdict in (HIGHER, LOWER)

    @property
    def words(self) -> str:
        """The verdict, and why it is undecided."""
        why = f' ({self.obstacle})' if self.obstacle else ''
        return f'{self.verdict}{why}'


class NetworkComparison(NamedTuple):
    """A second network beside the one that is analysed."""

    facts: Dict[str, str]  # of the second network
    pairs: List[LayerPair]  # from the largest map to the smallest
    findings: List[Finding]  # of the second network's layers, judged together
    differences: List[LayerDifference]  # layer by layer
    alpha: float  # of the differences' verdicts
    resamples: int  # of the bootstrap

    def rows(self, pair: LayerPair) -> List[LayerDifference]:
        """The differences of one pair of layers."""
        name = pair.first.name
        return [row for row in self.differences if row.first_layer == name]

    def titles(self, facts: Dict[str, str]) -> Tuple[str, str]:
        """Both networks' names, with their weights where the names are one."""
        first, second = facts, self.facts
        if first['network'] != second['network']:
            return first['network'], second['network']
        one, other = (
            f'{f["network"]} ({f["weights"]})' for f in (first, second)
        )
        return one, other


def match_layers(
    first: Sequence[LayerFinding], second: Sequence[LayerFinding]
) -> List[LayerPair]:
    """Layers of the same name, and the others by their order.

    Returns:
        List[LayerPair]: In the order of ``first``. Others are matched from the
        last backwards, for the last map is what networks have in common; of
        the network with more of them, the first have no partner.
    """
    by_name = {layer.name: layer for layer in second}
    names = {layer.name for layer in first} & set(by_name)
    unmatched = [layer for layer in first if layer.name not in names]
    candidates = [layer for layer in second if layer.name not in names]
    partner = {
        one.name: other for one, other in zip(unmatched[::-1], candidates[::-1])
    }
    partner.update({name: by_name[name] for name in names})
    return [
        LayerPair(
            layer,
            partner[layer.name],
            'name' if layer.name in names else 'order',
        )
        for layer in first
        if layer.name in partner
    ]


def _spread(draws: np.ndarray) -> float:
    draws = draws[np.isfinite(draws)]
    return float(draws.std(ddof=1)) if len(draws) > 1 else math.nan


def _normal(value: float, error: float) -> Estimate:
    """Normal interval and two-sided p-value about 0."""
    if not error > 1e-12 or not math.isfinite(value):
        return UNKNOWN._replace(value=value)
    half_width = NORMAL_QUANTILE * error
    pvalue = math.erfc(abs(value) / error / math.sqrt(2))
    return Estimate(value, value - half_width, value + half_width, pvalue)


def paired_difference(
    first: BootstrapStatistic, second: BootstrapStatistic
) -> Estimate:
    """First less second, over the same resampled images.

    Where either has an obstacle there is no p-value.
    """
    count = min(len(first.draws), len(second.draws))
    between = first.draws[:count] - second.draws[:count]
    estimate = _normal(first.value - second.value, _spread(between))
    if first.obstacle or second.obstacle:
        estimate = estimate._replace(pvalue=math.nan)
    return estimate


def _obstacle(first: BootstrapStatistic, second: BootstrapStatistic) -> str:
    obstacles = dict(first=first.obstacle, second=second.obstacle)
    return ', '.join(f'{name}: {why}' for name, why in obstacles.items() if why)


@checked()
def compare(
    facts: Dict[str, str],
    first: Survey,
    second: Survey,
    findings: Sequence[Finding],
    alpha: float,
    resamples: Count,
) -> NetworkComparison:
    """Match the layers and tell every statistic's difference.

    Args:
        facts (Dict[str, str]): Of the second network.
        first (Survey): With resampled maps.
        second (Survey): Of the same images, likewise.
        findings (Sequence[Finding]): Of the second network.
        alpha (float): Of the verdicts, after Holm.
        resamples (int): That both surveys made.

    Raises:
        ValueError: If the images are not the same.
    """
    if not np.array_equal(first.labels, second.labels):
        raise ValueError(
            '--against: the two configs prepare other images, or in another '
            'order; give both the same with --data FOLDER'
        )
    pairs = match_layers(first.layers[1:], second.layers[1:])
    labels = None if first.classes is None else first.labels
    classes = 1 if first.classes is None else len(first.classes)
    rows = []
    for pair in pairs:
        one, other = (
            statistics_of(layer, labels, classes) for layer in pair[:2]
        )
        for name, (claim, _) in STATISTICS.items():
            if pair.remark and claim in GRID_CLAIMS:
                continue
            if name in one and name in other:
                rows.append((pair, name, one[name], other[name]))
    estimates = [paired_difference(*row[2:]) for row in rows]
    corrected = holm(np.array([e.pvalue for e in estimates]))
    differences = [
        LayerDifference(
            pair.first.name,
            pair.second.name,
            name,
            _normal(one.value, _spread(one.draws)),
            _normal(other.value, _spread(other.draws)),
            estimate,
            float(pvalue),
            _verdict(estimate.value, pvalue, alpha, _obstacle(one, other)),
            _obstacle(one, other),
        )
        for (pair, name, one, other), estimate, pvalue in zip(
            rows, estimates, corrected
        )
    ]
    return NetworkComparison(
        facts, pairs, list(findings), differences, alpha, resamples
    )


def _verdict(value: float, pvalue: float, alpha: float, obstacle: str) -> str:
    # A difference without a known spread; none has none, and is none.
    unknown = math.isnan(value) or (math.isnan(pvalue) and value != 0)
    if obstacle or unknown:
        return UNDECIDED
    if not pvalue < alpha:
        return ALIKE
    return HIGHER if value > 0 else LOWER
