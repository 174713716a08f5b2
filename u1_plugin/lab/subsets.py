"""Few shots, long tails and label noise of any data set with labels."""

from typing import List, Optional

import numpy as np
from mmengine.dataset import BaseDataset
from mmpretrain.registry import DATASETS


def few_shots(
    labels: np.ndarray, shots: int, rng: np.random.Generator
) -> np.ndarray:
    """Indices of ``shots`` images of each class, in the data set's order.

    Args:
        labels (np.ndarray): ``(N,)``.
        shots (int): Of each class that occurs, >= 1.
        rng (np.random.Generator): Draws them.

    Raises:
        ValueError: If a class has fewer images.
    """
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if not 1 <= shots <= len(own):
            raise ValueError(
                f'dataset.shots={shots}, but class {label} has {len(own)} '
                'images; choose a number from 1 to that'
            )
        chosen.append(rng.permutation(own)[:shots])
    return np.sort(np.concatenate(chosen))


def long_tail(
    labels: np.ndarray, imbalance: float, rng: np.random.Generator
) -> np.ndarray:
    """Indices of a long tail: class c keeps ``imbalance^(-c / (K - 1))``.

    Class 0 keeps every image, class K - 1 one in ``imbalance``, each class at
    least one image.

    Args:
        labels (np.ndarray): ``(N,)``, in ``[0, K)``.
        imbalance (float): >= 1.
        rng (np.random.Generator): Draws them.

    Raises:
        ValueError: If ``imbalance`` is out of its range.
    """
    if not imbalance >= 1:
        raise ValueError(
            f'dataset.imbalance={imbalance} must be >= 1: images of the first '
            'class for one of the last'
        )
    last = max(int(labels.max()), 1)
    chosen = []
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        keep = max(1, round(len(own) * imbalance ** (-int(label) / last)))
        chosen.append(rng.permutation(own)[:keep])
    return np.sort(np.concatenate(chosen))


def noisy_labels(
    labels: np.ndarray, rate: float, classes: int, rng: np.random.Generator
) -> np.ndarray:
    """Symmetric noise: a part of the labels becomes any *other* class.

    Args:
        labels (np.ndarray): ``(N,)``, in ``[0, classes)``.
        rate (float): Part that changes, in ``[0, 1]``; exact up to rounding.
        classes (int): K, >= 2.
        rng (np.random.Generator): Draws images and classes.

    Raises:
        ValueError: If ``rate`` is out of its range.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f'dataset.label_noise={rate} must be in [0, 1]')
    count = round(rate * len(labels))
    wrong = rng.permutation(len(labels))[:count]
    noisy = labels.copy()
    noisy[wrong] += rng.integers(1, classes, count)
    return noisy % classes


def _labels(infos: List[dict], kind: str) -> np.ndarray:
    values = [info.get('gt_label') for info in infos]
    if not all(isinstance(value, (int, np.integer)) for value in values):
        raise ValueError(
            f'dataset.of={kind!r} has images without one label each; a subset '
            'by class needs a single-label data set'
        )
    return np.array(values)


def subset_dataset(
    of: str,
    shots: Optional[int] = None,
    imbalance: Optional[float] = None,
    label_noise: float = 0.0,
    seed: int = 0,
    **dataset,
) -> BaseDataset:
    r"""Any data set of one label an image, made scarce, unbalanced or wrong.

    What is returned *is* the data set of type ``of``, with fewer images or
    other labels. It takes the place of that type in a config, so that three
    options make a subset of an existing one::

        --cfg-options train_dataloader.dataset.type=SubsetDataset \
            train_dataloader.dataset.of=CustomDataset \
            train_dataloader.dataset.shots=10

    The draw depends on ``seed`` alone, not on the seed of training: all arms
    and seeds of a comparison see the same images.

    Args:
        of (str): Type of the data set, such as ``'CustomDataset'``.
        shots (int, optional): Images of each class; None keeps all.
        imbalance (float, optional): Long tail, images of the first class for
            one of the last, >= 1. Drawn before ``shots``; None keeps all.
        label_noise (float): Part of the labels that become another class, in
            ``[0, 1]``; of the images that are kept.
        seed (int): Of the draws.
        **dataset: Options of that data set.

    Raises:
        ValueError: If an option is out of its range or an image has no single
            label.
    """
    serialize = dataset.pop('serialize_data', True)
    built = DATASETS.build(
        dict(dataset, type=of, serialize_data=False, lazy_init=False)
    )
    infos, rng = built.data_list, np.random.default_rng(seed)
    labels = _labels(infos, of)
    classes = len(built.metainfo.get('classes') or range(labels.max() + 1))
    kept = np.arange(len(labels))
    if imbalance is not None:
        kept = kept[long_tail(labels, imbalance, rng)]
    if shots is not None:
        kept = kept[few_shots(labels[kept], shots, rng)]
    targets = noisy_labels(labels[kept], label_noise, classes, rng)
    built.data_list = [
        dict(infos[i], gt_label=int(label)) for i, label in zip(kept, targets)
    ]
    if serialize:  # one copy for all worker processes, as MMEngine does
        built.serialize_data = True
        built.data_bytes, built.data_address = built._serialize_data()
    return built
