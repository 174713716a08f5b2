"""How large a ratio may be without the noise that lowers its sampled value.

The variance of a mean profile or map over its rings or pixels is its own and
that of the noise of the images. A share of it is therefore too small where
images are few, and its interval, however narrow, lies too low.
"""

import math

import numpy as np

from .estimate import t_quantile


def _upper_end(form: np.ndarray, covariance: np.ndarray, df: float) -> float:
    """The largest ratio s with which ``form[0] + form[1] s`` may be 0.

    Fieller's interval, from two estimates ``(2,)`` with their covariance.

    Returns:
        float: <= 1; NaN where the covariance says nothing of the spread.
    """
    quantile = t_quantile(math.sqrt(max(np.trace(covariance), 0.0)), df)
    if math.isnan(quantile):
        return math.nan
    constant, cross, square = (
        float(form[i] * form[j] - quantile**2 * covariance[i, j])
        for i, j in ((0, 0), (0, 1), (1, 1))
    )
    if form[1] <= 0 or square <= 0:  # there may as well be no variance
        return 1.0
    root = math.sqrt(max(cross**2 - square * constant, 0.0))
    return min((root - cross) / square, 1.0)


def highest_share(
    missing: np.ndarray,
    varying: np.ndarray,
    profile: np.ndarray,
    covariance: np.ndarray,
    df: float,
) -> float:
    """Upper end of the interval of ``1 - p^T missing p / p^T varying p``.

    Of a sampled profile p a form ``p^T A p`` has the expectation of its own
    plus ``tr(A V)``, which is taken off, and about the variance
    ``4 p^T A V A p``, V the covariance of the mean profile.

    Args:
        missing, varying (np.ndarray): ``(K, K)``, symmetric.
        profile (np.ndarray): Sampled, ``(K,)``.
        covariance (np.ndarray): V, ``(K, K)``, with ``df`` degrees of freedom.

    Returns:
        float: <= 1; NaN where V says nothing of the spread.
    """
    # missing - (1 - s) varying, which is 0 at the share s.
    parts = (missing - varying, varying)
    form = np.array(
        [profile @ a @ profile - np.trace(a @ covariance) for a in parts]
    )
    moved = np.stack([a @ profile for a in parts])
    return _upper_end(form, 4 * moved @ covariance @ moved.T, df)


def highest_symmetry(maps: np.ndarray, sizes: np.ndarray) -> float:
    """Upper end of the interval of a mean map's rotational symmetry.

    Of :func:`~.profile.rotational_symmetry`, from products of maps of
    different groups alone, in which independent noise has no part; jackknife
    over the groups.

    Args:
        maps (np.ndarray): Mean map of each group of images, ``(G, H, W)``.
        sizes (np.ndarray): Images of each group, ``(G,)``.

    Returns:
        float: <= 1; NaN with fewer than three groups, or if all are alike.
    """
    groups = len(maps)
    if groups < 3:
        return math.nan
    centred = maps - maps.mean((1, 2), keepdims=True)
    turns = (1, 2, 3) if maps.shape[1] == maps.shape[2] else (2,)
    turned = sum(np.rot90(centred, k, (1, 2)) for k in turns) / len(turns)
    flat = centred.reshape(groups, -1)
    pairs = np.outer(sizes, sizes) * (1.0 - np.eye(groups))
    # Sums over pairs of groups: overlap with the turns, power, and weights.
    products = np.stack(
        [
            -pairs * (flat @ turned.reshape(groups, -1).T),
            pairs * (flat @ flat.T),
            pairs * maps[0].size,
        ]
    )
    total = products.sum((1, 2))
    left_out = total[:, None] - products.sum(1) - products.sum(2)
    jackknife = left_out[:2] / left_out[2]
    covariance = (groups - 1) * np.cov(jackknife, bias=True)
    return _upper_end(total[:2] / total[2], covariance, groups - 1)
