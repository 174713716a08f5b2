"""Images that the runs of a benchmark are shown, and their classes."""

from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import DATASETS
from torch import Tensor

from ...mm.data import leaves, training_images
from ...options import Count, checked, shown
from ..analysis.images import each_once, subset_index
from ..analysis.preparation import holds_rgb, picture_pipeline, turns_to_rgb


class LabelledImages(NamedTuple):
    """A data set in memory."""

    inputs: Tensor  # (N, 3, H, W), uint8
    labels: np.ndarray  # (N,); -1 where there is none


class Splits(NamedTuple):
    """Train, validation and test images of one data set."""

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages


def _load(dataset: Any, limit: Optional[int]) -> LabelledImages:
    built = DATASETS.build(dataset)
    chosen = subset_index(len(built), limit or len(built))
    packed = [built[int(i)] for i in chosen]
    samples = [p['data_samples'] for p in packed]
    labels = [int(s.gt_label) if 'gt_label' in s else -1 for s in samples]
    return LabelledImages(
        torch.stack([p['inputs'] for p in packed]), np.array(labels)
    )


def split_dataset(config: Config, split: str, field: str) -> Any:
    """The config of a split's data set, in the test pipeline.

    Args:
        config (Config): Of a run.
        split (str): ``'train'``, ``'val'`` or ``'test'``. Each image comes
            once, in one view of test-time augmentation.
        field (str): Who asks, for messages.

    Raises:
        ValueError: If there is none.
    """
    if split == 'train':
        return training_images(config, field)
    loader = config.get(f'{split}_dataloader')
    if loader is None:
        raise ValueError(
            f'{field}: the config has no {split}_dataloader, whose images are '
            'asked for; give it one'
        )
    return each_once(loader['dataset'])


@checked()
def split_images(
    config: Config,
    corruption: Optional[str] = None,
    severity: int = 1,
    limit: Optional[Count] = None,
    split: str = 'test',
    field: str = '--collapse',
) -> LabelledImages:
    """A split of a config, corrupted if wanted.

    Args:
        config (Config): Of a run.
        corruption (str, optional): Name for
            :class:`~u1_plugin.lab.corrupt.Corrupt`, which goes before the last
            step of the pipeline.
        severity (int): 1 to 5.
        limit (int, optional): So many evenly spaced images; None takes all.
        split, field: See :func:`split_dataset`, and for what it raises.
    """
    dataset = split_dataset(config, split, field)
    if corruption is not None:
        step = dict(
            type='Corrupt',
            name=corruption,
            severity=severity,
            rgb=holds_rgb(config),
        )
        for leaf in leaves(dataset):
            if not leaf.get('pipeline'):
                raise ValueError(
                    f'--corruptions {corruption}: the {split} data set has no '
                    'pipeline, in which it would be a step; give it one'
                )
            leaf['pipeline'].insert(len(leaf['pipeline']) - 1, step)
    return _load(dataset, limit)


@checked()
def all_splits(
    config: Config, field: str, limit: Optional[Count] = None
) -> Splits:
    """All splits of a config; see :func:`split_images`, :func:`check_splits`.

    Raises:
        ValueError: If a loader is missing, or the splits' classes differ.
    """
    check_splits(config, field)
    return Splits(
        *(
            split_images(config, limit=limit, split=split, field=field)
            for split in Splits._fields
        )
    )


def check_colours(config: Config, other: Config, field: str) -> None:
    """Raise ValueError if images come in an order that the runs do not take.

    A run's data preprocessor turns BGR to RGB if its ``to_rgb`` says so, and
    it is the run's that takes the images of the other data set.
    """
    first, second = turns_to_rgb(config), turns_to_rgb(other)
    if first != second:
        raise ValueError(
            f'{field}: data_preprocessor.to_rgb={second}, but {first} in the '
            'configs of the runs, whose networks would see red as blue; give '
            'a config whose images come in the order of theirs'
        )


def check_splits(config: Config, field: str) -> None:
    """Raise ValueError unless all splits are there and have the same classes.

    Otherwise a label would mean one class here and another one there.
    """
    names = {
        split: class_names(split_dataset(config, split, field), field)
        for split in Splits._fields
    }
    for split, classes in names.items():
        if classes != names['train']:
            raise ValueError(
                f'{field}: the classes of the {split} split, {shown(classes)}, '
                f'are not those of the train split, {shown(names["train"])}; '
                'give all splits a folder of each class'
            )


def class_names(dataset: Any, field: str) -> Optional[Tuple[str, ...]]:
    """The classes of a data set, by label; None if it does not tell them.

    Raises:
        ValueError: If it cannot be built of this config; ``field`` asks.
    """
    try:
        names = DATASETS.build(dataset).metainfo.get('classes')
    except (AssertionError, RuntimeError) as error:  # no folder of images
        raise ValueError(
            f'{field}: {error}; give the data set a folder of images for each '
            'class'
        ) from error
    return None if names is None else tuple(map(str, names))


def check_every_class(config: Config, limit: Optional[int], field: str) -> None:
    """Raise ValueError unless both splits show an image of each class.

    Data sets that tell no labels without their images are not checked.
    """
    for split in ('train', 'test'):
        built = DATASETS.build(split_dataset(config, split, field))
        names = built.metainfo.get('classes')
        if names is None or not hasattr(built, 'get_gt_labels'):
            continue
        chosen = subset_index(len(built), limit or len(built))
        labels = built.get_gt_labels()[chosen]
        missing = np.setdiff1d(range(len(names)), labels)
        if len(missing):
            kept = '' if limit is None else f' among --images {limit}'
            raise ValueError(
                f'{field}: {len(missing)} of {len(names)} classes have no '
                f'image of the {split} split{kept}, the first is '
                f'{names[missing[0]]!r}; show all classes, or leave it out'
            )


def trained_classes(
    config: Config, checkpoint: Optional[Path] = None
) -> Optional[Tuple[str, ...]]:
    """The classes of a run, by label; None if nothing tells them.

    ``--mistake-severity`` asks for them, and messages name it.

    Args:
        config (Config): Of the run.
        checkpoint (Path, optional): That the run may have left. MMEngine
            records the classes there; without them the test split tells.
    """
    if checkpoint is not None and checkpoint.is_file():
        content = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu')
        meta = (content.get('meta') or {}).get('dataset_meta') or {}
        if meta.get('classes') is not None:
            return tuple(map(str, meta['classes']))
    field = '--mistake-severity'
    return class_names(split_dataset(config, 'test', field), field)


def _folder_dataset(config: Config, folder: Path, **options: Any) -> dict:
    # As many channels, in the same order, as the test images have.
    channels = split_images(config, limit=1).inputs.size(1)
    steps = picture_pipeline(config, None, channels)
    return dict(
        type='CustomDataset', data_root=str(folder), pipeline=steps, **options
    )


@checked()
def folder_images(
    config: Config, folder: Path, limit: Optional[Count] = None
) -> LabelledImages:
    """Images of a folder and its sub-folders, as the test split is prepared.

    For ``limit``, see :func:`split_images`.
    """
    return _load(_folder_dataset(config, folder, with_label=False), limit)


def check_folder(
    config: Config, folder: Path, field: str = '--also'
) -> np.ndarray:
    """Labels of a config's test split, by label of a folder.

    Returns:
        np.ndarray: ``(K,)``, of the sub-folders in the order of their names.

    Raises:
        ValueError: If its sub-folders are not the classes of the test split.
    """
    # Its names alone are asked for, and no image is prepared.
    dataset = dict(type='CustomDataset', data_root=str(folder), pipeline=[])
    names = class_names(dataset, field) or ()
    test = split_dataset(config, 'test', field)
    expected = class_names(test, field) or ()
    if set(names) != set(expected) or not expected:
        raise ValueError(
            f"{field}: {folder} has not the classes of the runs' test split: "
            f'without {shown(sorted(set(expected) - set(names)))}, but with '
            f'{shown(sorted(set(names) - set(expected)))}; give it one '
            'sub-folder a class, an empty one for a class without images'
        )
    return np.array([expected.index(name) for name in names])


@checked()
def class_folder(
    config: Config, folder: Path, limit: Optional[Count] = None
) -> LabelledImages:
    """The images of :func:`folder_images`, labelled as the test split is.

    Raises:
        ValueError: If its sub-folders are not the classes of the test split.
    """
    labels = check_folder(config, folder)
    images = _load(_folder_dataset(config, folder), limit)
    return images._replace(labels=labels[images.labels])
