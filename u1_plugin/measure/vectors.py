"""Streaming sums of the pooled vectors of one layer."""

from typing import Dict

import numpy as np
import torch
from torch import Tensor

from ..geometry import orthonormal_basis, safe_norm
from ..options import checked
from .sums import Accumulator, Size


class VectorAccumulator(Accumulator):
    """Mean and covariance of the normalised pooled vectors of one layer.

    Gives the centre and the PCA plane that
    :class:`~u1_plugin.nn.FeaturePlane` reads from a file.
    """

    _measured = 'vectors of (C,) ='

    def _shapes(self, size: Size) -> Dict[str, Size]:
        return dict(count=(), skipped=(), total=size, products=size * 2)

    @checked('VectorAccumulator')
    def update(self, vectors: Tensor) -> None:
        """Add a batch.

        Args:
            vectors (Tensor): Pooled vectors ``(B, C)``; those of norm 0 or
                with entries that are not finite are counted apart.

        Raises:
            ValueError: If C differs from the first batch's, or the vectors
                are no such tensor.
        """
        vectors = self._reals('vectors', vectors, 'BC')
        self._start(vectors.shape[1:], vectors.device)
        norm = safe_norm(vectors, 1)
        valid = norm.isfinite() & (norm > 0)
        unit = vectors / torch.where(valid, norm, 1.0)[:, None]
        unit = torch.where(valid[:, None], unit, 0.0)
        sums = self._sums
        sums['count'] += valid.sum()
        sums['skipped'] += (~valid).sum()
        sums['total'] += unit.sum(0)
        sums['products'] += unit.T @ unit

    def center(self) -> np.ndarray:
        """Mean of the normalised vectors, ``(C,)``.

        Raises:
            ValueError: If no vector has a direction.
        """
        sums = self._checked()
        if not sums['count']:
            raise ValueError(
                f'none of {int(sums["skipped"])} vector(s) has a direction; '
                'check the layer and its orthant map'
            )
        return (sums['total'] / sums['count']).cpu().numpy()

    def pca_basis(self) -> np.ndarray:
        """Top two principal directions orthogonal to the medial vector.

        Returns:
            np.ndarray: ``(2, C)``, as :func:`~u1_plugin.geometry.pca_basis` of
            the normalised vectors.

        Raises:
            ValueError: If there are fewer than 3 vectors or channels.
        """
        sums = {n: s.cpu() for n, s in self._checked().items()}
        count, channels = int(sums['count']), len(sums['total'])
        if min(count, channels) < 3:
            raise ValueError(
                f'{count} vector(s) with a direction, of {channels} '
                'channel(s); PCA of a plane needs at least 3 of both'
            )
        mean = sums['total'] / count
        covariance = sums['products'] / count - torch.outer(mean, mean)
        # Both sides without their part along the medial vector.
        across = covariance - covariance.mean(0)
        across = across - across.mean(1, keepdim=True)
        rows = torch.linalg.eigh(across).eigenvectors[:, -2:].flip(1).T
        peak = rows.gather(1, rows.abs().argmax(1, keepdim=True))
        return orthonormal_basis(
            rows * torch.where(peak < 0, -1.0, 1.0)
        ).numpy()
