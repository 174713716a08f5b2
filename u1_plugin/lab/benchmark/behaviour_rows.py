"""Rows of ``behaviour.csv``: every model is shown the same images."""

from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config
from torch import nn

from ...extras import needs
from .behaviour import accuracy, detection, recorded_outputs, signals
from .behaviour_features import collapse_values
from .evaluated_images import (
    LabelledImages,
    all_splits,
    class_folder,
    folder_images,
    split_images,
)
from .severity import severity
from .transfer import transfer

with needs('lab'):
    from rich.progress import track

CORRUPTED = 'corrupted top-1, %'


class Trained(NamedTuple):
    """A run that is measured."""

    keys: dict  # its config, arm, role and seed
    model: nn.Module  # in eval mode


class ImageSettings(NamedTuple):
    """How models are shown images."""

    config: Config  # of the runs, whose data and pipeline it is
    limit: Optional[int]  # of images of each split
    layer: Optional[str]  # whose map is measured


def row(keys: dict, quantity: str, value: float, detail: str = '') -> dict:
    """One row; a report shows those without a detail."""
    return dict(keys, quantity=quantity, detail=detail, value=value)


def _top1(
    model: nn.Module, images: LabelledImages, shown: ImageSettings
) -> float:
    values = signals(model, images.inputs, shown.layer)
    return accuracy(values.logits, images.labels)


def corruption_rows(
    models: Sequence[Trained],
    shown: ImageSettings,
    corruptions: Sequence[Tuple[str, int]],
) -> List[dict]:
    """Top-1 by corruption and severity, and its mean."""
    rows: List[dict] = []
    sums: Dict[int, List[float]] = {i: [] for i in range(len(models))}
    for name, level in track(corruptions, 'corruptions'):
        images = split_images(shown.config, name, level, shown.limit)
        for i, (keys, model) in enumerate(models):
            value = _top1(model, images, shown)
            sums[i].append(value)
            rows.append(row(keys, CORRUPTED, value, f'{name}/{level}'))
    for i, (keys, _) in enumerate(models):
        rows.append(row(keys, CORRUPTED, sum(sums[i]) / len(sums[i])))
    return rows


def detection_rows(
    models: Sequence[Trained],
    shown: ImageSettings,
    folders: Iterable[Tuple[str, str]],
) -> List[dict]:
    """Areas under the curve against the images of each named folder."""
    known = split_images(shown.config, limit=shown.limit)
    others = {
        name: folder_images(shown.config, Path(folder), shown.limit)
        for name, folder in folders
    }
    rows = []
    for keys, model in track(models, 'detection'):
        inside = signals(model, known.inputs, shown.layer)
        for name, images in others.items():
            outside = signals(model, images.inputs, shown.layer)
            for detector, value in detection(inside, outside).items():
                quantity = f'AUROC against {name} by {detector}, %'
                rows.append(row(keys, quantity, value))
    return rows


def collapse_rows(
    models: Sequence[Trained], shown: ImageSettings
) -> List[dict]:
    """Collapse and angles of the features of both splits."""
    splits = {
        split: split_images(shown.config, limit=shown.limit, split=split)
        for split in ('train', 'test')
    }
    return [
        row(keys, f'{split}: {quantity}', value)
        for keys, model in track(models, 'collapse')
        for split, images in splits.items()
        for quantity, value in collapse_values(
            model, images, shown.layer
        ).items()
    ]


def transfer_rows(
    models: Sequence[Trained],
    shown: ImageSettings,
    configs: Iterable[Tuple[str, Config]],
) -> List[dict]:
    """Top-1 of frozen features on each named data set."""
    rows = []
    for name, config in configs:
        splits = all_splits(config, f'--transfer {name}', shown.limit)
        for keys, model in track(models, f'transfer to {name}'):
            scores, strength = transfer(model, splits, shown.layer)
            start = f'transfer to {name}'
            for method, value in scores.items():
                rows.append(row(keys, f'{start}: {method}, %', value))
            quantity = f'{start}: C of the linear probe'
            rows.append(row(keys, quantity, strength, 'chosen'))
    return rows


def also_rows(
    models: Sequence[Trained],
    shown: ImageSettings,
    folders: Iterable[Tuple[str, str]],
) -> List[dict]:
    """Top-1 on the same classes in each named folder."""
    rows = []
    for name, folder in folders:
        images = class_folder(shown.config, Path(folder), shown.limit)
        for keys, model in track(models, f'also {name}'):
            value = _top1(model, images, shown)
            rows.append(row(keys, f'top-1 on {name}, %', value))
    return rows


def severity_rows(
    runs: Iterable[Tuple[dict, Path]], names: Sequence[str]
) -> List[dict]:
    """Severity of the recorded mistakes of runs, given by keys and folder."""
    return [
        row(keys, quantity, value)
        for keys, folder in runs
        for quantity, value in severity(
            *recorded_outputs(folder), names
        ).items()
    ]
