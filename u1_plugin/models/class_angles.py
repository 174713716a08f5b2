"""Class angles ``theta_c``: the U(1) labels."""

import math
from typing import Optional

import mmengine
import torch
from mmpretrain.registry import MODELS
from torch import Tensor

from .base import OptionalStateModule, check_choice


def _file_angles(file: Optional[str]) -> Tensor:
    if file is None:
        raise ValueError(
            "class_angles.file=None, but class_angles.mode='file'"
            '; name a JSON or YAML file that holds '
            '`class_angles`, a list of radians'
        )
    try:
        content = mmengine.load(file)
        angles = torch.tensor(content['class_angles'], dtype=torch.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'class_angles.file={file!r} holds no list of '
            f'radians under `class_angles`: {error}'
        ) from error
    if angles.ndim != 1 or not angles.isfinite().all():
        raise ValueError(
            f'class_angles.file={file!r}: `class_angles` must be '
            'one finite number of radians a class, but its shape '
            f'is {tuple(angles.shape)} and its values are '
            f'{angles.tolist()}'
        )
    return angles


@MODELS.register_module()
class ClassAngles(OptionalStateModule):
    """One angle a class, kept in a buffer so that checkpoints carry it.

    Args:
        num_classes (int, optional): K >= 1. :class:`U1ClsHead` passes its own
            head's; with ``mode='file'`` the file's length serves.
        mode (str): ``'random'``: independent and uniform, from ``seed``;
            ``'uniform'``: ``2 pi c / K``; ``'file'``: read from ``file``.
        seed (int): Of ``mode='random'``. It does not touch torch's global
            generator, so every rank draws the same angles and a model's
            initial weights do not depend on them.
        file (str, optional): JSON or YAML file with ``class_angles``: K
            radians, in the order of the data set's classes.

    Raises:
        ValueError: If K is missing, not positive or not the file's.
    """

    def __init__(
        self,
        num_classes: Optional[int] = None,
        mode: str = 'random',
        seed: int = 0,
        file: Optional[str] = None,
    ) -> None:
        super().__init__()
        check_choice('class_angles.mode', mode, ('random', 'uniform', 'file'))
        angles = _file_angles(file) if mode == 'file' else None
        if num_classes is None and angles is not None:
            num_classes = len(angles)
        if num_classes is None or num_classes < 1:
            raise ValueError(
                f'class_angles.num_classes={num_classes} must be '
                'the positive number of classes'
            )
        if mode == 'random':
            generator = torch.Generator().manual_seed(seed)
            angles = torch.rand(
                num_classes, generator=generator, dtype=torch.float64
            ) * (2 * math.pi)
        elif mode == 'uniform':
            angles = torch.arange(num_classes, dtype=torch.float64) * (
                2 * math.pi / num_classes
            )
        elif len(angles) != num_classes:
            raise ValueError(
                f'class_angles.file={file!r} holds {len(angles)} '
                f'angles, but the head has num_classes='
                f'{num_classes}; measure the angles on the data '
                'set that the head is for'
            )
        self.mode = mode
        self.register_buffer('angles', angles.remainder(2 * math.pi).float())

    @property
    def num_classes(self) -> int:
        """K."""
        return self.angles.numel()

    def forward(self) -> Tensor:
        """``t_c = exp(i theta_c)``: ``(K, 2)``, unit rows."""
        return torch.stack([self.angles.cos(), self.angles.sin()], -1)

    def extra_repr(self) -> str:
        return f'num_classes={self.num_classes}, mode={self.mode!r}'
