"""Follows the angle of every class, layer by layer, epoch by epoch."""

import math
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set

import numpy as np
import torch
from mmengine.runner import Runner

from ...measure.accumulators import AngleAccumulator
from ...measure.circular_tests import ClassAngleSummary
from ...measure.probe import ProbedLayer
from ...measure.probe_options import Layers, Orthant, Plane, Planes
from ...options import Count, checked
from ..angle_measure import (
    AngleMeasure,
    AngleOptions,
    AngleStats,
    collapse_values,
)
from ..classifiers import class_names
from ..layer_pictures import angle_picture
from ..symmetry_breaking import SymmetryBreaking
from .analysis_hook import AnalysisHook, step_of


class AngleStatsHook(AnalysisHook):
    """Circular mean, resultant length and Rayleigh test of every class.

    ``summary.json`` holds them class by class, for each layer and plane, with
    the drift since the validation before: how far each class's mean has
    turned, and its resultant length changed. The reference is part of the
    checkpoint, which is written before the validation of its own epoch: after
    a resume the first drift is ``since`` the validation before that, and is no
    scalar. Scalars under ``u1/LAYER/PLANE/``:

    - ``class_information``: mutual information of angle and class beyond its
      mean over permuted labels, as a share of the most that it can be
      (:func:`u1_plugin.measure.class_dependence`): about 0 where the angle
      says nothing of the class, 1 where it says the class. This is what a
      broken symmetry means; choose checkpoints by it, with a
      :class:`~u1_plugin.mm.symmetry_breaking.SymmetryBreaking` in the
      evaluator, which logs the numbers that this hook measures;
    - ``class_information_p``: its permutation p-value;
    - ``between_share``: how much of the variance of ``exp(i t)`` the angles of
      a class's other images predict;
    - ``resultant_length``: mean R of the classes, in ``[0, 1]``; high as well
      where all share one angle, which breaks no symmetry, so choose no
      checkpoint by it, and read it beside ``shared_length``, R of all images;
    - ``rayleigh_share``: share of the classes that the Rayleigh test finds
      not uniform, after Holm;
    - ``drift_angle`` (radians) and ``drift_length``: means over the classes
      of the moduli.

    And under ``u1/LAYER/`` the collapse of the layer's features, its map's
    mean over the pixels (:class:`~u1_plugin.measure.Collapse`): ``nc1``,
    ``cdnv`` and ``class_separation``.

    Args:
        layers, plane, feature_plane, orthant, token_grid: Of
            :class:`~u1_plugin.measure.Probe`.
        bins (int): Of the angle, for mutual information.
        permutations (int): Of the labels, every time.

    Raises:
        ValueError: If an option is out of its range; when a loop starts, if a
            layer is not in the model; later, if an image has no label of the
            data set's classes.
    """

    name = 'angles'

    @checked('AngleStatsHook')
    def __init__(
        self,
        layers: Layers = None,
        plane: Plane = 'joint',
        feature_plane: Planes = None,
        orthant: Optional[Orthant] = None,
        token_grid: Optional[str] = None,
        bins: Count = 36,
        permutations: Count = 199,
    ) -> None:
        super().__init__(layers, plane, feature_plane, orthant, token_grid)
        self.options = AngleOptions(
            layers,
            plane,
            feature_plane,
            orthant,
            token_grid,
            bins,
            permutations,
        )
        self._measures: List[AngleMeasure] = []
        self._followed: Set[str] = set()  # what this process has validated

    def _let_go(self) -> None:
        super()._let_go()
        for other in self._measures[1:]:
            other.probe.detach()
        self._measures = []

    def _start(self, runner: Runner, loader) -> None:
        metainfo = getattr(loader.dataset, 'metainfo', {})
        names = class_names(runner.model, metainfo)
        hook_measure = AngleMeasure(
            self._probe, names, self.options, self._data
        )
        self._measures = [hook_measure]
        for metric in self._served(runner):
            measure = hook_measure
            if not self.options.cover(metric.options):
                probe = metric.options.probe(runner.model, 'SymmetryBreaking')
                measure = AngleMeasure(probe, names, metric.options, self._data)
                self._measures.append(measure)
                probe.attach()
            metric.read(measure)

    def _served(self, runner: Runner) -> Iterator[SymmetryBreaking]:
        """The metrics of this loop that read this hook.

        Of several hooks, that is the first which measures what they ask for
        anyway, or otherwise the first.
        """
        loop = runner.val_loop if self._loop == 'val' else runner.test_loop
        hooks = [h for h in runner.hooks if isinstance(h, AngleStatsHook)]
        for metric in getattr(loop.evaluator, 'metrics', ()):
            if isinstance(metric, SymmetryBreaking):
                fit = [h for h in hooks if h.options.cover(metric.options)]
                if (fit or hooks)[0] is self:
                    yield metric

    def _update(
        self, samples: Sequence[Any], index: torch.Tensor, count: int
    ) -> None:
        for measure in self._measures:
            measure.update(samples, count)

    def _totals(self) -> Dict[ProbedLayer, AngleAccumulator]:
        return self._measures[0].totals()

    def _end(self, runner: Runner, loop: str) -> None:
        for measure in self._measures[1:]:
            measure.probe.detach()
        super()._end(runner, loop)
        self._measures = []

    def _report(
        self,
        runner: Runner,
        loop: str,
        totals: Dict[ProbedLayer, AngleAccumulator],
    ) -> None:
        measure = self._measures[0]
        sources, layers = {}, {}
        for source, stats in measure.stats().items():
            if stats.dependence is None:
                runner.logger.warning(f'class angles: {source} has no angle')
                continue
            report = describe_angles(stats, measure.names)
            values = _scalars(source, stats, report)
            if loop == 'val':
                drift = self._drift(runner, source, stats.summary)
                report['drift'] = drift
                if drift is not None and str(source) in self._followed:
                    values[f'{source}/drift_angle'] = drift['mean_angle']
                    values[f'{source}/drift_length'] = drift['mean_length']
                self._followed.add(str(source))
            sources[str(source)] = report
            self._scalars(runner, loop, values)
            figure = angle_picture(stats.summary, measure.names, str(source))
            self._picture(runner, loop, str(source), figure)
        for layer, collapse in measure.collapse().items():
            values = collapse_values(collapse)
            layers[layer] = dict(values, n=collapse.n)
            named = {f'{layer}/{name}': v for name, v in values.items()}
            self._scalars(runner, loop, named)
        content = dict(sources=sources, layers=layers)
        folder = self._write(runner, loop, content, totals)
        runner.logger.info(f'class angles: {folder}')

    def _drift(
        self, runner: Runner, source: ProbedLayer, summary: ClassAngleSummary
    ) -> Optional[dict]:
        """Since the validation before, which the message hub remembers."""
        key = f'{self._tag}_angles_{source}'
        previous = runner.message_hub.runtime_info.get(key)
        current = dict(
            step=step_of(runner)[1],
            mean=summary.mean.tolist(),
            length=summary.length.tolist(),
        )
        # The hub goes into checkpoints, so that a resumed run knows it.
        runner.message_hub.update_info(key, current)
        if previous is None or len(previous['mean']) != len(current['mean']):
            return None
        angle_change = summary.mean - np.array(previous['mean'])
        angle_change = np.angle(np.exp(1j * angle_change))
        length_change = summary.length - np.array(previous['length'])
        return dict(
            since=previous['step'],
            angle=angle_change,
            length=length_change,
            mean_angle=_mean_modulus(angle_change),
            mean_length=_mean_modulus(length_change),
        )


def _mean_modulus(values: np.ndarray) -> float:
    valid = values[~np.isnan(values)]
    return float(abs(valid).mean()) if len(valid) else math.nan


def describe_angles(stats: AngleStats, names: Sequence[str]) -> dict:
    """What ``summary.json`` says of a layer in a plane that has angles."""
    summary, dependence = stats.summary, stats.dependence
    columns = ('count', 'mean', 'half_width', 'length', 'pvalue', 'corrected')
    tested = ~np.isnan(summary.corrected)
    significant = summary.corrected[tested] < 0.05
    return dict(
        n=summary.n,
        skipped=summary.skipped,
        resultant_length=summary.resultant_length,
        shared_length=summary.shared_length,
        between_share=dependence.between_share,
        class_information=dependence.information_share,
        mutual_information=dependence.information,
        mutual_information_by_chance=dependence.chance,
        rayleigh_share=float(significant.mean()) if tested.any() else math.nan,
        classes=list(names),
        **{name: getattr(summary, name) for name in columns},
    )


def _scalars(
    source: ProbedLayer, stats: AngleStats, report: dict
) -> Dict[str, float]:
    values = dict(stats.values(), rayleigh_share=report['rayleigh_share'])
    return {f'{source}/{name}': value for name, value in values.items()}
