"""What of a probe needs no network: its options, labels, and messages."""

from contextlib import contextmanager
from typing import Any, Dict, Iterator, Literal, Sequence, Union

import torch
from torch import Tensor, nn

from ..nn.base import build
from ..nn.feature_plane import FeaturePlane

Layers = Union[None, str, Sequence[str]]
Plane = Literal['feature', 'image', 'joint']
Planes = Union[None, Dict[str, Any], Sequence[Dict[str, Any]]]
Orthant = Literal['relu', 'abs', 'softplus', 'identity']


def check_options(field: str, layers: Layers, feature_plane: Planes) -> None:
    """Check the options of a :class:`~.probe.Probe`, whose field this is.

    Raises:
        ValueError: If a layer is named twice or none at all, or a plane
            cannot be built or is not one a layer.
    """
    names = [layers] if isinstance(layers, str) else layers
    if names is not None and (not names or len(set(names)) < len(names)):
        raise ValueError(
            f'{field}.layers={layers!r} must name each layer once; None takes '
            "those of the model's U(1) branch"
        )
    if feature_plane is None:
        return
    if isinstance(feature_plane, dict):
        build_plane(feature_plane, field)
        return
    if names is not None and len(feature_plane) != len(names):
        raise ValueError(
            f'{field}.feature_plane has {len(feature_plane)} configs, but '
            f'layers has {len(names)} names; give one a layer'
        )
    for config in feature_plane:
        build_plane(config, field)


def build_plane(config: Dict[str, Any], owner: str) -> nn.Module:
    """The plane of a config, for a measurement.

    Raises:
        ValueError: If it would be fitted in training, or cannot be built.
    """
    for field, value in (('basis', 'learned'), ('center', 'running')):
        if config.get(field) == value:
            raise ValueError(
                f'{owner}.feature_plane.{field}={value!r} is fitted in '
                'training, which a measurement does not do; leave '
                "feature_plane out to use the model's own, or fit one to a "
                'file'
            )
    return build(f'{owner}.feature_plane', config, FeaturePlane).eval()


@contextmanager
def written_as(names: Dict[str, str]) -> Iterator[None]:
    """Let ValueErrors of the block name other options.

    What finds the maps of a network speaks of ``u1.neck.layers``, the option
    of a U(1) branch. A hook's user has written ``AngleStatsHook.layers``, and
    that of a tool ``--layers``.

    Args:
        names (Dict[str, str]): What stands in a message, and what is to.
    """
    try:
        yield
    except ValueError as error:
        text = str(error)
        for name, written in names.items():
            text = text.replace(name, written)
        if text == str(error):
            raise
        raise ValueError(text) from error


def class_labels(samples: Sequence[Any]) -> Tensor:
    """The labels of data samples that have one class each.

    Args:
        samples (Sequence[DataSample | dict]): With ``gt_label``.

    Returns:
        Tensor: ``(B,)``, int64, on the CPU.

    Raises:
        ValueError: If a sample has no label or several.
    """
    if not len(samples):
        return torch.zeros(0, dtype=torch.int64)
    labels = [sample.get('gt_label') for sample in samples]
    if any(label is None or label.numel() != 1 for label in labels):
        raise ValueError(
            'the images need one gt_label each, but one has none or several; '
            'use a data set of single-label classification'
        )
    return torch.cat([label.reshape(1) for label in labels]).cpu().long()
