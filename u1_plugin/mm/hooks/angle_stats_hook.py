"""Follows the angle of every class, layer by layer, epoch by epoch."""

import math
from typing import Any, Dict, Optional, Sequence

import numpy as np
import torch
from mmengine.runner import Runner

from ...measure.accumulators import AngleAccumulator
from ...measure.circular_tests import ClassAngleSummary
from ...measure.information import class_dependence
from ...measure.probe import (
    Layers,
    Orthant,
    Plane,
    Planes,
    Source,
    class_labels,
)
from ...networks import unwrapped
from ...options import Count, checked
from ..pictures import angle_picture
from .analysis_hook import AnalysisHook, class_names, step_of


class AngleStatsHook(AnalysisHook):
    """Circular mean, resultant length and Rayleigh test of every class.

    ``summary.json`` holds them class by class, for each layer and plane, with
    the drift since the validation before: how far each class's mean has
    turned, and its resultant length changed. The reference is part of the
    checkpoint. Scalars under ``u1/LAYER/PLANE/``:

    - ``resultant_length``: mean R of the classes; high as well where all
      share one angle, so read it beside ``shared_length``, R of all images;
    - ``between_share`` and ``class_information``: how far the angle depends
      on the class, in shares of the circular variance and of the labels'
      entropy, adjusted for chance
      (:func:`u1_plugin.measure.class_dependence`);
    - ``class_information_p``: permutation p-value of the latter;
    - ``rayleigh_share``: share of the classes that the Rayleigh test finds
      not uniform, after Holm;
    - ``drift_angle`` (radians) and ``drift_length``: means over the classes
      of the moduli.

    Args:
        layers (str | Sequence[str], optional): Names of modules, such as
            ``'backbone.layer4'``. None: those of the model's U(1) branch, or
            without one the last map before pooling.
        plane (str): ``'feature'``, ``'image'`` or ``'joint'``: both.
        feature_plane (dict | Sequence[dict], optional): Config of
            ``FeaturePlane``, or one a layer. None: the branch's own for layers
            that it measures, the Fourier plane without a centre elsewhere.
        orthant (str, optional): ``rho``. None: the branch's, or ``'relu'``.
        token_grid (str, optional): For tokens, as in ``BottleneckAngleNeck``.
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
        self.bins, self.permutations = bins, permutations

    def _start(self, runner: Runner, loader) -> None:
        model = unwrapped(runner.model)
        metainfo = getattr(loader.dataset, 'metainfo', {})
        self._names = class_names(model, metainfo)
        self._angles = {
            source: AngleAccumulator(len(self._names), self.bins)
            for source in self._probe.sources
        }

    def _update(
        self, samples: Sequence[Any], index: torch.Tensor, count: int
    ) -> None:
        labels = class_labels(samples)
        if labels.min() < 0 or labels.max() >= len(self._names):
            raise ValueError(
                f'{self._data}: labels from {labels.min()} to {labels.max()}, '
                f'but {len(self._names)} classes; set its metainfo.classes to '
                'one name for each class'
            )
        for source, moments in self._probe.moments().items():
            own = self._first(moments, count, len(samples))
            self._angles[source].update(own, labels)

    def _sums(self) -> Dict[Source, AngleAccumulator]:
        return self._angles

    def _report(
        self, runner: Runner, loop: str, totals: Dict[Source, AngleAccumulator]
    ) -> None:
        sources = {}
        for source, total in totals.items():
            summary = total.summary()
            if not summary.n:  # dead maps, weights that are not finite
                runner.logger.warning(f'class angles: {source} has no angle')
                continue
            found = describe_angles(summary, self._names, self.permutations)
            if loop == 'val':
                found['drift'] = self._drift(runner, source, summary)
            sources[str(source)] = found
            self._scalars(runner, loop, _scalars(source, found))
            figure = angle_picture(summary, self._names, str(source))
            self._picture(runner, loop, str(source), figure)
        folder = self._write(runner, loop, dict(sources=sources), totals)
        runner.logger.info(f'class angles: {folder}')

    def _drift(
        self, runner: Runner, source: Source, summary: ClassAngleSummary
    ) -> Optional[dict]:
        """Since the validation before, which the message hub remembers."""
        key = f'{self._tag}_angles_{source}'
        before = runner.message_hub.runtime_info.get(key)
        now = dict(
            step=step_of(runner)[1],
            mean=summary.mean.tolist(),
            length=summary.length.tolist(),
        )
        # The hub goes into checkpoints, so that a resumed run knows it.
        runner.message_hub.update_info(key, now)
        if before is None or len(before['mean']) != len(now['mean']):
            return None
        turned = summary.mean - np.array(before['mean'])
        turned = np.angle(np.exp(1j * turned))
        grown = summary.length - np.array(before['length'])
        return dict(
            since=before['step'],
            angle=turned,
            length=grown,
            mean_angle=_mean_modulus(turned),
            mean_length=_mean_modulus(grown),
        )


def _mean_modulus(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(abs(known).mean()) if len(known) else math.nan


def describe_angles(
    summary: ClassAngleSummary, names: Sequence[str], permutations: int
) -> dict:
    """What ``summary.json`` says of a layer in a plane."""
    found = class_dependence(summary.table, permutations, resamples=100)
    columns = ('count', 'mean', 'half_width', 'length', 'pvalue', 'corrected')
    tested = ~np.isnan(summary.corrected)
    significant = summary.corrected[tested] < 0.05
    return dict(
        n=summary.n,
        skipped=summary.skipped,
        resultant_length=summary.resultant_length,
        shared_length=summary.shared_length,
        between_share=found.between_share._asdict(),
        class_information=found.information_share._asdict(),
        mutual_information=found.information,
        mutual_information_by_chance=found.chance,
        rayleigh_share=float(significant.mean()) if tested.any() else math.nan,
        classes=list(names),
        **{name: getattr(summary, name) for name in columns},
    )


def _scalars(source: Source, found: dict) -> Dict[str, float]:
    values = {
        name: found[name]
        for name in ('resultant_length', 'shared_length', 'rayleigh_share')
    }
    values['between_share'] = found['between_share']['value']
    values['class_information'] = found['class_information']['value']
    values['class_information_p'] = found['class_information']['pvalue']
    drift = found.get('drift')
    if drift is not None:
        values['drift_angle'] = drift['mean_angle']
        values['drift_length'] = drift['mean_length']
    return {f'{source}/{name}': value for name, value in values.items()}
