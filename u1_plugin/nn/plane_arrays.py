"""Fitted arrays of a feature plane: of users' files, and of checkpoints."""

import logging
from typing import Optional

import torch
from torch import Tensor, nn

from ..geometry import orthonormal_basis
from .data_files import FilePath, read_array

FIELD = 'feature_plane'
#: Shorter parts of a row of norm 1 are rounding.
_FLAT = 1e-4
#: How far a checkpoint in half precision is from orthonormal rows.
_ROUNDED = 1e-2
_logger = logging.getLogger('u1_plugin')


def _file_array(file: Optional[FilePath], name: str, why: str) -> Tensor:
    if file is None:
        raise ValueError(
            f'{FIELD}.file=None, but {why}; name an .npz file '
            f'that holds {name!r}'
        )
    array = read_array(f'{FIELD}.file', file, name, why)
    start, expected = ((2,), '(2, C)') if name == 'basis' else ((), '(C,)')
    if array.shape[:-1] != start or not array.ndim or array.shape[-1] < 3:
        raise ValueError(
            f'{FIELD}.file={file!r}: {name!r} has shape {array.shape}; a '
            f'plane orthogonal to the medial vector needs {expected}, C >= 3'
        )
    return torch.from_numpy(array)


def file_basis(file: Optional[FilePath]) -> Tensor:
    """Two orthonormal rows ``(2, C)``, float32."""
    rows = _file_array(file, 'basis', "basis='pca'")
    # Whatever the rows' scales, and before anything over- or underflows.
    rows = rows / rows.abs().amax(1, keepdim=True).clamp_min(1e-300)
    across = rows - rows.mean(1, keepdim=True)
    lengths = across.norm(dim=1)
    if (lengths < _FLAT * rows.norm(dim=1).clamp_min(1e-300)).any():
        raise ValueError(
            f"{FIELD}.file={file!r}: a row of 'basis' is constant over the "
            'channels, so nothing of it is orthogonal to the medial vector; '
            'fit the plane again'
        )
    first, second = across / lengths[:, None]
    if (second - (second @ first) * first).norm() < _FLAT:
        raise ValueError(
            f"{FIELD}.file={file!r}: the rows of 'basis' are parallel but for "
            'the medial vector and span no plane; fit it again'
        )
    return orthonormal_basis(rows).float()


def file_center(file: Optional[FilePath]) -> Tensor:
    """The mean of unit vectors ``(C,)``, float32."""
    center = _file_array(file, 'center', "center='file'")
    if center.norm() > 1.001:
        raise ValueError(
            f"{FIELD}.file={file!r}: 'center' has the norm "
            f'{center.norm():.4g}, but a mean of normalised vectors has at '
            'most 1; fit it on vectors of norm 1'
        )
    return center.float()


def check_stored(key: str, loaded: Tensor, current: Tensor) -> None:
    """Whether a checkpoint's array can take the place of a plane's own.

    Args:
        key (str): Its name in the checkpoint, which ends in ``rows``,
            ``center`` or ``running_mean``.
        loaded (Tensor): That of the checkpoint.
        current (Tensor): That of the plane. A parameter is learned, and takes
            any rows. An array of a file is replaced with a warning.

    Raises:
        ValueError: If it is not finite, or rows are not orthonormal, which
            those of ``basis='learned'`` become where they are used.
    """
    if loaded.is_meta or current.is_meta:  # nothing to look at yet
        return
    if not bool(loaded.isfinite().all()):
        raise ValueError(
            f'{key} of the checkpoint is not finite; train again, or remove '
            'the key from it'
        )
    name = key.rpartition('.')[2]
    learns = isinstance(current, nn.Parameter) or name == 'running_mean'
    # Another shape is reported as that of any module is.
    if learns or loaded.shape != current.shape:
        return
    rounding = max(torch.finfo(loaded.dtype).eps, 1e-6)
    loaded = loaded.to(current)
    if name == 'rows':
        deviation = (orthonormal_basis(loaded) - loaded).abs().max()
        if deviation > _ROUNDED:
            raise ValueError(
                f'{key} of the checkpoint: these rows are not orthonormal, as '
                "those of basis='learned', but this plane has basis='pca'; "
                f'set {FIELD}.basis as it was trained, or remove the key'
            )
    if not torch.allclose(loaded, current, rtol=0, atol=rounding):
        _logger.warning(
            '%r of the checkpoint differs from that of %s.file. The '
            "checkpoint wins; to keep the file's, remove the key from it.",
            key,
            FIELD,
        )
