"""Sums and distances in float64 that depend on their own numbers alone.

A library's sum may add in another order for another batch, and its square
root may differ in the last bit. Then equal pixels would lie at unequal
distances. Here each step is a correctly rounded operation on single numbers, in
an order that the number of channels fixes: the same two vectors have the same
distance in every batch, block and process.
"""

import numpy as np
import torch
from torch import Tensor


def total(values: Tensor) -> Tensor:
    """Sum over the last dimension, by halves.

    Args:
        values (Tensor): ``(..., C)``, C >= 1.

    Returns:
        Tensor: ``(...)``.
    """
    while values.size(-1) > 1:
        half = values.size(-1) // 2
        halves = values[..., :half] + values[..., half : 2 * half]
        if values.size(-1) % 2:
            halves[..., 0] += values[..., -1]
        values = halves
    return values[..., 0]


def square_root(values: Tensor) -> Tensor:
    """Correctly rounded, which ``torch.sqrt`` on a CPU with MKL is not."""
    if values.device.type != 'cpu':
        return values.sqrt()
    return torch.from_numpy(np.asarray(np.sqrt(values.detach().numpy())))


def unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1, whatever their scale.

    Each is divided by its largest entry first, so that squares neither
    overflow nor vanish, and that parallel vectors become the very same one.

    Args:
        vectors (Tensor): ``(..., C)``.

    Returns:
        Tensor: ``(..., C)``, float64; a zero vector stays zero.
    """
    vectors = vectors.double()
    largest = vectors.abs().amax(-1, keepdim=True)
    vectors = vectors / torch.where(largest > 0, largest, 1.0)
    length = square_root(total(vectors.square()))
    return vectors / length[..., None].clamp_min(1)


def prepared(vectors: Tensor, metric: str) -> Tensor:
    """Vectors as :func:`distances` takes them, ``(..., C)``, float64."""
    return unit(vectors) if metric == 'cosine' else vectors.double()


def distances(first: Tensor, second: Tensor, metric: str) -> Tensor:
    """Distances of pairs in float64.

    Args:
        first (Tensor): ``(P, C)``, from :func:`prepared`.
        second (Tensor): The same.
        metric (str): ``'l2'``: the length of the difference. ``'cosine'``:
            half the squared difference of the unit vectors, which is
            ``1 - cos`` without its cancellation; 1 if a vector is zero.

    Returns:
        Tensor: ``(P,)``, >= 0.
    """
    squared = total((first - second).square())
    if metric == 'l2':
        return square_root(squared)
    nonzero = first.any(-1) & second.any(-1)
    return torch.where(nonzero, squared / 2, 1.0)
