"""Bottleneck pixels: their vectors, and where and whose they are."""

from typing import Callable, Literal, NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..geometry import angle, energy, image_moment, pooled_vector
from ..geometry.scales import check_real
from ..networks import just_evaluating
from ..options import Count, checked
from .float64 import total


class Pixels(NamedTuple):
    """Bottleneck pixels, or whole images in pooled mode.

    Attributes:
        vectors (Tensor): ``I(x, y)``, ``(N, C)``, float32.
        labels (Tensor): Class of the pixel's image, ``(N,)``, int64.
        images (Tensor): Number of the pixel's image, ``(N,)``, int64.
        positions (Tensor): ``(N, 2)``: x to the right and y up from the
            optical axis, in units of the map's half diagonal, so in [-1, 1].
            Its angle is ``vartheta``. In pooled mode, the image-plane moment
            ``z_xy``.
        hues (Tensor): Feature angle ``theta_f``, ``(N,)``, radians in
            [-pi, pi].
    """

    vectors: Tensor
    labels: Tensor
    images: Tensor
    positions: Tensor
    hues: Tensor

    def select(self, index: Tensor) -> 'Pixels':
        """The pixels of an index or a mask ``(N,)``."""
        return Pixels(*(field[index] for field in self))


def _pixel_positions(height: int, width: int) -> Tensor:
    """``(H * W, 2)``, see :class:`Pixels`."""
    wide = torch.float32  # whatever the default is
    x = torch.arange(width, dtype=wide) - (width - 1) / 2
    y = (height - 1) / 2 - torch.arange(height, dtype=wide)
    grid = torch.stack(
        [x.expand(height, width), y[:, None].expand(height, width)], dim=-1
    )
    half_diagonal: float = max(grid[0, 0].norm().item(), 0.5)
    return grid.flatten(0, 1) / half_diagonal


@checked()
@torch.no_grad()
def bottleneck_pixels(
    intensity: Tensor,
    labels: Tensor,
    images: Tensor,
    feature_plane: Callable[[Tensor], Tensor],
    mode: Literal['pixel', 'pooled'] = 'pixel',
    keep: Optional[Count] = None,
) -> Pixels:
    """Cut maps into pixels.

    Args:
        intensity (Tensor): ``I``, ``(B, C, H, W)``.
        labels (Tensor): ``(B,)``.
        images (Tensor): Numbers of the images, ``(B,)``.
        feature_plane (Callable): ``(N, C) -> (N, 2)``, for ``theta_f``; as a
            rule a :class:`~u1_plugin.nn.FeaturePlane`. One that trains is
            asked in evaluation mode, so that its centre stays.
        mode (str): ``'pixel'`` or ``'pooled'`` (one vector an image).
        keep (int, optional): Keep the so many most energetic pixels of each
            image, of equals the first; maps of fewer are kept whole. None
            keeps all.

    Returns:
        Pixels: In the order of images, then rows, then columns.

    Raises:
        ValueError: If an option is out of its range, the shapes do not fit, or
            a running centre that trains has seen nothing yet.
    """
    check_real('intensity', intensity)
    batch = intensity.shape[:1]
    if intensity.ndim != 4 or not batch == labels.shape == images.shape:
        raise ValueError(
            f'intensity {tuple(intensity.shape)} must be (B, C, H, W), and '
            f'labels {tuple(labels.shape)} and images '
            f'{tuple(images.shape)} (B,)'
        )
    check_real('intensity', intensity, 1, 2, 3)
    labels, images = labels.to(intensity.device), images.to(intensity.device)
    if mode == 'pooled':
        vectors = pooled_vector(intensity).float()
        # Squares of float32 fit into float64 only.
        positions = image_moment(energy(intensity.double())).float()
        hues = _hues(feature_plane, vectors)
        return Pixels(vectors, labels, images, positions, hues)
    vectors = intensity.float().flatten(2).transpose(1, 2)  # (B, HW, C)
    positions = _pixel_positions(*intensity.shape[2:]).to(vectors)
    index = torch.arange(len(positions), device=vectors.device)
    index = index.expand(*batch, -1)
    if keep is not None:
        index = _strongest(vectors, keep)
    chosen = index[..., None].expand(-1, -1, vectors.size(2))
    vectors = vectors.gather(1, chosen).flatten(0, 1)
    return Pixels(
        vectors,
        labels.repeat_interleave(index.size(1)),
        images.repeat_interleave(index.size(1)),
        positions[index.flatten()],
        _hues(feature_plane, vectors),
    )


def _hues(plane: Callable[[Tensor], Tensor], vectors: Tensor) -> Tensor:
    if not isinstance(plane, nn.Module):
        return angle(plane(vectors))
    if plane.training and getattr(plane, 'num_batches_tracked', 1) == 0:
        raise ValueError(
            "feature_plane has center='running', but has seen no vectors yet, "
            "and pixels move no centre; train it first, or use center='file'"
        )
    with just_evaluating(plane):
        return angle(plane(vectors))


def _strongest(vectors: Tensor, keep: int) -> Tensor:
    """Index of each image's most energetic pixels, ascending, ``(B, keep)``."""
    energies = total(vectors.double().square())
    order = energies.argsort(dim=1, descending=True, stable=True)
    return order[:, :keep].sort(dim=1).values
