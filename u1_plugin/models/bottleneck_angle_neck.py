"""Measures the angles of bottleneck maps on their way to the head."""

import weakref
from functools import cache
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from ..geometry import (
    ORTHANT_MAPS,
    energy,
    image_moment,
    pooled_vector,
    to_positive_orthant,
)
from ..taps import Tap, as_map, find_module, read_grid
from .base import check_choice

Layer = Union[int, str]

#: Necks that name modules of a classifier which has not taken them in yet.
_AWAITING: weakref.WeakSet = weakref.WeakSet()


def _await_classifier(neck: 'BottleneckAngleNeck') -> None:
    """Have the neck tap its named modules once a classifier takes it in.

    MMPretrain builds the neck apart from the backbone. PyTorch announces each
    module that becomes a child of another, so the neck learns there of its
    classifier, whose backbone is in place by then.
    """
    _listen()
    _AWAITING.add(neck)


@cache
def _listen() -> None:
    """Once a process, and only if some neck names a module."""

    def attach(parent: nn.Module, name: str, child: nn.Module) -> None:
        if child in _AWAITING:
            _AWAITING.discard(child)
            child._attach(parent)

    register_module_module_registration_hook(attach)


_PLANES = {
    'feature': ('feature',),
    'image': ('image',),
    'joint': ('feature', 'image'),
}


class Moment(NamedTuple):
    """A moment of one layer in one plane.

    Attributes:
        layer (int | str): Position or name, as configured.
        plane (str): ``'feature'`` or ``'image'``.
        weight (float): Its share in the loss.
        value (Tensor): ``z``, ``(B, 2)``.
    """

    layer: Layer
    plane: str
    weight: float
    value: Tensor


class U1Feats(NamedTuple):
    """What :class:`BottleneckAngleNeck` hands to the head in training.

    Attributes:
        feats: The inner neck's output, unchanged.
        moments (Tuple[Moment, ...]): One for each layer and plane.
    """

    feats: Any
    moments: Tuple[Moment, ...]


def _as_list(field: str, value: Any, length: int) -> list:
    values = (
        list(value) if isinstance(value, (list, tuple)) else [value] * length
    )
    if len(values) != length:
        raise ValueError(
            f'neck.{field}={value} has {len(values)} entries, '
            f'but neck.layers has {length}; give one a layer'
        )
    return values


@MODELS.register_module()
class BottleneckAngleNeck(BaseModule):
    """Any neck, and the U(1) moments of the maps that pass through it.

    In training it returns :class:`U1Feats`; in evaluation nothing but the
    inner neck runs, so logits, exports and FLOPs are the plain model's.

    Args:
        neck (dict, optional): The neck that serves the head. None hands the
            backbone's output on as it is.
        layers (int | str | Sequence[int | str]): Which maps to measure: a
            position in the tuple that the backbone returns (-1, the default,
            is the last), or the name of any module of the classifier, such
            as ``'backbone.layer3'``. A name needs no change to the backbone;
            it is looked up when the classifier is built.
        plane (str): ``'feature'``, ``'image'`` or ``'joint'`` (both against
            the same class angle).
        feature_plane (dict): Config of :class:`FeaturePlane`; each layer has
            one of its own.
        in_channels (int | Sequence[int], optional): C of each layer; planes
            with a state of that size need it.
        layer_weights (float | Sequence[float], optional): Share of each layer
            in the loss, >= 0. Defaults to equal shares that add up to 1, so
            that lambda means the same for any number of layers. A layer's
            share is divided equally between its planes.
        orthant (str): ``rho``, one of :data:`~u1_plugin.geometry.ORTHANT_MAPS`.
            Maps that end in a ReLU are unchanged by ``'relu'``.
        token_grid (str, optional): For named layers that give tokens
            ``(B, L, C)``: the name of the module that returns
            ``(tokens, (H, W))``, in MMPretrain ``'backbone.patch_embed'``.
            What precedes the patch tokens is left out.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        neck: Optional[dict] = dict(type='GlobalAveragePooling'),
        layers: Union[Layer, Sequence[Layer]] = -1,
        plane: str = 'feature',
        feature_plane: dict = dict(type='FeaturePlane'),
        in_channels: Union[None, int, Sequence[int]] = None,
        layer_weights: Union[None, float, Sequence[float]] = None,
        orthant: str = 'relu',
        token_grid: Optional[str] = None,
        init_cfg: Optional[dict] = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        check_choice('neck.plane', plane, _PLANES)
        check_choice('neck.orthant', orthant, ORTHANT_MAPS)
        self.layers = self._check_layers(layers)
        self.plane = plane
        self.orthant = orthant
        self.layer_weights = self._check_weights(layer_weights)
        if neck is not None and not isinstance(neck, nn.Module):
            neck = MODELS.build(neck)
        self.neck = neck
        self.feature_planes = self._build_planes(feature_plane, in_channels)
        names = [layer for layer in self.layers if isinstance(layer, str)]
        self._token_grid = token_grid
        self._taps = {
            name: Tap(self)
            for name in names + ([token_grid] if token_grid else [])
        }
        if self._taps:
            _await_classifier(self)

    def _attach(self, classifier: nn.Module) -> None:
        for name, tap in self._taps.items():
            grid = name == self._token_grid
            field = 'neck.token_grid' if grid else 'neck.layers'
            find_module(classifier, name, field).register_forward_hook(tap)

    @staticmethod
    def _check_layers(layers) -> List[Layer]:
        layers = [layers] if isinstance(layers, (int, str)) else list(layers)
        if (
            not layers
            or len(set(layers)) != len(layers)
            or not all(isinstance(layer, (int, str)) for layer in layers)
        ):
            raise ValueError(
                f'neck.layers={layers} must be one or several '
                "different positions among the backbone's outputs, such as "
                "-1 or [2, 3], or names of modules, such as 'backbone.layer3'"
            )
        return layers

    def _check_weights(self, weights) -> List[float]:
        count = len(self.layers)
        if weights is None:
            weights = 1 / count
        weights = [float(w) for w in _as_list('layer_weights', weights, count)]
        if not all(0 <= weight < float('inf') for weight in weights):
            raise ValueError(
                f'neck.layer_weights={weights} must be finite and >= 0'
            )
        return weights

    def _build_planes(self, feature_plane: dict, in_channels) -> nn.ModuleList:
        if 'feature' not in _PLANES[self.plane]:
            return nn.ModuleList()
        channels = _as_list('in_channels', in_channels, len(self.layers))
        return nn.ModuleList(
            MODELS.build(
                dict(type='FeaturePlane')
                | dict(in_channels=count)
                | dict(feature_plane)
            )
            for count in channels
        )

    def _tapped(self, layer: str) -> Tensor:
        """The map of one named module, or a clear error."""
        grid = None
        if self._token_grid:
            # Kept until the last layer has read it; see `measure`.
            grid = read_grid(self._taps[self._token_grid].output)
        output = self._taps[layer].pop()
        if output is None:
            raise ValueError(
                f'neck.layers={self.layers}: {layer!r} did not run before the '
                'neck; name a module of the backbone that runs in every '
                'forward pass, and no BatchNorm itself where SyncBN replaces '
                'it, but the block around it'
            )
        try:
            return as_map(output, grid)
        except ValueError as error:
            raise ValueError(
                f'neck.layers={self.layers}: {layer!r} gives {error}, not a '
                'map (B, C, H, W); choose the block before it'
            ) from error

    def _output(self, maps: Sequence[Tensor], layer: int) -> Tensor:
        """The map at one position of the outputs, or a clear error."""
        count = len(maps)
        if not -count <= layer < count:
            raise ValueError(
                f'neck.layers={self.layers}: the backbone returns {count} '
                f'output(s), so there is no position {layer}; set '
                'backbone.out_indices to return more, or choose another layer'
            )
        chosen = maps[layer]
        if not isinstance(chosen, Tensor) or chosen.ndim != 4:
            shape = (
                tuple(chosen.shape)
                if isinstance(chosen, Tensor)
                else type(chosen).__name__
            )
            raise ValueError(
                f'neck.layers={self.layers}: output {layer} of the backbone '
                f'is {shape}, not a map (B, C, H, W). Name the module that '
                "has one: ConvNeXt 'backbone.stages.3', vision transformers "
                "'backbone.ln1' with token_grid='backbone.patch_embed'; or "
                'choose another position'
            )
        return chosen

    def _select(self, maps: Sequence[Tensor], layer: Layer) -> Tensor:
        named = isinstance(layer, str)
        chosen = self._tapped(layer) if named else self._output(maps, layer)
        if self.plane != 'feature' and chosen.shape[-2:] == (1, 1):
            raise ValueError(
                f'neck.layers={self.layers}: {layer!r} is 1x1, and '
                f'neck.plane={self.plane!r} needs a spatial extent; choose an '
                "earlier layer, larger inputs or plane='feature'"
            )
        return chosen

    def measure(self, maps: Sequence[Tensor]) -> Tuple[Moment, ...]:
        """Moments of the configured layers and planes.

        Args:
            maps (Sequence[Tensor]): The backbone's outputs, ``(B, C, H, W)``.

        Returns:
            Tuple[Moment, ...]: Float32 or wider, whatever autocast says.

        Raises:
            ValueError: If a layer is missing or has no spatial extent.
        """
        maps = [maps] if isinstance(maps, Tensor) else maps
        planes = _PLANES[self.plane]
        moments = []
        for i, layer in enumerate(self.layers):
            activation = self._select(maps, layer)
            weight = self.layer_weights[i] / len(planes)
            with torch.autocast(activation.device.type, enabled=False):
                intensity = to_positive_orthant(activation, self.orthant)
                for plane in planes:
                    if plane == 'feature':
                        measure = self.feature_planes[i]
                        value = measure(pooled_vector(intensity))
                    else:
                        value = image_moment(energy(intensity))
                    moments.append(Moment(layer, plane, weight, value))
        if self._token_grid:
            self._taps[self._token_grid].pop()
        return tuple(moments)

    def forward(self, inputs):
        """Run the inner neck; in training, measure the moments as well.

        Args:
            inputs (Tuple[Tensor] | Tensor): The backbone's output.

        Returns:
            The inner neck's output in evaluation, :class:`U1Feats` in
            training.
        """
        feats = inputs if self.neck is None else self.neck(inputs)
        if not self.training:
            return feats
        return U1Feats(feats, self.measure(inputs))
