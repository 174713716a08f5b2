"""Planes of feature space orthogonal to the medial vector ``m``.

A basis is ``(2, C)``: its rows are the real and the imaginary axis. Orthogonal
to ``m = (1, ..., 1)/sqrt(C)`` means that each row sums to zero, so adding a
constant to every channel (more light, same colour) moves no angle.
"""

import math
from typing import Optional

import torch
from torch import Tensor

from .scales import (
    as_wide,
    scale_of,
    whole_number,
    without_autocast,
    working_dtype,
)


def _check_channels(channels: int) -> int:
    channels = whole_number('channels', channels)
    if channels < 3:
        raise ValueError(
            f'channels={channels}: a plane orthogonal to the medial vector '
            'needs at least 3 channels; choose a layer with more channels'
        )
    return channels


def fourier_basis(
    channels: int,
    dtype: torch.dtype = torch.float32,
    device: Optional[torch.device] = None,
    winding: int = 1,
) -> Tensor:
    """Rows ``cos(2 pi n c / C)`` and ``sin(2 pi n c / C)`` of winding n.

    With ``C = 3`` this is the circular hue of colour science:
    ``z_f = R - (G + B)/2 + i sqrt(3)/2 (G - B)``.

    Args:
        channels (int): ``C`` >= 3.
        dtype, device: Of the result.
        winding (int): n, from 1 to less than C/2: rolling the channels by k
            turns the angle by ``2 pi n k / C``.

    Returns:
        Tensor: ``(2, C)``; rows orthogonal, each of norm ``sqrt(C/2)``.

    Raises:
        ValueError: If ``channels`` < 3 or ``winding`` has no plane.
    """
    channels = _check_channels(channels)
    winding = whole_number('winding', winding)
    if 2 * winding >= channels:
        raise ValueError(
            f'winding={winding}: {channels} channels have planes of the '
            f'windings 1..{(channels - 1) // 2}; choose one of them'
        )
    # Half floats know no channel numbers beyond 256 or 2048.
    wide = working_dtype(dtype)
    phase = torch.arange(channels, dtype=wide, device=device)
    # Modulo C first: n*c grows, and large phases lose digits in float32.
    phase = (phase * winding).remainder(channels) * (2 * math.pi / channels)
    return torch.stack([phase.cos(), phase.sin()]).to(dtype)


def orthonormal_basis(rows: Tensor) -> Tensor:
    """Project two rows orthogonal to ``m``, then to each other (Gram-Schmidt).

    Rows ``(2, C)``, not parallel once their means are removed, become
    orthonormal, and each sums to 0. Differentiable, so that a learned plane
    stays a plane after every step.

    Raises:
        ValueError: If ``rows`` is not ``(2, C)`` with ``C`` >= 3.
    """
    rows = as_wide('rows', rows)
    if rows.ndim != 2 or rows.size(0) != 2:
        raise ValueError(
            f'rows.shape={tuple(rows.shape)}: a plane has two rows, (2, C)'
        )
    _check_channels(rows.size(1))
    rows = rows / scale_of(rows, 1)
    rows = rows - rows.mean(1, keepdim=True)
    tiny = torch.finfo(rows.dtype).tiny
    first = rows[0] / rows[0].norm().clamp_min(tiny)
    with without_autocast(rows.device):
        second = rows[1] - (rows[1] @ first) * first
        # Once more: one pass leaves an error that grows with their likeness.
        second = second - (second @ first) * first
    return torch.stack([first, second / second.norm().clamp_min(tiny)])


def _random_basis_cpu(channels: int, seed: int) -> Tensor:
    # A generator of its own: the global one must give the one-hot twin of a
    # U(1) model the same initial weights, and every rank the same plane.
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(
        *(2, channels),
        generator=generator,
        dtype=torch.float64,
        device='cpu',  # whatever the default is
    )
    return orthonormal_basis(rows)


def random_basis(
    channels: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: Optional[torch.device] = None,
) -> Tensor:
    """An orthonormal plane orthogonal to ``m``, uniform among such planes.

    Args:
        channels (int): ``C`` >= 3.
        seed (int): Same seed, same plane, on every rank and machine.
        dtype, device: Of the result.

    Returns:
        Tensor: ``(2, C)``.

    Raises:
        ValueError: If ``channels`` < 3 or an option is out of its range.

    Examples:
        >>> from u1_plugin.geometry import random_basis
        >>> plane = random_basis(channels=8, seed=1)
        >>> plane.shape, (plane @ plane.T).round().abs()
        (torch.Size([2, 8]), tensor([[1., 0.],
                [0., 1.]]))
    """
    seed = whole_number('seed', seed, 0)
    basis = _random_basis_cpu(_check_channels(channels), seed)
    if device is None:
        device = torch.get_default_device()
    return basis.to(dtype=dtype, device=device)


def pca_basis(vectors: Tensor) -> Tensor:
    """Top two principal directions of the vectors' part orthogonal to ``m``.

    Of ``(N, C)``, N >= 3, centred inside: ``(2, C)``, orthonormal. The entry of
    largest modulus in each row is positive, which fixes the sign that PCA
    leaves open.

    Raises:
        ValueError: If there are fewer than 3 vectors or channels.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import pca_basis
        >>> pca_basis(torch.randn(20, 8)).shape
        torch.Size([2, 8])
    """
    vectors = as_wide('vectors', vectors)
    if vectors.ndim != 2 or vectors.size(0) < 3:
        raise ValueError(
            f'vectors.shape={tuple(vectors.shape)}: PCA of a '
            'plane needs at least 3 vectors, (N, C)'
        )
    _check_channels(vectors.size(1))
    vectors = vectors / scale_of(vectors, (0, 1))
    across = vectors - vectors.mean(1, keepdim=True)
    across = across - across.mean(0, keepdim=True)
    rows = torch.linalg.svd(across, full_matrices=False).Vh[:2]
    peak = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    # Rounding leaves a trace of m in the rows; the projection removes it.
    return orthonormal_basis(torch.where(peak < 0, -rows, rows))
