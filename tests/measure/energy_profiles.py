"""Summaries of radial profiles, whatever map would have them."""

import numpy as np

from u1_plugin.measure.profile import EnergySummary, Rings

PIXELS = np.array([2, 4, 6, 8, 12])
EDGES = np.array([0.2, 0.4, 0.6, 0.8, 1.0])
RADIUS = EDGES - 0.08
PROFILE = [2.0, 1.4, 0.7, 0.6, 1.1]


def correlation_of_turns(grid: np.ndarray, turns) -> float:
    return np.mean(
        [
            np.corrcoef(grid.ravel(), np.rot90(grid, k).ravel())[0, 1]
            for k in turns
        ]
    )


def summary_of(profile, covariance=None, n=25, maps=None, sizes=None):
    """A summary of these numbers, whatever map would have them."""
    profile = np.array(profile, float)
    count = len(profile)
    if covariance is None:
        root = np.random.default_rng(1).normal(size=(count, count))
        covariance = root @ root.T / 100
    rings = Rings(
        np.zeros((4, 8), int),
        PIXELS[:count],
        RADIUS[:count],
        EDGES[:count],
        RADIUS[:count] ** 2 + 0.002,
        RADIUS[:count] ** 4 + 0.003,
    )
    maps = np.ones((1, 4, 8)) if maps is None else np.array(maps, float)
    sizes = np.full(len(maps), 1.0) if sizes is None else np.array(sizes)
    mean_map = (maps * sizes[:, None, None]).sum(0) / sizes.sum()
    return EnergySummary(
        n, 0, 1.0, mean_map, maps, sizes, rings, profile, covariance, 0.0
    )
