"""What hook and metric say of angles and features, measured in one place."""

import math
from typing import Any, Dict, NamedTuple, Optional, Sequence

import numpy as np
from torch import nn

from ..geometry import pooled_vector
from ..measure.accumulators import AngleAccumulator
from ..measure.circular_tests import ClassAngleSummary
from ..measure.collapse import Collapse, CollapseAccumulator
from ..measure.information import Dependence, class_dependence
from ..measure.probe import Probe, ProbedLayer
from ..measure.probe_options import class_labels
from ..nn.bottleneck_angle_neck import PLANES

#: Of the bootstrap behind the intervals.
_RESAMPLES = 100


class AngleOptions(NamedTuple):
    """What is measured, as the config of a hook or metric has it.

    Attributes:
        layers, plane, feature_plane, orthant, token_grid: Of
            :class:`~u1_plugin.measure.Probe`.
        bins (int): Of the angle, for mutual information.
        permutations (int): Of the labels, every time.
    """

    layers: Any
    plane: str
    feature_plane: Any
    orthant: Optional[str]
    token_grid: Optional[str]
    bins: int
    permutations: int

    def cover(self, other: 'AngleOptions') -> bool:
        """Whether what the other asks for is measured with these."""
        measured, requested = (
            options._replace(
                layers=[options.layers]
                if isinstance(options.layers, str)
                else options.layers,
                plane=None,
            )
            for options in (self, other)
        )
        return measured == requested and set(PLANES[other.plane]) <= set(
            PLANES[self.plane]
        )

    def probe(self, model: nn.Module, field: str) -> Probe:
        """What reads the network, not attached yet."""
        options = self._asdict()
        for name in ('bins', 'permutations'):
            del options[name]
        return Probe(model, **options, field=field)


class AngleStats(NamedTuple):
    """What the angles of one layer in one plane say.

    Attributes:
        summary (ClassAngleSummary): Class by class.
        dependence (Dependence, optional): Of the angle on the class; None
            where no image has an angle: dead maps, weights not finite.
    """

    summary: ClassAngleSummary
    dependence: Optional[Dependence]

    def values(self) -> Dict[str, float]:
        """What hook and metric log; NaN where no image has an angle."""
        summary, dependence = self.summary, self.dependence
        if dependence is None:
            return dict.fromkeys(ANGLE_VALUES, math.nan)
        values = (
            dependence.information_share.value,
            dependence.information_share.pvalue,
            dependence.between_share.value,
            summary.resultant_length,
            summary.shared_length,
        )
        return dict(zip(ANGLE_VALUES, values))


ANGLE_VALUES = (
    *('class_information', 'class_information_p', 'between_share'),
    *('resultant_length', 'shared_length'),
)


def collapse_values(collapse: Collapse) -> Dict[str, float]:
    """What hook and metric log of a layer's features."""
    return dict(zip(('nc1', 'cdnv', 'class_separation'), collapse[1:]))


class AngleMeasure:
    """Angles and features of some layers, class by class, over one loop.

    A feature is the mean of the layer's map ``A`` over its pixels, ``(C,)``:
    after the last map and a global average pooling, what a linear classifier
    takes. An image with a feature that is not finite is left out of the
    collapse.

    Args:
        probe (Probe): Reads the layers.
        names (Sequence[str]): Of the K classes.
        options (AngleOptions): What ``probe`` was made with.
        data (str): Whose labels these are, for messages.
    """

    def __init__(
        self,
        probe: Probe,
        names: Sequence[str],
        options: AngleOptions,
        data: str = 'the data set',
    ) -> None:
        self.probe, self.names, self.options = probe, list(names), options
        self._data = data
        self._angles = {
            source: AngleAccumulator(len(self.names), options.bins)
            for source in probe.sources
        }
        self._features = {}
        if len(self.names) > 1:  # classes are measured against each other
            self._features = {
                layer: CollapseAccumulator(len(self.names))
                for layer in probe.layers
            }
        self._totals: Optional[Dict[ProbedLayer, AngleAccumulator]] = None
        self._stats: Optional[Dict[ProbedLayer, AngleStats]] = None
        self._collapse: Optional[Dict[str, Collapse]] = None

    def update(self, samples: Sequence[Any], count: int) -> None:
        """Add the latest batch.

        Args:
            samples (Sequence[DataSample | dict]): The first of its images, with
                ``gt_label``.
            count (int): Of all its images; those after ``samples`` are
                repetitions.

        Raises:
            ValueError: If an image has no label of the classes, or a layer
                not one map an image.
        """
        labels = class_labels(samples)
        if not len(labels):
            return
        if labels.min() < 0 or labels.max() >= len(self.names):
            raise ValueError(
                f'{self._data}: labels from {labels.min()} to {labels.max()}, '
                f'but {len(self.names)} classes; set its metainfo.classes to '
                'one name for each class'
            )
        kept = slice(len(labels))
        for source, moments in self.probe.moments().items():
            self.probe.check_count(len(moments), count)
            self._angles[source].update(moments[kept], labels)
        for layer, activation in self.probe.maps().items():
            self.probe.check_count(len(activation), count)
            if layer in self._features:
                features = pooled_vector(activation[kept])
                finite = features.isfinite().all(1)
                self._features[layer].update(
                    features[finite], labels[finite.cpu()]
                )

    def totals(self) -> Dict[ProbedLayer, AngleAccumulator]:
        """The sums of all ranks together, each of which must call this."""
        if self._totals is None:
            self._totals = {k: s.reduce() for k, s in self._angles.items()}
            features = {k: s.reduce() for k, s in self._features.items()}
            self._collapse = {k: _collapse_of(s) for k, s in features.items()}
        return self._totals

    def stats(self) -> Dict[ProbedLayer, AngleStats]:
        """The statistics of all ranks, computed once after :meth:`totals`."""
        if self._stats is None:
            self._stats = {
                source: self._stats_of(total)
                for source, total in self.totals().items()
            }
        return self._stats

    def collapse(self) -> Dict[str, Collapse]:
        """By layer, of all ranks together; after :meth:`totals`."""
        self.totals()
        return self._collapse

    def _stats_of(self, total: AngleAccumulator) -> AngleStats:
        summary = total.summary()
        dependence = None
        if summary.n:
            dependence = class_dependence(
                summary.table, self.options.permutations, _RESAMPLES
            )
        return AngleStats(summary, dependence)


def _collapse_of(total: CollapseAccumulator) -> Collapse:
    """The collapse of classes that have images; NaN for fewer than two."""
    count = total.state()['count'] if total.size is not None else np.zeros(1)
    if (count > 0).sum() < 2:
        return Collapse(int(count.sum()), *[math.nan] * 3)
    return total.summary(seen_only=True)
