"""How bad the mistakes are, for classes that lie in categories."""

import math
from typing import Dict, List, Optional, Sequence

import numpy as np

from ...options import checked, shown
from ..outputs import check_outputs


@checked()
def categories(
    names: Optional[Sequence[str]], field: str = '--mistake-severity'
) -> List[str]:
    """The category of each class, of names ``CATEGORY.SUBCATEGORY``.

    Args:
        names (Sequence[str], optional): Of the classes, by label.
        field (str): Who asks, for messages.

    Raises:
        ValueError: If a class has another name, or all have one category, or
            each has its own: such classes are no hierarchy.
    """
    for name in names or ():
        parts = name.split('.')
        if len(parts) != 2 or not all(parts):
            raise ValueError(
                f'{field}: the class {shown(name)} is not named '
                'CATEGORY.SUBCATEGORY, as those of emoji58 are; leave it out '
                'for other data sets'
            )
    groups = [name.partition('.')[0] for name in names or ()]
    if not 1 < len(set(groups)) < len(groups):
        raise ValueError(
            f'{field}: {len(groups)} classes in {len(set(groups))} categories '
            'are no hierarchy; give classes named CATEGORY.SUBCATEGORY, of '
            'several categories, with several in one of them'
        )
    return groups


@checked()
def severity(
    logits: np.ndarray, labels: np.ndarray, names: Sequence[str]
) -> Dict[str, float]:
    """Severity of the mistakes alone (Bertinetto et al., CVPR 2020).

    In the tree of classes, categories and the root, the lowest common ancestor
    of the true and the predicted class has height 1 if that is their category,
    and 2 if it is the root. So the mean height of a model's mistakes is 1 plus
    the share of them that leave the category.

    Args:
        logits (np.ndarray): ``(N, K)``.
        labels (np.ndarray): ``(N,)``.
        names (Sequence[str]): ``CATEGORY.SUBCATEGORY``, by label, K of them.

    Returns:
        Dict[str, float]: By name; NaN without a mistake.

    Raises:
        ValueError: If there is not one name a class, the names are no such
            hierarchy, or logits and labels are no outputs.
    """
    check_outputs(logits, labels)
    if len(names) != logits.shape[1]:
        raise ValueError(
            f'names has {len(names)} classes, but logits {logits.shape[1]}; '
            'give the names of the trained classes'
        )
    category = np.unique(categories(names), return_inverse=True)[1]
    predicted = logits.argmax(1)
    wrong = predicted != labels
    leaves = category[predicted[wrong]] != category[labels[wrong]]
    share = float(leaves.mean()) if wrong.any() else math.nan
    return {
        'mistakes that leave the category, %': 100 * share,
        'mistake severity, mean height of the common ancestor': 1 + share,
    }
