"""How far the angles of the classes differ, as a metric."""

import inspect
import math
from typing import Any, Dict, List, Literal, Optional, Sequence

import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from ..measure.accumulators import AngleAccumulator
from ..measure.circular_tests import ClassAngleSummary
from ..measure.information import class_dependence
from ..measure.probe import (
    Layers,
    Orthant,
    Plane,
    Planes,
    Probe,
    check_options,
    class_labels,
)
from ..options import Count, checked

_KEYS = (
    *('resultant_length', 'shared_length'),
    *('between_share', 'class_information'),
)


def _building_runner() -> Optional[Runner]:
    """The runner that is building its evaluator right now.

    MMEngine hands a metric the predictions and nothing of the network. Its
    runner is the caller, some frames up, which tells apart several runners in
    one process as no list of living objects could.
    """
    frame = inspect.currentframe()
    while frame is not None:
        owner = frame.f_locals.get('self')
        if isinstance(owner, Runner):
            return owner
        frame = frame.f_back
    return None


class _ProbeHook(Hook):
    """Attaches the metric's probe while a loop evaluates."""

    priority = 'LOW'  # after EMA has put its weights in place

    def __init__(self, metric: 'SymmetryBreaking') -> None:
        self.metric = metric

    def before_val_epoch(self, runner: Runner) -> None:
        self.metric.attach(runner.model)

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        self.metric.detach()

    def before_test_epoch(self, runner: Runner) -> None:
        self.metric.attach(runner.model)

    def after_test_epoch(self, runner: Runner, metrics=None) -> None:
        self.metric.detach()


class SymmetryBreaking(BaseMetric):
    """Resultant length, shared length and class information of the angles.

    Beside the accuracy::

        val_evaluator = [
            dict(type='Accuracy'),
            dict(type='SymmetryBreaking'),
        ]
        default_hooks = dict(
            checkpoint=dict(save_best='u1/between_share', rule='greater')
        )

    MMEngine knows the rule of its own metrics only, so ``rule`` must be given.

    Logged are, for one layer and plane, or under ``u1/LAYER/PLANE/`` for
    several:

    - ``u1/resultant_length``: mean R of the classes, in ``[0, 1]``. It is high
      as well where all classes share one angle, which breaks no symmetry;
    - ``u1/shared_length``: R of all images together, which tells;
    - ``u1/between_share``: share of the circular variance that the classes'
      means explain;
    - ``u1/class_information``: mutual information of angle and class, in
      shares of the labels' entropy. Both are adjusted for chance.

    All are NaN where no image has an angle (dead maps, weights not finite).

    A runner that builds the metric lets it read the network. An evaluator
    made by hand does not: call :meth:`attach` before the first batch.

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
        collect_device, prefix, collect_dir: As in every metric of MMEngine.

    Raises:
        ValueError: If an option is out of its range; when a loop starts, if a
            layer is not in the model; later, if an image has no class.
        RuntimeError: If no network is attached when predictions arrive.
    """

    default_prefix = 'u1'

    @checked('SymmetryBreaking')
    def __init__(
        self,
        layers: Layers = None,
        plane: Plane = 'feature',
        feature_plane: Planes = None,
        orthant: Optional[Orthant] = None,
        token_grid: Optional[str] = None,
        bins: Count = 36,
        permutations: Count = 199,
        collect_device: Literal['cpu', 'gpu'] = 'cpu',
        prefix: Optional[str] = None,
        collect_dir: Optional[str] = None,
    ) -> None:
        super().__init__(collect_device, prefix, collect_dir)
        check_options('SymmetryBreaking', layers, feature_plane)
        self._options = dict(
            layers=layers,
            plane=plane,
            feature_plane=feature_plane,
            orthant=orthant,
            token_grid=token_grid,
            field='SymmetryBreaking',
        )
        self.bins, self.permutations = bins, permutations
        self._probe: Optional[Probe] = None
        self._names: List[str] = []
        runner = _building_runner()
        if runner is not None:
            runner.register_hook(_ProbeHook(self))

    def attach(self, model: nn.Module) -> None:
        """Read this network from now on.

        Args:
            model (nn.Module): That gives the predictions.
        """
        self.detach()
        self._probe = Probe(model, **self._options)
        sources = self._probe.sources
        single = len(sources) == 1
        self._names = ['' if single else f'{source}/' for source in sources]
        self._probe.attach()

    def detach(self) -> None:
        """Leave the network as it was."""
        if self._probe is not None:
            self._probe.detach()
            self._probe = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep label and moments of every image of the batch.

        Args:
            data_batch: Not used.
            data_samples (Sequence[dict]): With ``gt_label``.
        """
        if self._probe is None:
            raise RuntimeError(
                'SymmetryBreaking has no network to read; let a Runner build '
                'the evaluator, or call attach(model) first'
            )
        labels = class_labels(data_samples)
        if labels.min() < 0:
            raise ValueError(
                f'SymmetryBreaking: an image has the label {labels.min()}, '
                'which is no class; leave out images without one'
            )
        moments = torch.stack(list(self._probe.moments().values()), 1).cpu()
        if len(moments) != len(labels):
            raise ValueError(
                f'SymmetryBreaking.layers={self._probe.layers} gave '
                f'{len(moments)} maps for {len(labels)} images; choose layers '
                'with one map an image'
            )
        # Numbers and no tensors: a pickled view carries its whole storage.
        self.results.extend(zip(labels.tolist(), moments.tolist()))

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """Of all images, each once.

        Args:
            results (list): Label and moments, ``(sources, 2)``, an image.
        """
        labels = torch.tensor([label for label, _ in results])
        moments = torch.tensor([moment for _, moment in results])
        metrics = {}
        for k, name in enumerate(self._names):
            angles = AngleAccumulator(int(labels.max()) + 1, self.bins)
            angles.update(moments[:, k], labels)
            values = self._values(angles.summary())
            metrics.update(
                {name + key: value for key, value in zip(_KEYS, values)}
            )
        return metrics

    def _values(self, summary: ClassAngleSummary) -> List[float]:
        if not summary.n:  # no image has an angle: dead maps, NaN weights
            return [math.nan] * len(_KEYS)
        found = class_dependence(summary.table, self.permutations, resamples=2)
        return [
            summary.resultant_length,
            summary.shared_length,
            found.between_share.value,
            found.information_share.value,
        ]
