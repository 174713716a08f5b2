"""What of a probe's options needs no network."""

from typing import Any, Dict, Literal, Sequence, Union

from torch import nn

from ..nn.base import build
from ..nn.feature_plane import FeaturePlane

Layers = Union[None, str, Sequence[str]]
Plane = Literal['feature', 'image', 'joint']
Planes = Union[None, Dict[str, Any], Sequence[Dict[str, Any]]]
Orthant = Literal['relu', 'abs', 'softplus', 'identity']


def check_options(field: str, layers: Layers, feature_plane: Planes) -> None:
    """Check what of a probe's options needs no network.

    Args:
        field (str): Whose options they are, for messages.
        layers (str | Sequence[str], optional): See :class:`~.probe.Probe`.
        feature_plane (dict | Sequence[dict], optional): Likewise.

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
    several = not isinstance(feature_plane, dict)
    configs = (
        [feature_plane] if isinstance(feature_plane, dict) else feature_plane
    )
    if several and names is not None and len(configs) != len(names):
        raise ValueError(
            f'{field}.feature_plane has {len(configs)} configs, but '
            f'layers has {len(names)} names; give one a layer'
        )
    for config in configs:
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
