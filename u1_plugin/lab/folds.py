"""Folds in which every image is tested once, and differences over images.

Random splits share test images, and a test over such splits takes one image
for several: where nothing differs, Student's t over 5 of them had p < 0.05 in
9 % of 400 simulated studies, over 20 in 32 %, and that over the images of folds
in 6 %.
"""

from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from ..extras import needs
from ..measure.estimate import NORMAL_QUANTILE
from .statistics import sign_flip_pvalue

with needs('lab'):
    from sklearn.model_selection import StratifiedKFold

#: Of a round: each image is a test image in one split of so many.
FOLDS = 5

#: What :func:`whole_rounds` asks, for errors.
WHOLE_ROUNDS = (
    f'must be below {FOLDS} or a multiple of it, so that no image is tested '
    'more often than another'
)


class Split(NamedTuple):
    """Which images a split tested, and what came out.

    Attributes:
        images (np.ndarray): Numbers of the test images, ``(B,)``.
        right (Dict[str, np.ndarray]): Which of them each arm got right,
            ``(B,)``.
        chosen (Dict[str, tuple]): What each arm took from validation images.
    """

    images: np.ndarray
    right: Dict[str, np.ndarray]
    chosen: Dict[str, tuple]


def split_images(
    labels: np.ndarray, seed: int
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Memory, validation and test images of one split: 60, 20 and 20 %.

    Seeds ``5 r`` to ``5 r + 4`` are one round, in which every image is tested
    once and validated once; another round is dealt anew. Classes have their
    share of each part.

    Args:
        labels (np.ndarray): Of all images, ``(N,)``.
        seed (int): Which split.

    Returns:
        Tuple[np.ndarray, np.ndarray, np.ndarray]: Numbers of images, sorted.

    Raises:
        ValueError: If a class has fewer images than a round has splits.
    """
    classes, counts = np.unique(labels, return_counts=True)
    for label, count in zip(classes, counts):
        if count < FOLDS:
            raise ValueError(
                f'class {label} has {count} images, and to test each of them '
                f'once takes {FOLDS} of every class; give more, or leave such '
                'classes out'
            )
    round_number, fold = divmod(seed, FOLDS)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=round_number)
    parts = [part for _, part in folds.split(labels, labels)]
    test, val = parts[fold], parts[(fold + 1) % FOLDS]
    memory = np.setdiff1d(np.arange(len(labels)), np.append(test, val))
    return memory, val, test


def image_scores(splits: Sequence[Split]) -> Dict[str, np.ndarray]:
    """In how many of an image's tests each arm was right, in per cent.

    Returns:
        Dict[str, np.ndarray]: ``(n,)`` of each arm, of the images that a split
        tested, in their order.
    """
    images = np.concatenate([split.images for split in splits])
    times = np.bincount(images)
    scores = {}
    for arm in splits[0].right:
        right = np.concatenate([split.right[arm] for split in splits])
        counts = np.bincount(images, right)
        scores[arm] = 100 * counts[times > 0] / times[times > 0]
    return scores


class ImageDifference(NamedTuple):
    """Mean difference of two arms on the same images, in points of top-1.

    Attributes:
        n (int): Images.
        mean (float): First arm less second.
        low (float): Lower end of the 95 % interval over images.
        high (float): Its upper end.
        pvalue (float): Two-sided, of the test by sign flips: McNemar's exact
            one where every image was tested once, and drawn where more than
            40 images differ by several amounts.
        gained (int): Images on which the first arm is right more often.
        lost (int): Less often.
    """

    n: int
    mean: float
    low: float
    high: float
    pvalue: float
    gained: int
    lost: int


def image_difference(first: np.ndarray, second: np.ndarray) -> ImageDifference:
    """The mean difference of two arms' scores, ``(n,)`` each, per cent.

    The interval is that of Agresti and Min (2005), normal after half an image
    has been added to each cell of the two arms' table: Student's is too short
    where few images differ. It is of this memory: what another choice of its
    images would change is not in it.

    Raises:
        ValueError: If the arms were not tested on as many images, or on none.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(
            f'arms have scores of {len(first)} and {len(second)} images; give '
            'those of the same ones for both'
        )
    # Thirds are equal but for their last digits.
    values = np.round(first - second, 9)
    # Of the two images, half a one is gained and half a one lost.
    n, adjusted_n = len(values), len(values) + 2
    center = values.sum() / adjusted_n
    variance = (np.square(values).sum() + 100**2) / adjusted_n - center**2
    half_width = NORMAL_QUANTILE * np.sqrt(variance / adjusted_n)
    return ImageDifference(
        n,
        float(values.mean()),
        max(-100.0, float(center - half_width)),
        min(100.0, float(center + half_width)),
        sign_flip_pvalue(values),
        int((values > 0).sum()),
        int((values < 0).sum()),
    )


def accuracies(splits: Sequence[Split]) -> Dict[str, List[float]]:
    """Top-1 of each arm in each split, per cent."""
    return {
        arm: [100 * float(split.right[arm].mean()) for split in splits]
        for arm in splits[0].right
    }


def whole_rounds(splits: int) -> bool:
    """Whether so many splits test no image more often than another.

    Otherwise the mean over splits would not be that over images.
    """
    return splits < FOLDS or splits % FOLDS == 0
