"""Moments ``z_f`` and ``z_xy``, and their angles ``theta``."""

from typing import Optional, Sequence, Union

import torch
from torch import Tensor

from .directions import direction, weighted_mean
from .energy import working_dtype
from .scales import scale_of


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
        ValueError: If the channel numbers differ.
    """
    if vectors.size(dim) != basis.size(1):
        raise ValueError(
            f'vectors have {vectors.size(dim)} channels (shape '
            f'{tuple(vectors.shape)}, dim={dim}) but the plane has '
            f"{basis.size(1)}; use a plane of the layer's channel number"
        )
    vectors = vectors.to(working_dtype(vectors.dtype)).movedim(dim, -1)
    basis = basis.to(vectors).T
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
        height (int): ``H``.
        width (int): ``W``.
        dtype (torch.dtype): Of the result.
        device (torch.device, optional): Of the result.
        winding (int): n >= 1.

    Returns:
        Tensor: ``(2, H, W)``: cosine and sine of ``n vartheta``.
    """
    x = torch.arange(width, dtype=dtype, device=device) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, dtype=dtype, device=device)
    grid = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width)]
    )
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
    return turned


def image_moment_basis(
    height: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    device: Optional[torch.device] = None,
    winding: int = 1,
) -> Tensor:
    """:func:`image_plane_basis` as rows ``(cos, sin, 1)`` of the pixels.

    Args:
        height, width, dtype, device, winding: As there.

    Returns:
        Tensor: ``(H W, 3)``.
    """
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
    """
    energy = energy.to(working_dtype(energy.dtype))
    if basis is None:
        basis = image_moment_basis(
            *energy.shape[-2:], energy.dtype, energy.device, winding
        )
    return weighted_mean(energy.flatten(-2), basis, scaled)


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
    """
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


def angle(moment: Tensor) -> Tensor:
    """``theta = arg z``.

    Args:
        moment (Tensor): ``(..., 2)``.

    Returns:
        Tensor: ``(...)``, radians in ``[-pi, pi]``; 0, with a finite
        gradient, for ``z = 0``; NaN where ``z`` is not finite.
    """
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
        Tensor: ``(..., 2)``, modulus < 1.
    """
    return direction(moment, eps, scaled)
