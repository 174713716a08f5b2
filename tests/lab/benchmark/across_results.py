"""Made-up comparisons over several data sets."""

import numpy as np

from u1_plugin.lab.benchmark.across import Across, data_set, pool


def pooled(sets, **options):
    found = [data_set(f'set {i}', x, y) for i, (x, y) in enumerate(sets)]
    return pool(found, **options)


def numbers(found):
    """Value and ends of the four quantities, ``(4, 3)``."""
    d = found.difference
    return np.array([(d.mean, d.low, d.high), *found[1:]])


def close(first, second, slack=1e-9):
    np.testing.assert_allclose(first, second, rtol=0, atol=slack)


def across(gains, seeds=10, noise=0.3):
    """A made-up comparison: a gain in points for each data set."""
    rng = np.random.default_rng(0)
    sets = []
    for i, gain in enumerate(gains):
        y = rng.normal(80, 1, seeds)
        x = y + gain + rng.normal(0, noise, seeds)
        sets.append(data_set(f'set {i}', x, y))
    return Across('u1-image', 'one-hot', sets, pool(sets))
