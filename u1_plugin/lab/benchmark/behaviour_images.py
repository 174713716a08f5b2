"""Other images that the runs of a benchmark are shown, and their classes."""

import copy
from pathlib import Path
from typing import Any, NamedTuple, Optional, Tuple

import numpy as np
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import DATASETS

from ...mm.data import reading_files, test_pipeline, training_images
from ...options import Count, checked, shown
from .images import Images, split_images


class Splits(NamedTuple):
    """Train, validation and test images of one data set."""

    train: Images
    val: Images
    test: Images


def _dataset(config: Config, split: str, field: str) -> Any:
    """The config of a split's data set; the train split's as a test split's."""
    if split == 'train':
        return train_dataset(config, field)
    loader = config.get(f'{split}_dataloader')
    if loader is None:
        raise ValueError(
            f'{field}: the config has no {split}_dataloader, whose images are '
            'asked for; give it one'
        )
    return copy.deepcopy(loader['dataset'])


def _images(dataset: Any, limit: Optional[int]) -> Images:
    loader = dict(test_dataloader=dict(dataset=dataset))
    return split_images(Config(loader), limit=limit)


def train_dataset(config: Config, field: str = '--collapse') -> Any:
    """The config of the train split, each image once, in the test pipeline.

    Raises:
        ValueError: If there is none.
    """
    return training_images(config, field)


@checked()
def train_images(config: Config, limit: Optional[Count] = None) -> Images:
    """The train split of a config, each image once, in the test pipeline.

    Args:
        config (Config): Of a run.
        limit (int, optional): So many evenly spaced images; None takes all.

    Raises:
        ValueError: If the config has no train split.
    """
    return _images(train_dataset(config), limit)


@checked()
def all_splits(
    config: Config, field: str, limit: Optional[Count] = None
) -> Splits:
    """All splits of a config, in its test pipeline.

    Args:
        config (Config): With a train, a validation and a test loader.
        field (str): Who asks, for messages.
        limit (int, optional): So many evenly spaced images of each split;
            None takes all.

    Raises:
        ValueError: If a loader is missing, or the splits' classes differ.
    """
    check_splits(config, field)
    return Splits(
        *(_images(_dataset(config, s, field), limit) for s in Splits._fields)
    )


def check_colours(own: Config, other: Config, field: str) -> None:
    """Raise ValueError if images come in an order that the runs do not take.

    A run's data preprocessor turns BGR to RGB if its ``to_rgb`` says so, and
    it is the run's that takes the images of the other data set.
    """
    first, second = _to_rgb(own), _to_rgb(other)
    if first != second:
        raise ValueError(
            f'{field}: data_preprocessor.to_rgb={second}, but {first} in the '
            'configs of the runs, whose networks would see red as blue; give '
            'a config whose images come in the order of theirs'
        )


def _to_rgb(config: Config) -> bool:
    model = config.get('model') or {}
    found = model.get('data_preprocessor') or config.get('data_preprocessor')
    return bool((found or {}).get('to_rgb', False))


def check_splits(config: Config, field: str) -> None:
    """Raise ValueError unless all splits are there and have the same classes.

    Otherwise a label would mean one class here and another one there.
    """
    names = {
        split: class_names(_dataset(config, split, field), field)
        for split in Splits._fields
    }
    for split, own in names.items():
        if own != names['train']:
            raise ValueError(
                f'{field}: the classes of the {split} split, {shown(own)}, '
                f'are not those of the train split, {shown(names["train"])}; '
                'give all splits a folder of each class'
            )


def class_names(dataset: Any, field: str) -> Optional[Tuple[str, ...]]:
    """The classes of a data set, by label.

    Args:
        dataset (dict): Its config.
        field (str): Who asks, for messages.

    Returns:
        tuple[str], optional: None if it does not tell them.

    Raises:
        ValueError: If it cannot be built.
    """
    try:
        names = DATASETS.build(dataset).metainfo.get('classes')
    except (AssertionError, RuntimeError) as error:  # no folder of images
        raise ValueError(
            f'{field}: {error}; give the data set a folder of images for each '
            'class'
        ) from error
    return None if names is None else tuple(map(str, names))


def trained_classes(
    config: Config, checkpoint: Optional[Path] = None, field: str = '--severity'
) -> Optional[Tuple[str, ...]]:
    """The classes of a run, by label.

    Args:
        config (Config): Of the run.
        checkpoint (Path, optional): That the run may have left. MMEngine
            records the classes there; without them the test split tells.
        field (str): Who asks, for messages.

    Returns:
        tuple[str], optional: None if neither tells.
    """
    if checkpoint is not None and checkpoint.is_file():
        content = CheckpointLoader.load_checkpoint(str(checkpoint), 'cpu')
        meta = (content.get('meta') or {}).get('dataset_meta') or {}
        if meta.get('classes') is not None:
            return tuple(map(str, meta['classes']))
    return class_names(_dataset(config, 'test', field), field)


def _folder_dataset(config: Config, folder: Path) -> dict:
    steps = reading_files(test_pipeline(config) or [])
    return dict(type='CustomDataset', data_root=str(folder), pipeline=steps)


def check_folder(
    config: Config, folder: Path, field: str = '--also'
) -> np.ndarray:
    """Labels of the test split, by label of a folder.

    Args:
        config (Config): Of a run.
        folder (Path): With one sub-folder a class of the test split.
        field (str): Who asks, for messages.

    Returns:
        np.ndarray: ``(K,)``, of the sub-folders in the order of their names.

    Raises:
        ValueError: If its sub-folders are not the classes of the test split.
    """
    own = class_names(_folder_dataset(config, folder), field) or ()
    test = _dataset(config, 'test', field)
    wanted = class_names(test, field) or ()
    if set(own) != set(wanted) or not wanted:
        raise ValueError(
            f"{field}: {folder} has not the classes of the runs' test split: "
            f'without {shown(sorted(set(wanted) - set(own)))}, but with '
            f'{shown(sorted(set(own) - set(wanted)))}; give it one sub-folder '
            'a class, an empty one for a class without images'
        )
    return np.array([wanted.index(name) for name in own])


@checked()
def class_folder(
    config: Config, folder: Path, limit: Optional[Count] = None
) -> Images:
    """Images of the same classes elsewhere, in the test pipeline of a config.

    Args:
        config (Config): Of a run.
        folder (Path): See :func:`check_folder`.
        limit (int, optional): So many evenly spaced images; None takes all.

    Returns:
        Images: Labelled as the test split is.

    Raises:
        ValueError: If its sub-folders are not the classes of the test split.
    """
    labels = check_folder(config, folder)
    found = _images(_folder_dataset(config, folder), limit)
    return found._replace(labels=labels[found.labels])
