"""A plane of feature space with a centre: where ``theta_f`` is read."""

import os
from functools import partial
from typing import (
    Annotated,
    Any,
    Dict,
    Literal,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import torch
from torch import Tensor, nn

from .. import dist
from ..geometry import (
    direction,
    feature_moment,
    fourier_basis,
    orthonormal_basis,
    random_basis,
)
from ..geometry.scales import check_real
from ..options import Count, Range, Seed, Share, checked
from .base import ConstantCache, OptionalStateModule, tell_unread
from .data_files import FilePath
from .plane_arrays import FIELD, check_stored, file_basis, file_center

#: A plane orthogonal to the medial vector needs three.
_Channels = Annotated[int, Range(3, 2**31 - 1)]


def check_windings(
    field: str, windings: Union[int, Sequence[int]]
) -> Tuple[int, ...]:
    """Whole numbers >= 1 as a tuple, or a ValueError unless all differ."""
    is_sequence = isinstance(windings, (tuple, list))
    numbers: Any = windings if is_sequence else (windings,)
    if not numbers or len(set(numbers)) != len(numbers):
        raise ValueError(
            f'{field}={windings!r} must be different whole numbers >= 1, such '
            'as (1,) or (1, 2, 3)'
        )
    return tuple(map(int, numbers))


class FeaturePlane(OptionalStateModule):
    """Moments ``z_f`` of normalised, centred vectors in one plane.

    A vector ``v`` enters as ``v/|v|``, which turns no angle and makes ``|z|``
    comparable between layers; the centre is subtracted after that. A common
    offset otherwise rules the angle: every class of a trained network then
    shares nearly one hue.

    Args:
        in_channels (int, optional): C >= 3. Needed for state that depends on it
            (``basis='learned'``, ``center='running'``); checked if given.
        basis (str): ``'fourier'``, ``'random'``, ``'pca'`` (the array
            ``basis``, ``(2, C)``, of ``file``) or ``'learned'``.
        center (str): ``'none'``; ``'running'``: the running mean of the
            normalised vectors, reduced over ranks, updated in training only;
            ``'file'``: the array ``center``, ``(C,)``, of ``file``.
        file (str, optional): ``.npz`` file of the fitted arrays.
        seed (int): Of ``basis='random'`` and of the start of ``'learned'``.
        momentum (float): Of the running mean, in ``(0, 1]``. The first
            batches count equally until their share falls below it.
        windings (Sequence[int]): Of the Fourier plane: a moment for each.

    Raises:
        ValueError: If an option is unknown, a needed one is missing, or the
            file's arrays do not fit each other or ``in_channels``.

    Examples:
        >>> import torch
        >>> from u1_plugin.nn import FeaturePlane
        >>> plane = FeaturePlane(in_channels=8, center='running')
        >>> plane(torch.rand(4, 8)).shape
        torch.Size([4, 2])
    """

    rows: Tensor
    running_mean: Tensor
    num_batches_tracked: Tensor
    center: Tensor

    @checked(FIELD)
    def __init__(
        self,
        in_channels: Optional[_Channels] = None,
        basis: Literal['fourier', 'random', 'pca', 'learned'] = 'fourier',
        center: Literal['none', 'running', 'file'] = 'none',
        file: Union[None, str, os.PathLike[str]] = None,
        seed: Seed = 0,
        momentum: Share = 0.1,
        windings: Union[Count, Sequence[Count]] = (1,),
    ) -> None:
        super().__init__()
        self.windings = check_windings(f'{FIELD}.windings', windings)
        if basis != 'fourier' and self.windings != (1,):
            raise ValueError(
                f'{FIELD}.windings={self.windings} are planes of the Fourier '
                f'transform, but {FIELD}.basis={basis!r} is one plane; use '
                "windings=(1,) or basis='fourier'"
            )
        if file is not None and basis != 'pca' and center != 'file':
            raise ValueError(
                f'{FIELD}.file={os.fspath(file)!r} is not read with '
                f"basis={basis!r} and center={center!r}; set basis='pca' or "
                "center='file', or leave the file out"
            )
        for option, value in (('basis', basis), ('center', center)):
            if value in ('learned', 'running') and in_channels is None:
                raise ValueError(
                    f'{FIELD}.in_channels=None, but {option}={value!r} keeps '
                    "a state of the layer's channel number; set it"
                )
        if basis in ('fourier', 'pca'):
            remedy = f'nothing is drawn with {FIELD}.basis={basis!r}'
            tell_unread(f'{FIELD}.seed', seed, 0, remedy)
        if center != 'running':
            remedy = f"{FIELD}.center={center!r} has none; 'running' has"
            tell_unread(f'{FIELD}.momentum', momentum, 0.1, remedy)
        self.in_channels = in_channels
        self.basis_type = basis
        self.center_type = center
        self.seed = seed
        self.momentum = momentum
        self._constants = ConstantCache()
        self._build(in_channels or 0, file)

    def _build(self, channels: int, file: Optional[FilePath]) -> None:
        """Parameters and buffers, of C channels where that is asked for."""
        if self.basis_type == 'learned':
            # `random_basis` has a generator of its own: a learned plane must
            # not shift the initial weights of the rest of the model.
            self.rows = nn.Parameter(random_basis(channels, self.seed))
        elif self.basis_type == 'pca':
            rows = file_basis(file)
            self._check_channels(rows.size(1), file)
            self.register_buffer('rows', rows)
        if self.center_type == 'running':
            mean = torch.zeros(channels, dtype=torch.float32)
            self.register_buffer('running_mean', mean)
            self.register_buffer('num_batches_tracked', torch.tensor(0))
        elif self.center_type == 'file':
            center = file_center(file)
            self._check_channels(center.numel(), file)
            self.register_buffer('center', center)

    def _check_channels(
        self, channels: int, source: Optional[FilePath]
    ) -> None:
        """The first to name C decides; whoever disagrees is reported."""
        if self.in_channels is None:
            self.in_channels = channels
        elif channels != self.in_channels:
            raise ValueError(
                f'{FIELD}.file={source!r} is for {channels} '
                f'channels, but in_channels={self.in_channels}; '
                'fit the plane on the layer that it is used on'
            )

    def basis(self, vectors: Tensor) -> Tensor:
        """``(2 N, C)`` in the dtype and on the device of ``vectors``."""
        if self.basis_type in ('fourier', 'random'):
            channels = vectors.size(-1)
            return self._constants.get(
                channels, vectors, partial(self._fixed_basis, channels)
            )
        rows = self.rows.to(vectors)
        return orthonormal_basis(rows) if self.basis_type == 'learned' else rows

    def _fixed_basis(
        self, channels: int, dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        if self.basis_type == 'random':
            return random_basis(channels, self.seed, dtype, device)
        planes = [
            fourier_basis(channels, dtype, device, winding)
            for winding in self.windings
        ]
        return torch.cat(planes)

    @torch.no_grad()
    def _update_center(self, unit: Tensor) -> None:
        vectors = unit.detach().reshape(-1, unit.size(-1))
        # Zeros, as dead pixels of a ReLU, would draw the centre to 0.
        count = (vectors != 0).any(1).sum()
        total = torch.cat([vectors.sum(0).float(), count.float()[None]])
        if dist.get_world_size() > 1:  # each vector counts, on whatever rank
            total = dist.all_reduce_sum(total)
        mean = total[:-1] / total[-1]
        # Batches without a direction, or with NaN, are none.
        self.num_batches_tracked += mean.isfinite().any()
        share = 1 / self.num_batches_tracked.clamp(min=1)
        share = share.clamp(min=self.momentum)
        # A batch with NaN is reported by the head; the centre survives it.
        step = torch.where(mean.isfinite(), mean - self.running_mean, 0.0)
        self.running_mean += share * step

    def forward(self, vectors: Tensor, scaled: bool = False) -> Tensor:
        """Measure the moments.

        Args:
            vectors (Tensor): Pooled vectors ``(B, C)`` or those of pixels,
                ``(B, P, C)``, float32 or wider.
            scaled (bool): Whether they are of an ordinary size, see
                :func:`~u1_plugin.geometry.direction`.

        Returns:
            Tensor: ``z_f``, ``(B, 2)`` or ``(B, P, 2)``; with N > 1 windings
            ``(..., N, 2)``.

        Raises:
            ValueError: If C is not ``in_channels``, or these are no vectors.
        """
        check_real('vectors', vectors, -1)
        if self.in_channels not in (None, vectors.size(-1)):
            raise ValueError(
                f'{FIELD}.in_channels={self.in_channels}, but the layer has '
                f'{vectors.size(-1)} channels; set it to that'
            )
        unit = direction(vectors, scaled=scaled)
        if self.center_type == 'running':
            if self.training:
                self._update_center(unit)
            unit = unit - self.running_mean
        elif self.center_type == 'file':
            unit = unit - self.center
        moments = feature_moment(unit, self.basis(unit), scaled=True)
        several = len(self.windings) > 1
        return moments.unflatten(-1, (-1, 2)) if several else moments

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Refuse what is no plane; say if a file's arrays are replaced."""
        for name in ('rows', 'center', 'running_mean'):
            if prefix + name in state_dict and hasattr(self, name):
                loaded, current = state_dict[prefix + name], getattr(self, name)
                check_stored(prefix + name, loaded, current)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        return (
            f'in_channels={self.in_channels}, basis={self.basis_type!r}, '
            f'center={self.center_type!r}'
        )
