"""An order of classes on the circle in which neighbours are similar."""

from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor

from ..options import shown
from .data_files import is_numbers


def circular_order(content: Dict[str, Any], classes: int, where: str) -> Tensor:
    """The classes in their order around the circle.

    A ``hierarchy`` is walked leaf by leaf, so that classes of one parent are
    neighbours. A ``similarity`` is embedded in the plane by the two smoothest
    non-constant eigenvectors of its graph Laplacian, and the classes are
    sorted by their angle there: spectral seriation on a circle (Atkins et
    al., SIAM J. Comput. 28, 1998, for a line; Coifman et al., SIAM J. Appl.
    Math. 69, 2008, for a circle).

    Args:
        content (dict): With one of ``hierarchy``, K lists of names from
            coarse to fine, and ``similarity``, K rows of K numbers >= 0.
        classes (int): K.
        where (str): The option, for messages.

    Returns:
        Tensor: ``(K,)``, int64: class numbers.

    Raises:
        ValueError: If neither or both are there, or one does not fit K.
    """
    given = [name for name in ('hierarchy', 'similarity') if name in content]
    if len(given) != 1:
        raise ValueError(
            f'{where} must hold either `similarity` or `hierarchy`, but holds '
            f'{sorted(content)}'
        )
    if given == ['hierarchy']:
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
    laplacian = np.diag(matrix.sum(1)) - matrix
    vectors = np.linalg.eigh(laplacian)[1]
    angles = np.arctan2(vectors[:, 2], vectors[:, 1])
    return torch.from_numpy(np.argsort(angles, kind='stable'))
