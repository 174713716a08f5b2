"""Sums and distances in float64 that depend on their own numbers alone.

A library's sum may add in another order for another batch, and its square
root may differ in the last bit. Then equal pixels would lie at unequal
distances. Here each step is a correctly rounded operation on single numbers, in
an order that the number of channels fixes: the same two vectors have the same
distance in every batch, block and process.
"""

from typing import Callable

import numpy as np
import torch
from torch import Tensor

_NUMBERS = 2**20  # in a temporary of float64, about


def total(values: Tensor) -> Tensor:
    """Sum of ``(..., C)``, C >= 1, over the last dimension, by halves."""
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
    """Vectors ``(..., C)`` of length 1, in float64; a zero one stays zero.

    Each is divided by its largest entry first, so that squares neither
    overflow nor vanish, and that parallel vectors become the very same one.
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
    """Distances ``(P,)`` of pairs ``(P, C)`` from :func:`prepared`, >= 0.

    ``'l2'`` is the length of the difference. ``'cosine'`` is half the squared
    difference of the unit vectors, which is ``1 - cos`` without its
    cancellation; 1 if a vector is zero.
    """
    squared = total((first - second).square())
    if metric == 'l2':
        return square_root(squared)
    nonzero = first.any(-1) & second.any(-1)
    return torch.where(nonzero, squared / 2, 1.0)


def pair_distances(
    exact: Tensor,
    query: Tensor,
    index: Tensor,
    vectors: Callable[[Tensor], Tensor],
    metric: str,
) -> Tensor:
    """:func:`distances` of pairs of numbers, ``(P,)``, some at a time.

    Args:
        exact (Tensor): Of all queries, ``(Q, C)``, from :func:`prepared`.
        query, index (Tensor): Which query and which pixel, ``(P,)`` each.
        vectors (Callable): Of the index of some pixels ``(n,)``, ``(n, C)``.
    """
    size = max(1, _NUMBERS // exact.size(1))
    parts = [exact.new_empty(0)]
    for rows, pixels in zip(query.split(size), index.split(size)):
        used, at = pixels.unique(return_inverse=True)
        memory = prepared(vectors(used), metric)[at]
        parts.append(distances(exact[rows], memory, metric))
    return torch.cat(parts)
