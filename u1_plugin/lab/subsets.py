"""Few shots, long tails and label noise of any data set with labels."""

import copy
import inspect
from typing import Annotated, Any, List, Optional, Union

import numpy as np
from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmpretrain.datasets import KFoldDataset
from mmpretrain.registry import DATASETS

from ..mm.data import forget_copies, leaves, type_name
from ..options import Count, Range, Seed, checked

Imbalance = Annotated[float, Range(1)]
Rate = Annotated[float, Range(0, 1)]


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
        indices = np.flatnonzero(labels == label)
        if shots > len(indices):
            raise ValueError(
                f'dataset.shots={shots}, but class {label} has {len(indices)} '
                'image(s); choose at most that'
            )
        chosen.append(rng.permutation(indices)[:shots])
    return np.sort(np.concatenate(chosen))


def long_tail(
    labels: np.ndarray,
    imbalance: float,
    rng: np.random.Generator,
    classes: Optional[int] = None,
) -> np.ndarray:
    """Indices of a long tail: class c keeps ``imbalance^(-c / (K - 1))``.

    Class 0 keeps every image, class K - 1 one in ``imbalance``, each class
    that occurs at least one image.

    Args:
        labels (np.ndarray): ``(N,)``, in ``[0, K)``.
        imbalance (float): >= 1.
        rng (np.random.Generator): Draws them.
        classes (int, optional): K; None takes the largest label and 1.
    """
    last = max((classes or int(labels.max()) + 1) - 1, 1)
    chosen = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        keep = max(1, round(len(indices) * imbalance ** (-int(label) / last)))
        chosen.append(rng.permutation(indices)[:keep])
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
        ValueError: If there is no other class to draw.
    """
    count = round(rate * len(labels))
    if count and classes < 2:
        raise ValueError(
            f'dataset.label_noise={rate}, but the data set has {classes} '
            'class(es), so that there is no other one; leave the noise out'
        )
    noisy = labels.copy()
    wrong = rng.permutation(len(labels))[:count]
    noisy[wrong] = (noisy[wrong] + rng.integers(1, classes, count)) % classes
    return noisy


def _labels(infos: List[dict], kind: str) -> np.ndarray:
    values = [info.get('gt_label') for info in infos]
    if not all(isinstance(value, (int, np.integer)) for value in values):
        raise ValueError(
            f'dataset.of={kind!r} has images without one label each; a subset '
            'by class needs a single-label data set'
        )
    if not values:
        raise ValueError(
            f'dataset.of={kind!r} has no image; check its paths and indices'
        )
    return np.array(values, np.int64)


def _check_labels(labels: np.ndarray, classes: int, options: dict) -> None:
    """Draws by class need classes; without a draw, labels stay as they are."""
    draws = {name: value for name, value in options.items() if value}
    low, high = labels.min(), labels.max()
    if draws and (low < 0 or high >= classes):
        raise ValueError(
            f'dataset: labels from {low} to {high}, but {classes} classes are '
            f'named, of which {", ".join(f"{k}={v}" for k, v in draws.items())}'
            ' draws; set dataset.metainfo.classes to one name for each class'
        )


def _check_kind(of: Union[str, type]) -> None:
    """Refuse what is no data set, or has an option of a name of ours."""
    kind = DATASETS.get(of) if isinstance(of, str) else of
    if kind is None:
        raise ValueError(
            f'dataset.of={of!r} is no registered data set; name one, such as '
            "'CustomDataset'"
        )
    option_names = {'of', 'shots', 'imbalance', 'label_noise', 'seed'}
    if taken := sorted(option_names & set(inspect.signature(kind).parameters)):
        raise ValueError(
            f'dataset.of={type_name(of)!r} has an option {taken[0]} of its '
            'own; put SubsetDataset inside it, or another wrapper around it: '
            f"dict(type={type_name(of)!r}, dataset=dict(type='SubsetDataset'))"
        )


def _unserialized(config: Any) -> List[bool]:
    """Have the innermost data sets list their images; what they did before."""
    serialized = []
    for leaf in leaves(config):
        serialized.append(bool(leaf.get('serialize_data', True)))
        leaf.update(serialize_data=False, lazy_init=False)
    return serialized


def _renew(dataset: Any) -> None:
    """Let wrappers count their images again, the innermost first."""
    wrapped = getattr(dataset, 'datasets', None)
    if wrapped is None:
        wrapped = [dataset.dataset] if hasattr(dataset, 'dataset') else []
    for part in wrapped:
        _renew(part)
    # A fold has been taken, and lies inside as a data set.
    if wrapped and not isinstance(dataset, KFoldDataset):
        dataset._fully_initialized = False
        dataset.full_init()


@checked('dataset')
def subset_dataset(
    of: Union[str, type],
    shots: Optional[Count] = None,
    imbalance: Optional[Imbalance] = None,
    label_noise: Rate = 0.0,
    seed: Seed = 0,
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
    and seeds of a comparison see the same images. Labels change by
    ``label_noise`` alone, and the number of classes never does.

    If ``of`` is a wrapper, the images that it wraps are drawn from, before it
    repeats or balances them: those of all parts of a ``ConcatDataset``
    together, those of the fold of a ``KFoldDataset`` in it.

    Args:
        of (str | type): Type of the data set, such as ``'CustomDataset'``.
        shots (int, optional): Images of each class; None keeps all.
        imbalance (float, optional): Long tail, images of the first class for
            one of the last, >= 1. Drawn before ``shots``; None keeps all.
        label_noise (float): Part of the labels that become another class, in
            ``[0, 1]``; of the images that are kept.
        seed (int): Of the draws.
        **dataset: Options of that data set.

    Raises:
        ValueError: If an option is out of its range, an image has no single
            label, or a label that no class has is to be drawn by; or if
            ``of`` is a ``KFoldDataset``, whose seed is another one.
    """
    _check_kind(of)
    config = ConfigDict(copy.deepcopy(dataset), type=of)
    serialized = _unserialized(config)
    forget_copies()
    built = DATASETS.build(config)
    built.full_init()
    parts = list(leaves(built))
    if not all(isinstance(part, BaseDataset) for part in parts):
        raise ValueError(
            f'dataset.of={type_name(of)!r} keeps no list of its images; give '
            "a subclass of MMEngine's BaseDataset"
        )
    infos = [info for part in parts for info in part.data_list]
    places = [k for k, part in enumerate(parts) for _ in part.data_list]
    labels, rng = _labels(infos, type_name(of)), np.random.default_rng(seed)
    names = built.metainfo.get('classes')
    classes = len(names) if names else max(int(labels.max()) + 1, 1)
    options = dict(shots=shots, imbalance=imbalance, label_noise=label_noise)
    _check_labels(labels, classes, options)
    indices = np.arange(len(labels))
    if imbalance is not None:
        indices = indices[long_tail(labels, imbalance, rng, classes)]
    if shots is not None:
        indices = indices[few_shots(labels[indices], shots, rng)]
    targets = labels[indices]
    if label_noise:
        targets = noisy_labels(targets, label_noise, classes, rng)
    lists: List[List[dict]] = [[] for _ in parts]
    for number, label in zip(indices, targets):
        info = dict(infos[number], gt_label=int(label))
        lists[places[number]].append(info)
    for part, entries, serialize in zip(parts, lists, serialized):
        part.data_list = entries
        if serialize and entries:  # one copy for all workers, as MMEngine does
            part.serialize_data = True
            part.data_bytes, part.data_address = part._serialize_data()
    _renew(built)
    return built
