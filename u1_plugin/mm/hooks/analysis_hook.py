"""What the hooks of the analysis share: when to measure, and where to write."""

import json
import math
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Dict,
    Optional,
    Sequence,
    Union,
)

import numpy as np
import torch
from mmengine.dist import get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ...files import new_folder
from ...measure.estimate import jsonable
from ...measure.probe import Probe
from ...measure.probe_options import check_options
from ...measure.sums import Accumulator
from ..layer_pictures import to_array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def free_folder(parent: Path, name: str) -> Path:
    """``parent/name``, or with ``-2``, ``-3``, ... if that exists."""
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f'{name}-{number}'
    return folder


class AnalysisHook(Hook):
    """Measures layers on the validation and test loops; off in training.

    Writes scalars and pictures through the runner's visualizer, so that every
    backend of MMEngine shows them, and a folder an epoch, at once or not at
    all, beside the log: ``u1/NAME_val_epoch_3/`` with ``summary.json`` and the
    sums, ``sums.npz``. Ranks add up exactly: samples that the sampler repeats
    to fill the last rank count once, as in MMEngine's metrics. A second hook
    of one class writes its scalars and pictures under ``u1-2/``, and so on.

    Args:
        layers, feature_plane, plane, orthant, token_grid: Of
            :class:`~u1_plugin.measure.Probe`.
    """

    priority = 'LOW'  # after EMA has put its weights in place

    #: Of folders and messages.
    name = ''

    def __init__(
        self,
        layers: Union[None, str, Sequence[str]] = None,
        plane: str = 'joint',
        feature_plane: Union[None, dict, Sequence[dict]] = None,
        orthant: Optional[str] = None,
        token_grid: Optional[str] = None,
    ) -> None:
        field = type(self).__name__
        check_options(field, layers, feature_plane)
        self._options = dict(
            layers=layers,
            plane=plane,
            feature_plane=feature_plane,
            orthant=orthant,
            token_grid=token_grid,
            field=field,
        )
        self._probe: Optional[Probe] = None
        self._tag = 'u1'

    def before_run(self, runner: Runner) -> None:
        """Detach, where a loop has raised and the runner goes again."""
        self._let_go()

    # MMEngine calls these for all loops.

    def _before_epoch(self, runner: Runner, mode: str = 'train') -> None:
        """Attach to the layers."""
        if mode != 'train':
            self._begin(runner, getattr(runner, f'{mode}_dataloader'), mode)

    def _after_iter(
        self,
        runner,
        batch_idx,
        data_batch=None,
        outputs=None,
        mode: str = 'train',
    ) -> None:
        """Add the batch."""
        if mode != 'train':
            self._measure(data_batch, outputs)

    def _after_epoch(self, runner: Runner, mode: str = 'train') -> None:
        """Detach, add up over ranks and write."""
        if mode != 'train':
            self._end(runner, mode)

    def _begin(self, runner: Runner, loader, loop: str) -> None:
        self._let_go()
        self._probe = Probe(runner.model, **self._options)
        self._loop, self._data = loop, f'{loop}_dataloader.dataset'
        self._tag = self._numbered_tag(runner)
        self._size = len(loader.dataset)
        self._seen = 0
        self._start(runner, loader)
        self._probe.attach()

    def _let_go(self) -> None:
        """Detach what an interrupted epoch has left attached."""
        if self._probe is not None:
            self._probe.detach()
        self._probe = None

    def _numbered_tag(self, runner: Runner) -> str:
        """``'u1'``, or for a further hook of this class ``'u1-2'`` ..."""
        alike = [hook for hook in runner.hooks if type(hook) is type(self)]
        place = alike.index(self) if self in alike else 0
        return f'u1-{place + 1}' if place else 'u1'

    def _measure(self, batch: Any, outputs: Sequence[Any]) -> None:
        if self._probe is None:  # it is over: MMPretrain's EMAHook goes again
            return
        rank, world = get_dist_info()
        place = torch.arange(self._seen, self._seen + len(outputs))
        self._seen += len(outputs)
        # The order in which DefaultSampler deals images to ranks, and in
        # which MMEngine's collect_results puts them together again: what
        # exceeds the data set is a repetition.
        index = place * world + rank
        index = index[index < self._size]
        if len(index):
            self._batch = batch
            self._update(outputs[: len(index)], index, len(outputs))
            self._batch = None
        self._probe.end_batch()

    def _end(self, runner: Runner, loop: str) -> None:
        self._probe.detach()
        totals = self._totals()
        if is_main_process():
            self._report(runner, loop, totals)
        self._probe = None

    def _start(self, runner: Runner, loader) -> None:
        raise NotImplementedError

    def _update(
        self, samples: Sequence[Any], index: torch.Tensor, count: int
    ) -> None:
        """Add the first ``samples`` of a batch of ``count``."""
        raise NotImplementedError

    def _totals(self) -> Dict[Any, Accumulator]:
        """Sums of all ranks together."""
        raise NotImplementedError

    def _report(self, runner: Runner, loop: str, totals: dict) -> None:
        raise NotImplementedError

    def _write(
        self,
        runner: Runner,
        loop: str,
        summary: dict,
        totals: Dict[str, Accumulator],
    ) -> Path:
        """``summary`` and ``sums.npz``, with keys ``LAYER/.../SUM``."""
        unit, step = step_of(runner)
        folder = free_folder(
            Path(runner.log_dir) / 'u1', f'{self.name}_{loop}_{unit}_{step}'
        )
        arrays = {
            f'{key}/{name}': value
            for key, total in totals.items()
            for name, value in total.state().items()
        }
        content = dict({'loop': loop, unit: step}, **summary)
        with new_folder(folder) as part:
            np.savez_compressed(part / 'sums.npz', **arrays)
            (part / 'summary.json').write_text(
                json.dumps(jsonable(content), indent=2, allow_nan=False)
            )
        return folder

    def _scalars(
        self, runner: Runner, loop: str, values: Dict[str, float]
    ) -> None:
        """Show what is finite, under ``u1/`` or, in a test, ``u1_test/``."""
        prefix = self._tag if loop == 'val' else f'{self._tag}_test'
        runner.visualizer.add_scalars(
            {
                f'{prefix}/{key}': float(value)
                for key, value in values.items()
                if math.isfinite(value)
            },
            step=step_of(runner)[1],
        )

    def _picture(
        self, runner: Runner, loop: str, key: str, figure: 'Figure'
    ) -> None:
        """Show a figure; its name must not look like a path."""
        name = f'{self._tag}_{self.name}_{loop}_{key}'.replace('/', '_')
        runner.visualizer.add_image(
            name, to_array(figure), step=step_of(runner)[1]
        )


def step_of(runner: Runner) -> tuple:
    """``('epoch', 3)``, or ``('iter', 2000)`` in training by iterations.

    A test, which has not begun to train, is at epoch 0.
    """
    loop = runner._train_loop  # `runner.train_loop` would build it
    if loop is None or isinstance(loop, dict):
        return 'epoch', 0
    if isinstance(loop, IterBasedTrainLoop):
        return 'iter', runner.iter
    return 'epoch', runner.epoch
