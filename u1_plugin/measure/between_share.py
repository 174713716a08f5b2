"""How much of an angle the other images of its class predict."""

import numpy as np


def table_between_share(tables: np.ndarray) -> np.ndarray:
    """Share of the variance of ``exp(i t)`` that the classes' angles predict.

    Every image is left out of its class's mean direction, and of that of all:
    with R_c the mean cosine to the first and R that to the second,
    ``(R_c^2 - R^2) / (1 - R^2)`` is what class angles of one common length
    explain beyond the shared angle. Leaving out makes classes without an angle
    count 0 and not the length that chance gives; the common length makes
    classes that spread differently about one angle count nothing.

    Args:
        tables (np.ndarray): Counts, ``(..., K, bins)``, not all 0. Angles lie
            at the bins' centres.

    Returns:
        np.ndarray: ``(...)``, at most 1; 0 where no class has two images. It
        is negative where the class angles predict worse than the shared one,
        and grows with the images of a class towards the share that their true
        angles explain.
    """
    tables = np.asarray(tables, float)
    # A single image of its class has no others.
    tables = np.where(tables.sum(-1, keepdims=True) > 1, tables, 0)
    n = np.maximum(tables.sum((-2, -1)), 1)
    within = _cosine_to_the_others(tables).sum(-1) / n
    shared = _cosine_to_the_others(tables.sum(-2)) / n
    squares = shared.clip(0) ** 2
    spread = 1 - squares
    share: np.ndarray = np.where(
        spread > 1e-12,
        (within.clip(0) ** 2 - squares) / np.where(spread > 0, spread, 1),
        0,
    )
    return share


def _cosine_to_the_others(counts: np.ndarray) -> np.ndarray:
    """Sum over the angles of the cosine to the mean direction of the others.

    Args:
        counts (np.ndarray): ``(..., bins)``.

    Returns:
        np.ndarray: ``(...)``; angles whose others have no direction count 0.
    """
    bins = counts.shape[-1]
    angles = 2 * np.pi * np.arange(bins) / bins
    x, y = counts @ np.cos(angles), counts @ np.sin(angles)
    # Of the sum of all: its product with each angle, and the others' length.
    product = x[..., None] * np.cos(angles) + y[..., None] * np.sin(angles)
    squares = (x * x + y * y)[..., None] + 1 - 2 * product
    has_direction = squares > 1e-12
    cosines = (product - 1) / np.sqrt(np.where(has_direction, squares, 1))
    total: np.ndarray = (counts * np.where(has_direction, cosines, 0)).sum(-1)
    return total
