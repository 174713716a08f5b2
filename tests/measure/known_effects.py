"""Maps and angles of known effects, and how far a rate may be off."""

import math

import numpy as np
import torch

from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator

SIZE = 14


def radius_squared(size: int = SIZE) -> torch.Tensor:
    """In half diagonals."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return (axis**2 + axis[:, None] ** 2) / (size**2 / 2)


def sombrero(a: float, b: float, c: float) -> torch.Tensor:
    square = radius_squared()
    return a * square**2 - b * square + c


def summary_of(mean_map: torch.Tensor, n: int, seed: int, noise: float = 0.1):
    """Images whose mean relative energy is exactly that of the map.

    The noise sums to 0 over each image, so that its total stays known.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = torch.randn(n, *mean_map.shape, generator=generator).double()
    spread = spread - spread.mean((1, 2), keepdim=True)
    total = EnergyAccumulator()
    total.update(mean_map / mean_map.mean() + noise * spread.clamp(-3, 3))
    return total.summary()


def angle_summary(theta: np.ndarray, labels: np.ndarray, classes: int):
    theta = torch.from_numpy(theta)
    total = AngleAccumulator(classes)
    total.update(
        torch.stack([theta.cos(), theta.sin()], 1), torch.from_numpy(labels)
    )
    return total.summary()


def within(rate: float, expected: float, n: int) -> bool:
    """Four standard errors of a share of n."""
    return abs(rate - expected) < 4 * math.sqrt(expected * (1 - expected) / n)


def planted(spread: float, n: int = 2000, seed: int = 0):
    """Ten classes whose mean angles are ``spread`` radians apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    theta = rng.vonmises(0.0, 4.0, n) + labels * spread
    return angle_summary(theta, labels, 10)
