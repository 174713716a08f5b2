"""Class angles ``theta_c``: the U(1) labels."""

import logging
import math
import os
from contextlib import suppress
from typing import Any, Dict, Literal, Optional, Union

import torch
from torch import Tensor

from ..options import Count, Seed, checked, shown
from .base import ConstantCache, OptionalStateModule, tell_unread
from .data_files import FilePath, is_numbers, read_mapping
from .ordered import circular_order
from .targets import UNSMOOTHED, ClassPointTable, Smoothing, as_table

#: Angles are smaller, in radians.
_LARGEST = 1e6
_logger = logging.getLogger('u1_plugin')


def _read(file: Optional[FilePath], mode: str, expected: str) -> Dict[str, Any]:
    if file is None:
        raise ValueError(
            f'class_angles.file=None, but class_angles.mode={mode!r}; name a '
            f'JSON or YAML file that holds {expected}'
        )
    return read_mapping('class_angles.file', file, expected)


def _file_angles(file: Optional[FilePath]) -> Tensor:
    content = _read(file, 'file', '`class_angles`, a list of radians')
    rows = content.get('class_angles')
    angles = torch.tensor(math.nan)
    # Rows of different lengths, numbers beyond a float64.
    with suppress(OverflowError, RuntimeError, TypeError, ValueError):
        if is_numbers(rows):
            angles = torch.tensor(rows, dtype=torch.float64)
    # Of larger numbers, too few digits would be left of the angle.
    small = bool((angles.abs() < _LARGEST).all())
    if angles.ndim not in (1, 2) or not angles.numel() or not small:
        shape = f'is of shape {tuple(angles.shape)}'
        raise ValueError(
            f'class_angles.file={file!r}: `class_angles` must be a list of '
            'radians, one finite number a class (or a row of them, one a '
            f'winding), less than {_LARGEST:g} either way, but '
            f'{shape if angles.numel() else "is empty"}: {shown(rows)}'
        )
    return angles.reshape(len(angles), -1)


class ClassAngles(OptionalStateModule):
    """One angle a class and winding, kept in a buffer for checkpoints.

    Args:
        num_classes (int, optional): K >= 1. The branch passes the head's; with
            ``mode='file'`` the file's length serves.
        mode (str): ``'random'``: independent and uniform, from ``seed``;
            ``'uniform'``: ``2 pi c / K``; ``'file'``: read from ``file``;
            ``'ordered'``: uniform, with similar classes as neighbours, in the
            order that ``file`` gives rise to
            (:func:`~u1_plugin.nn.ordered.circular_order`).
        seed (int): Of ``'random'``, and of the classes' order in windings
            after the first. It does not touch torch's global generator, so
            every rank draws the same angles and a model's initial weights do
            not depend on them.
        file (str, optional): JSON or plain YAML, read as data. For ``'file'``:
            ``class_angles``, K radians in the order of the data set's classes,
            or K rows of one a winding. For ``'ordered'``: ``similarity``, K
            rows of K numbers >= 0, or ``hierarchy``, K lists of names from
            coarse to fine. It is read whenever the model is built, so that
            it belongs beside the config as a checkpoint does; a config for
            predictions alone may leave the branch out
            (``model.type='ImageClassifier'``, ``model.u1`` removed).
        windings (int): N; the angles of different windings are independent of
            each other. The branch passes the neck's.

    Raises:
        ValueError: If K is missing, not positive or not the file's.

    Examples:
        >>> from u1_plugin.nn import ClassAngles
        >>> ClassAngles(num_classes=4, mode='uniform').angles.rad2deg().round()
        tensor([  0.,  90., 180., 270.])
    """

    #: What a branch asks of its class angles.
    NEEDED = ('num_classes', 'table')

    angles: Tensor

    @checked('class_angles')
    def __init__(
        self,
        num_classes: Optional[Count] = None,
        mode: Literal['random', 'uniform', 'file', 'ordered'] = 'random',
        seed: Seed = 0,
        file: Union[None, str, os.PathLike[str]] = None,
        windings: Count = 1,
    ) -> None:
        super().__init__()
        if file is not None and mode not in ('file', 'ordered'):
            raise ValueError(
                f'class_angles.file={os.fspath(file)!r} is not read with '
                f"mode={mode!r}; set class_angles.mode='file' (or 'ordered'), "
                'or leave the file out'
            )
        angles = _file_angles(file) if mode == 'file' else None
        if num_classes is None and angles is not None:
            num_classes = len(angles)
        if num_classes is None:
            raise ValueError(
                'class_angles.num_classes=None must be the number of classes'
            )
        if mode == 'ordered':
            angles = _ordered_angles(file, num_classes)
        if angles is None or angles.size(1) < windings and mode != 'file':
            angles = _drawn(mode, angles, num_classes, windings, seed)
        if angles.shape != (num_classes, windings):
            raise ValueError(
                f'class_angles.file={file!r} holds {len(angles)} '
                f'angles of {angles.size(1)} winding(s), but the head has '
                f'num_classes={num_classes} and the neck {windings} winding(s);'
                ' measure the angles on the data set that the head is for'
            )
        if mode == 'file' or mode != 'random' and windings == 1:
            remedy = f'nothing is drawn with class_angles.mode={mode!r}'
            tell_unread('class_angles.seed', seed, 0, remedy)
        self.mode = mode
        angles = angles.remainder(2 * math.pi).float()
        angles = angles.to(torch.get_default_device())
        self.register_buffer(
            'angles', angles[:, 0] if windings == 1 else angles
        )
        self._constants = ConstantCache()
        self._table_of: Optional[Tensor] = None
        self._table_version: Optional[int] = None

    @property
    def num_classes(self) -> int:
        """Number of classes K."""
        return len(self.angles)

    @property
    def windings(self) -> int:
        """Number of windings N."""
        return 1 if self.angles.ndim == 1 else self.angles.size(1)

    def forward(self) -> Tensor:
        """``t_c = exp(i theta_c)``: ``(K, 2)``, or ``(K, N, 2)`` if N > 1."""
        return torch.stack([self.angles.cos(), self.angles.sin()], -1)

    def table(
        self, like: Tensor, smoothing: Smoothing = UNSMOOTHED
    ) -> ClassPointTable:
        """What :meth:`ClassTarget.pull` needs, kept for the next time.

        ``like`` gives the dtype, float32 or wider, and the device; see
        :func:`~u1_plugin.nn.targets.as_table`.
        """

        def make(dtype: torch.dtype, device: torch.device) -> Tensor:
            return as_table(self().to(device, dtype), smoothing).rows

        if torch.compiler.is_compiling():
            # What is kept would guard the graph, and compile it once more.
            return ClassPointTable(make(like.dtype, like.device), smoothing)
        # In-place changes (loading, hooks) count the version up; moving the
        # module makes another tensor. For `train` see there.
        if self.angles.is_inference():  # which counts nothing
            return ClassPointTable(make(like.dtype, like.device), smoothing)
        if self._table_of is not self.angles or (
            self._table_version != self.angles._version
        ):
            self._constants = ConstantCache()
            self._table_of = self.angles
            self._table_version = self.angles._version
        rows = self._constants.get(smoothing, like, make)
        return ClassPointTable(rows, smoothing)

    def train(self, mode: bool = True) -> 'ClassAngles':
        """Also notice what was written past the version, as EMA does."""
        self._table_of = None
        return super().train(mode)

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, '_table_of': None}

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Say so where a checkpoint's angles replace other ones."""
        loaded = state_dict.get(f'{prefix}angles')
        if loaded is not None:
            if not bool(torch.isfinite(loaded).all()):
                raise ValueError(
                    f'{prefix}angles of the checkpoint are not all finite; '
                    'train again, or remove the key from it'
                )
            if loaded.shape != self.angles.shape:
                _logger.warning(
                    'class_angles: the checkpoint has angles %s, this model '
                    '%s. They are not loaded; a loader that goes on after '
                    "that, as MMEngine's does, leaves this model its own.",
                    tuple(loaded.shape),
                    tuple(self.angles.shape),
                )
            elif not torch.equal(loaded.to(self.angles), self.angles):
                _logger.warning(
                    "class_angles: the checkpoint's angles differ from those "
                    'that the config gives (mode=%r). The checkpoint wins; '
                    "to keep the config's, remove the key %r from it.",
                    self.mode,
                    f'{prefix}angles',
                )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return f'num_classes={self.num_classes}, mode={self.mode!r}'


def _ordered_angles(file: Optional[FilePath], classes: int) -> Tensor:
    content = _read(file, 'ordered', '`similarity` or `hierarchy`')
    order = circular_order(content, classes, f'class_angles.file={file!r}')
    angles = torch.empty(classes, 1, dtype=torch.float64, device='cpu')
    angles[order, 0] = _uniform(classes)
    return angles


def _uniform(classes: int) -> Tensor:
    steps = torch.arange(classes, dtype=torch.float64, device='cpu')
    return steps * (2 * math.pi / classes)


def _drawn(
    mode: str, first: Optional[Tensor], classes: int, windings: int, seed: int
) -> Tensor:
    """Angles ``(K, N)`` of every winding, from one generator in turn."""
    # On the CPU, whatever the default is: one seed, the same angles anywhere.
    generator = torch.Generator().manual_seed(seed)
    columns = [] if first is None else [first[:, 0]]
    while len(columns) < windings:
        if mode == 'random':
            shares = torch.rand(
                classes,
                generator=generator,
                dtype=torch.float64,
                device='cpu',
            )
            column = shares * (2 * math.pi)
        elif not columns:
            column = _uniform(classes)
        else:  # the same angles, dealt to the classes in another order
            order = torch.randperm(classes, generator=generator, device='cpu')
            column = columns[0][order]
        columns.append(column)
    return torch.stack(columns, 1)
