"""How far the angles of the classes differ, as a metric."""

from typing import Any, Dict, List, Literal, Optional, Sequence

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.evaluator import BaseMetric
from torch import nn

from ..measure.probe_options import (
    Layers,
    Orthant,
    Plane,
    Planes,
    check_options,
)
from ..nn.bottleneck_angle_neck import PLANES
from ..options import Count, checked
from .angle_measure import AngleMeasure, AngleOptions, collapse_values
from .classifiers import class_names


class SymmetryBreaking(BaseMetric):
    """Class information of the angles, and collapse of the features.

    It logs beside the accuracy, and so that ``save_best`` finds it, what an
    :class:`~u1_plugin.mm.hooks.angle_stats_hook.AngleStatsHook` measures; a
    config stands in ``docs/analysis.md``. MMEngine knows the rule of its own
    metrics only, so ``rule='greater'`` must be given. One such hook is enough,
    whatever its options: where the metric's are not among the hook's, the hook
    measures them as well.

    Logged are the hook's scalars but for ``rayleigh_share`` and the drift: for
    one layer and plane as ``u1/class_information``, for several under
    ``u1/LAYER/PLANE/``; and the collapse, for one layer as ``u1/nc1``, under
    ``u1/LAYER/`` for several layers or planes.

    All are NaN where no image has an angle (dead maps, weights not finite).
    MMPretrain's ``EMAHook`` with ``evaluate_on_origin`` evaluates twice; these
    are of the first time, with the averaged weights.

    A Runner without that hook, and an evaluator made by hand, must call
    :meth:`attach` before the first batch.

    Args:
        layers, feature_plane, orthant, token_grid: Of
            :class:`~u1_plugin.measure.Probe`.
        plane (str): ``'feature'``, ``'image'`` or ``'joint'``. It is not taken
            from the model's U(1) branch: name the one that is trained.
        bins (int): Of the angle, for mutual information.
        permutations (int): Of the labels, every time.
        collect_device, collect_dir: Taken as by every metric of MMEngine, and
            not needed: sums are added up, no results collected.
        prefix (str, optional): As in every metric of MMEngine.

    Raises:
        ValueError: If an option is out of its range; when a loop starts, if a
            layer is not in the model; later, if an image has no class.
        RuntimeError: If nothing measures when predictions arrive.
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
        self.options = AngleOptions(
            layers,
            plane,
            feature_plane,
            orthant,
            token_grid,
            bins,
            permutations,
        )
        self._measure: Optional[AngleMeasure] = None
        self._is_own = False  # attached by hand
        self._has_read = False

    def attach(self, model: nn.Module) -> None:
        """Read this network from now on; for evaluations made by hand.

        Args:
            model (nn.Module): That gives the predictions.

        Raises:
            ValueError: If a layer is not in the model, or neither the data
                set's ``classes`` nor the model's head say how many classes
                there are.
        """
        self.detach()
        probe = self.options.probe(model, 'SymmetryBreaking')
        names = class_names(model, self.dataset_meta or {})
        self._measure = AngleMeasure(probe, names, self.options)
        self._is_own = True
        probe.attach()

    def detach(self) -> None:
        """Leave the network as it was."""
        if self._is_own:
            self._measure.probe.detach()
            self._measure, self._is_own = None, False

    def read(self, measure: AngleMeasure) -> None:
        """Take the numbers of the next evaluation from here.

        Args:
            measure (AngleMeasure): Of at least the metric's own layers and
                planes. Whoever made it updates it.
        """
        self.detach()
        self._measure, self._has_read = measure, False

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Measure a batch, where :meth:`attach` was called; else the hook does.

        Args:
            data_batch: Not used.
            data_samples (Sequence[dict]): With ``gt_label``.
        """
        if self._is_own:
            self._measure.update(data_samples, len(data_samples))
        elif self._measure is None and not self._has_read:
            raise RuntimeError(
                'SymmetryBreaking has nothing that measures for it; add '
                "dict(type='AngleStatsHook') to custom_hooks, or call "
                'attach(model) first'
            )

    def evaluate(self, size: int) -> Dict[str, float]:
        """Return the metrics of all images, each counted once.

        Args:
            size (int): Images of the data set.

        Raises:
            ValueError: If more were measured: ranks that share a data set see
                some images twice, which a hook knows and :meth:`attach` not.
        """
        measure = self._measure
        if measure is None:
            return {}  # a second time in one epoch
        totals = measure.totals()  # by all ranks
        metrics: List[Any] = [None]
        if is_main_process():
            values = self.compute_metrics([measure])
            if self.prefix:
                values = {f'{self.prefix}/{k}': v for k, v in values.items()}
            metrics = [values]
        broadcast_object_list(metrics)
        if self._is_own:
            self._go_on()
            total = next(iter(totals.values()))
            state = total.state()
            count = int(state['table'].sum() + state['skipped'])
            if count > size:
                raise ValueError(
                    f'SymmetryBreaking has seen {count} images of {size}; add '
                    "dict(type='AngleStatsHook') to custom_hooks, which counts "
                    'each image once'
                )
        else:
            self._measure, self._has_read = None, True
        return metrics[0]

    def _go_on(self) -> None:
        """The next evaluation begins anew."""
        old = self._measure
        self._measure = AngleMeasure(old.probe, old.names, self.options)

    def compute_metrics(self, results: list) -> Dict[str, float]:
        """The values of the metric's own layers and planes.

        Args:
            results (list): One :class:`AngleMeasure`.
        """
        (measure,) = results
        stats = {
            source: angle_stats
            for source, angle_stats in measure.stats().items()
            if source.plane in PLANES[self.options.plane]
        }
        single = len(stats) == 1

        def named(owner: Any, values: Dict[str, float]) -> Dict[str, float]:
            start = '' if single else f'{owner}/'
            return {start + name: value for name, value in values.items()}

        metrics: Dict[str, float] = {}
        for source, angle_stats in stats.items():
            metrics.update(named(source, angle_stats.values()))
        for layer, collapse in measure.collapse().items():
            metrics.update(named(layer, collapse_values(collapse)))
        return metrics
