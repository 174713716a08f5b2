"""Moments ``z_f`` and ``z_xy``, and their angles ``theta``."""

from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from .directions import check_points, direction, weighted_mean
from .scales import (
    as_wide,
    check_real,
    scale_of,
    whole_number,
    without_autocast,
    working_dtype,
)

#: Modulus below which an image-plane moment is what float32 leaves of 0.
_ROUNDING = 1e-6


def feature_moment(
    vectors: Tensor, basis: Tensor, dim: int = -1, scaled: bool = False
) -> Tensor:
    """``z_f``: the vectors' coordinates in a plane of feature space.

    With :func:`~u1_plugin.geometry.fourier_basis` this is
    ``sum_c I_c exp(2 pi i c / C)``.

    Args:
        vectors (Tensor): Pooled vectors ``(B, C)``, maps ``(B, C, H, W)`` with
            ``dim=1``, or any shape with C channels in ``dim``.
        basis (Tensor): ``(2, C)``.
        dim (int): Channel dimension of ``vectors``.
        scaled (bool): Whether the vectors are of an ordinary size, so that no
            sum on the way can overflow.

    Returns:
        Tensor: ``vectors``' shape without ``dim``, then 2: ``[Re, Im]``.

    Raises:
        ValueError: If the channel numbers differ, or one is no tensor of real
            numbers with a dimension of channels.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import angle, feature_moment, fourier_basis
        >>> colours = torch.eye(3)  # red, green and blue
        >>> angle(feature_moment(colours, fourier_basis(3))).rad2deg().round()
        tensor([   0.,  120., -120.])
    """
    vectors = as_wide('vectors', vectors, dim)
    check_real('basis', basis, 1)
    if basis.ndim != 2:
        raise ValueError(
            f'basis has shape {tuple(basis.shape)}, but a plane is (2, C)'
        )
    if vectors.size(dim) != basis.size(1):
        raise ValueError(
            f'vectors have {vectors.size(dim)} channels (shape '
            f'{tuple(vectors.shape)}, dim={dim}) but the plane has '
            f"{basis.size(1)}; use a plane of the layer's channel number"
        )
    vectors = vectors.movedim(dim, -1)
    basis = basis.to(vectors).T
    with without_autocast(vectors.device):
        if scaled:
            return vectors @ basis
        scale = scale_of(vectors, -1)
        return (vectors / scale) @ basis * scale


def image_plane_basis(
    height: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    device: Optional[torch.device] = None,
    winding: int = 1,
) -> Tensor:
    """``exp(i n vartheta(x, y))`` of every pixel about the optical axis.

    The axis is ``((H-1)/2, (W-1)/2)``; x points right, y **up**; the axis
    pixel itself, if there is one, is 0.

    Args:
        height, width (int): ``H`` and ``W``.
        dtype, device: Of the result.
        winding (int): n >= 1.

    Returns:
        Tensor: ``(2, H, W)``: cosine and sine of ``n vartheta``.

    Raises:
        ValueError: If a number is no integer >= 1.
    """
    height = whole_number('height', height)
    width = whole_number('width', width)
    winding = whole_number('winding', winding)
    # Half floats know no pixel numbers beyond 256 or 2048.
    wide = working_dtype(dtype)
    x = torch.arange(width, dtype=wide, device=device) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, dtype=wide, device=device)
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'))
    # Off the axis, r >= 1/2; the clamp only turns the axis' 0/0 into 0.
    unit = grid / grid.square().sum(0).sqrt().clamp_min(0.25)
    turned = unit
    for _ in range(winding - 1):  # powers of a complex number, exactly
        turned = torch.stack(
            [
                turned[0] * unit[0] - turned[1] * unit[1],
                turned[0] * unit[1] + turned[1] * unit[0],
            ]
        )
    return turned.to(dtype)


def image_moment_basis(
    height: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    device: Optional[torch.device] = None,
    winding: int = 1,
) -> Tensor:
    """:func:`image_plane_basis` as rows ``(cos, sin, 1)`` of H W pixels."""
    basis = image_plane_basis(height, width, dtype, device, winding)
    return torch.cat([basis, torch.ones_like(basis[:1])]).flatten(1).T


def image_moment(
    energy: Tensor,
    winding: int = 1,
    basis: Optional[Tensor] = None,
    scaled: bool = False,
) -> Tensor:
    """``z_xy = sum E exp(i n vartheta) / sum E``, with n = 1 as a rule.

    Args:
        energy (Tensor): ``(..., H, W)``, >= 0.
        winding (int): n >= 1.
        basis (Tensor, optional): :func:`image_moment_basis` of this winding,
            size, dtype and device, for callers that keep it.
        scaled (bool): Whether the energies are of an ordinary size, see
            :func:`weighted_mean`.

    Returns:
        Tensor: ``(..., 2)``, modulus <= 1; 0 where the map has no energy.

    Raises:
        ValueError: If ``energy`` is complex or no map, or another option
            does not fit it.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import angle, image_moment
        >>> energy = torch.zeros(2, 5, 5)
        >>> energy[0, 2, 4] = energy[1, 0, 2] = 1.0  # right, above the axis
        >>> angle(image_moment(energy)).rad2deg().round()
        tensor([ 0., 90.])
    """
    energy = as_wide('energy', energy, -2, -1)
    if basis is None:
        height, width = energy.shape[-2:]
        basis = image_moment_basis(
            height, width, energy.dtype, energy.device, winding
        )
    weights = energy.flatten(-2)
    check_points('basis', basis, weights)
    return weighted_mean(weights, basis, scaled)


def without_rounding(moment: Tensor) -> Tensor:
    """Image-plane moments, 0 where they are rounding.

    Energy that is balanced about the optical axis has no direction, but sums
    of floating-point numbers leave one, and for equal maps the same one.

    Args:
        moment (Tensor): ``z_xy``, ``(..., 2)``, of modulus <= 1.
    """
    size = moment.norm(dim=-1, keepdim=True)
    return moment.masked_fill(size < _ROUNDING, 0.0)


def mirrored(
    moment: Tensor, flips: Tensor, windings: Sequence[int] = (1,)
) -> Tensor:
    """The image-plane moments of the images before they were mirrored.

    A horizontal flip sends ``theta`` to ``pi - theta`` and a vertical one to
    ``-theta``; the moment of winding n follows as ``exp(i n theta)`` does.

    Args:
        moment (Tensor): ``z``, ``(B, 2)``, or ``(B, N, 2)``.
        flips (Tensor): ``(B, 2)``, bool: horizontally, vertically; on the
            CPU, they keep no device waiting.
        windings (Sequence[int]): n, N of them.

    Returns:
        Tensor: As ``moment``.

    Raises:
        ValueError: If the shapes do not fit each other.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import mirrored
        >>> flipped = torch.tensor([[True, False]])  # horizontally
        >>> mirrored(torch.tensor([[0.6, 0.8]]), flipped)
        tensor([[-0.6000,  0.8000]])
    """
    moment = _as_moment(moment)
    check_real('flips', flips)
    if flips.shape != (*moment.shape[:1], 2) or flips.dtype != torch.bool:
        raise ValueError(
            f'flips has shape {tuple(flips.shape)} and type {flips.dtype}, '
            'but must be (B, 2), bool, for the moments of B images '
            f'{tuple(moment.shape)}'
        )
    listed = isinstance(windings, (list, tuple))
    if not listed or moment.shape[1:].numel() != 2 * len(windings):
        raise ValueError(
            f'windings={windings} must be a list of those of moment, whose '
            f'shape is {tuple(moment.shape)}, as (B, N, 2) of N windings'
        )
    windings = [whole_number('windings', winding) for winding in windings]
    # -1 for an image that was mirrored, without constants to copy to a GPU.
    horizontal, vertical = (1 - 2 * flips.to(moment)).unbind(1)
    both = horizontal * vertical
    factors = [
        torch.stack([horizontal, vertical], 1)
        if winding % 2
        else torch.stack([torch.ones_like(both), both], 1)
        for winding in windings
    ]
    return moment * torch.stack(factors, 1).view_as(moment)


def _as_moment(moment: Tensor) -> Tensor:
    moment = as_wide('moment', moment)
    if moment.shape[-1:] != (2,):
        raise ValueError(
            f'moment has shape {tuple(moment.shape)}, but must be (..., 2): '
            'real and imaginary part'
        )
    return moment


def angle(moment: Tensor) -> Tensor:
    """``theta = arg z``: moments ``(..., 2)`` to angles ``(...)``.

    Radians in ``[-pi, pi]``, float32 or wider; 0, with a finite gradient, for
    ``z = 0``; NaN where ``z`` is not finite.

    Raises:
        ValueError: If ``moment`` has another shape or is complex.
    """
    moment = _as_moment(moment)
    re, im = (moment / scale_of(moment, -1)).unbind(-1)
    is_zero = (re == 0) & (im == 0)
    return torch.atan2(im, torch.where(is_zero, 1.0, re))


def to_unit(
    moment: Tensor, eps: Union[float, Tensor] = 1e-3, scaled: bool = False
) -> Tensor:
    """``u = z / sqrt(|z|^2 + eps^2)``: the moment's direction.

    Args:
        moment (Tensor): ``z``, ``(..., 2)``.
        eps (float | Tensor): Modulus below which a direction fades to 0;
            bounds the gradient by ``1/eps``.
        scaled (bool): Whether the moments are of an ordinary size.

    Returns:
        Tensor: ``(..., 2)``, modulus < 1. Float32 or wider.

    Raises:
        ValueError: If ``moment`` has another shape or is complex.

    Examples:
        >>> import torch
        >>> from u1_plugin.geometry import to_unit
        >>> to_unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return direction(_as_moment(moment), eps, scaled)
