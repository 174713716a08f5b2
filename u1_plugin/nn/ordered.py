"""An order of classes on the circle in which neighbours are similar."""

from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor

from ..options import shown
from .data_files import is_numbers

#: Decimals that eigenvectors of unit length are told apart by.
_DIGITS = 8


def circular_order(content: Dict[str, Any], classes: int, where: str) -> Tensor:
    """The classes in their order around the circle.

    A ``hierarchy`` is walked leaf by leaf, so that classes of one parent are
    neighbours. A ``similarity`` is embedded in the plane by the two smoothest
    non-constant eigenvectors of its graph Laplacian, and the classes are
    sorted by their angle there: spectral seriation on a circle (Atkins et
    al., SIAM J. Comput. 28, 1998, for a line; Coifman et al., SIAM J. Appl.
    Math. 69, 2008, for a circle). Where it falls into groups without any
    likeness between them, each group lies on an arc, sorted by the smoothest
    of its own eigenvectors. Of classes that these do not tell apart the next
    eigenvectors decide.

    Args:
        content (dict): With one of ``hierarchy``, K lists of names from
            coarse to fine, and ``similarity``, K rows of K numbers >= 0.
        classes (int): K.
        where (str): The option, for messages.

    Returns:
        Tensor: ``(K,)``, int64: class numbers.

    Raises:
        ValueError: If neither or both are there, one does not fit K, or no
            two classes are alike.
    """
    sources = [name for name in ('hierarchy', 'similarity') if name in content]
    if len(sources) != 1:
        raise ValueError(
            f'{where} must hold either `similarity` or `hierarchy`, but holds '
            f'{sorted(content)}'
        )
    if sources == ['hierarchy']:
        return _by_hierarchy(content['hierarchy'], classes, where)
    return _by_similarity(content['similarity'], classes, where)


def _by_hierarchy(paths: Any, classes: int, where: str) -> Tensor:
    if (
        not isinstance(paths, list)
        or len(paths) != classes
        or not all(isinstance(path, list) and path for path in paths)
        or not all(type(name) in (str, int) for path in paths for name in path)
    ):
        raise ValueError(
            f'{where}: `hierarchy` must be {classes} lists of names from '
            'coarse to fine, one a class'
        )
    keys: List[Tuple[str, ...]] = [tuple(map(str, path)) for path in paths]
    order = sorted(range(classes), key=lambda c: (keys[c], c))
    return torch.tensor(order)


def _by_similarity(rows: Any, classes: int, where: str) -> Tensor:
    try:
        if not is_numbers(rows):
            raise ValueError(f'there is {shown(rows)}')
        matrix = np.array(rows, dtype=float)
    except (OverflowError, ValueError) as error:
        raise ValueError(
            f'{where}: `similarity` is no matrix of numbers: {error}'
        ) from error
    if matrix.shape != (classes, classes) or not np.isfinite(matrix).all():
        raise ValueError(
            f'{where}: `similarity` has shape {matrix.shape}, but must be '
            f'{classes} rows of {classes} finite numbers, one a class'
        )
    if (matrix < 0).any():
        raise ValueError(
            f'{where}: `similarity` has negative entries; give numbers >= 0, '
            'larger for classes that are more alike'
        )
    if classes < 4:  # every order of three on a circle is the same circle
        return torch.arange(classes)
    # By a power of two, which changes no digit, so that no sum overflows.
    matrix = np.ldexp(matrix, -int(np.frexp(matrix.max())[1]))
    matrix = matrix + matrix.T
    np.fill_diagonal(matrix, 0)
    if not matrix.any():
        raise ValueError(
            f'{where}: `similarity` says of no two classes that they are '
            "alike; give numbers > 0, or set class_angles.mode='uniform'"
        )
    groups = _groups(matrix > 0)
    if len(groups) == 1:
        return torch.from_numpy(_around_circle(_eigenvectors(matrix)))
    lines = [g[_along_line(matrix[np.ix_(g, g)])] for g in groups]
    return torch.from_numpy(np.concatenate(lines))


def _groups(alike: np.ndarray) -> List[np.ndarray]:
    """Class numbers of each connected part of a graph ``(K, K)``."""
    alike = alike | np.eye(len(alike), dtype=bool)
    first = np.arange(len(alike))  # the smallest number known to be in it
    while True:
        smaller = np.where(alike, first, len(alike)).min(1)
        if (smaller == first).all():
            return [np.flatnonzero(first == k) for k in np.unique(first)]
        first = smaller[smaller]


def _eigenvectors(matrix: np.ndarray) -> np.ndarray:
    """Columns, the smoothest first, without the constant one; ``(K, K - 1)``.

    Rounded, so that classes that they do not tell apart are equal.
    """
    laplacian = np.diag(matrix.sum(1)) - matrix
    return np.linalg.eigh(laplacian)[1][:, 1:].round(_DIGITS)


def _around_circle(vectors: np.ndarray) -> np.ndarray:
    across, up = vectors[:, 0], vectors[:, 1]
    radius = np.hypot(across, up).round(_DIGITS)
    angles = np.arctan2(up, across).round(_DIGITS - 2)
    angles[angles == np.round(-np.pi, _DIGITS - 2)] *= -1  # -pi is pi
    angles[radius == 0] = 0
    return np.lexsort([*vectors[:, :1:-1].T, radius, angles])


def _along_line(matrix: np.ndarray) -> np.ndarray:
    if len(matrix) < 3:
        return np.arange(len(matrix))
    return np.lexsort([*_eigenvectors(matrix)[:, ::-1].T])
