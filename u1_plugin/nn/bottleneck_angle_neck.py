"""Measures the angles of bottleneck maps."""

from functools import partial
from typing import List, Literal, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from ..geometry import (
    energy,
    image_moment,
    image_moment_basis,
    scale_of,
    scaled_relu,
    to_positive_orthant,
)
from ..geometry.scales import without_autocast, working_dtype
from ..options import Count, checked
from .base import ConstantCache, Options, Weight, build
from .feature_plane import FeaturePlane, check_windings
from .maps import Layer, check_layers, check_maps, one_a_layer

#: The energies of a scaled map, or one of float16, add up to more, or to 0.
_NO_ENERGY = 2.0**-60
#: Planes that each option measures.
PLANES = {
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
        value (Tensor): ``z``, ``(B, 2)``, or ``(B, N, 2)`` for N > 1
            windings; of every pixel ``(B, P, 2)`` or ``(B, P, N, 2)``.
        pixel_share (Tensor, optional): ``E / sum E``, ``(B, P)``.
    """

    layer: Layer
    plane: str
    weight: float
    value: Tensor
    pixel_share: Optional[Tensor] = None


class BottleneckAngleNeck(nn.Module):
    """The U(1) moments of bottleneck maps, in both planes.

    Args:
        layers (str | int | Sequence[int | str]): Which maps: ``'auto'``, the
            last before pooling; positions in the tuple that the backbone
            returns; or names of modules of the classifier, such as
            ``'backbone.layer3'``.
        plane (str): ``'feature'``, ``'image'`` or ``'joint'`` (both against
            the same class angle).
        of (str): What the feature plane reads: ``'pooled'``, one vector an
            image; or ``'pixel'``, the hue of every pixel, weighted by energy.
        flip (str): What a mirrored input does to the target in the image
            plane: ``'ignore'`` (one angle a class) or ``'follow'`` (the target
            is mirrored with the sample).
        windings (Sequence[int]): n of ``exp(i n theta)``. More than one ask
            for the torus U(1)^N, with class angles of each winding's own.
        feature_plane (dict): Config of :class:`FeaturePlane`; each layer has
            one of its own.
        in_channels (int | Sequence[int], optional): C of each layer. None:
            what :meth:`connect` is told.
        layer_weights (float | Sequence[float], optional): Weight of each
            layer's loss beside lambda, >= 0, not all 0. Defaults to equal
            ones that add up to 1, so that lambda means the same for any
            number of layers; others are taken as they are. A layer's weight
            is divided equally between its planes.
        orthant (str): ``rho``, one of :data:`~u1_plugin.geometry.ORTHANT_MAPS`.
            Maps that end in a ReLU are unchanged by ``'relu'``.
        token_grid (str, optional): Name of the module whose output tells
            ``(H, W)`` of tokens. None: the latest map that fits them, such as
            that of the patch embedding.

    Raises:
        ValueError: If an option is out of its range.

    Examples:
        >>> import torch
        >>> from u1_plugin.nn import BottleneckAngleNeck
        >>> neck = BottleneckAngleNeck([-1], plane='joint', in_channels=8)
        >>> for moment in neck((torch.rand(2, 8, 4, 4),)):
        ...     print(moment.plane, tuple(moment.value.shape))
        feature (2, 2)
        image (2, 2)
    """

    #: What a branch asks of its neck.
    NEEDED = ('layers', 'token_grid', 'windings', 'plane', 'flip', 'connect')

    @checked('neck')
    def __init__(
        self,
        layers: Union[Layer, Sequence[Layer]] = 'auto',
        plane: Literal['feature', 'image', 'joint'] = 'feature',
        of: Literal['pooled', 'pixel'] = 'pooled',
        flip: Literal['ignore', 'follow'] = 'ignore',
        windings: Union[Count, Sequence[Count]] = (1,),
        feature_plane: Optional[Options] = None,
        in_channels: Union[None, Count, Sequence[Optional[Count]]] = None,
        layer_weights: Union[None, Weight, Sequence[Weight]] = None,
        orthant: Literal['relu', 'abs', 'softplus', 'identity'] = 'relu',
        token_grid: Optional[str] = None,
    ) -> None:
        super().__init__()
        if of == 'pixel' and plane == 'image':
            raise ValueError(
                "neck.of='pixel' is read in the feature plane, but "
                "neck.plane='image'; use plane='feature' or 'joint'"
            )
        if flip == 'follow' and plane == 'feature':
            raise ValueError(
                "neck.flip='follow' mirrors targets of the image plane, but "
                "neck.plane='feature'; use plane='image' or 'joint'"
            )
        if feature_plane and plane == 'image':
            raise ValueError(
                f'neck.feature_plane={feature_plane!r} is not read with '
                "neck.plane='image'; leave it out, or use plane='feature' or "
                "'joint'"
            )
        self.layers = check_layers(layers)
        self.plane, self.of, self.flip = plane, of, flip
        self.windings = check_windings('neck.windings', windings)
        self.orthant = orthant
        self.token_grid = token_grid
        self.feature_plane = feature_plane
        self.feature_planes = nn.ModuleList()
        self._constants = ConstantCache()
        count = 1 if self.layers == 'auto' else len(self.layers)
        weights = 1 / count if layer_weights is None else layer_weights
        self.layer_weights = one_a_layer('layer_weights', weights, count)
        if not any(self.layer_weights):
            raise ValueError(
                f'neck.layer_weights={layer_weights} are all 0, and nothing '
                'would be trained; to switch U(1) off use loss.loss_weight=0'
            )
        self.in_channels = one_a_layer('in_channels', in_channels, count)
        if None not in self.in_channels:
            self.connect(self.in_channels)

    def connect(
        self,
        in_channels: Sequence[int],
        layers: Optional[Sequence[Layer]] = None,
    ) -> None:
        """Build what depends on the layers' channels; a second call is none.

        ``layers`` is what ``'auto'`` became.

        Raises:
            ValueError: If the config's ``in_channels`` are others.
        """
        for expected, channels in zip(self.in_channels, in_channels):
            if expected not in (None, channels):
                raise ValueError(
                    f'u1.neck.in_channels={self.in_channels}, but the layers '
                    f'have {list(in_channels)} channels; leave it out'
                )
        self.in_channels = list(in_channels)
        if layers is not None:
            self.layers = list(layers)
        if self.plane == 'image' or len(self.feature_planes):
            return
        count = min(in_channels)
        if self.windings != (1,) and 2 * max(self.windings) >= count:
            raise ValueError(
                f'u1.neck.windings={self.windings}, but a layer has {count} '
                'channels, whose feature planes have the windings '
                f'1..{(count - 1) // 2}; choose among them, or a layer of '
                'more channels'
            )
        for count in in_channels:
            plane = build(
                'u1.neck.feature_plane',
                dict(self.feature_plane or {}),
                FeaturePlane,
                in_channels=count,
                windings=self.windings,
            )
            self.feature_planes.append(plane)

    def forward(self, maps: Sequence[Tensor]) -> Tuple[Moment, ...]:
        """Moments of every layer and plane.

        Args:
            maps (Sequence[Tensor]): ``(B, C, H, W)``, one a layer.

        Returns:
            Tuple[Moment, ...]: Float32 or wider, whatever autocast says.

        Raises:
            ValueError: If these are no such maps, or one has no spatial extent
                in the image plane.
        """
        check_maps(maps, 1 if self.layers == 'auto' else len(self.layers))
        channels = [activation.size(1) for activation in maps]
        if self.layers == 'auto' or self.in_channels != channels:
            self.connect(channels, [-1] if self.layers == 'auto' else None)
        moments: List[Moment] = []
        for i, (layer, activation) in enumerate(zip(self.layers, maps)):
            with without_autocast(activation.device):
                moments += self._measure(i, layer, activation)
        return tuple(moments)

    def _measure(
        self, i: int, layer: Layer, activation: Tensor
    ) -> List[Moment]:
        planes = PLANES[self.plane]
        weight = self.layer_weights[i] / len(planes)
        intensity = self._intensity(activation)
        moments = []
        if 'feature' in planes:
            feature_moment = self._feature(i, intensity)
            moments.append(Moment(layer, 'feature', weight, *feature_moment))
        if 'image' in planes:
            value = self._image(layer, intensity)
            moments.append(Moment(layer, 'image', weight, value))
        return moments

    def _intensity(self, activation: Tensor) -> Tensor:
        """``I`` of an ordinary size: no energy and no sum leaves the range.

        Float16 is: its squares and sums are computed in float32.
        """
        if self.orthant == 'relu' and activation.dtype != torch.float16:
            return scaled_relu(activation)
        intensity = to_positive_orthant(activation, self.orthant)
        half = intensity.dtype == torch.float16  # a softplus is float32
        return intensity if half else intensity / scale_of(intensity, (1, 2, 3))

    def _feature(
        self, i: int, intensity: Tensor
    ) -> Tuple[Tensor, Optional[Tensor]]:
        # What is of either sign may cancel in a mean, however large the map;
        # and the steep gradient at 0 leaves the range of float16.
        half = intensity.dtype == torch.float16
        scaled = self.orthant != 'identity' and not half
        dtype = working_dtype(intensity.dtype)
        if self.of == 'pooled':
            pooled = intensity.mean((-2, -1), dtype=dtype)
            return self.feature_planes[i](pooled, scaled), None
        vectors = intensity.to(dtype).flatten(2).transpose(1, 2)
        share = energy(vectors, dim=2)
        share = share / share.sum(1, keepdim=True).clamp_min(_NO_ENERGY)
        return self.feature_planes[i](vectors, scaled), share

    def _image(self, layer: Layer, intensity: Tensor) -> Tensor:
        if intensity.shape[-2:] == (1, 1):
            raise ValueError(
                f'u1.neck.layers: {layer!r} is 1x1, and '
                f'neck.plane={self.plane!r} needs a spatial extent; choose an '
                "earlier layer, larger inputs or plane='feature'"
            )
        energies = energy(intensity)
        height, width = energies.shape[-2:]
        moments = []
        for winding in self.windings:
            key = (height, width, winding)
            make = partial(image_moment_basis, height, width, winding=winding)
            grid = self._constants.get(key, energies, make)
            moments.append(image_moment(energies, winding, grid, scaled=True))
        return moments[0] if len(moments) == 1 else torch.stack(moments, 1)

    def extra_repr(self) -> str:
        return (
            f'layers={self.layers}, plane={self.plane!r}, of={self.of!r}, '
            f'flip={self.flip!r}, windings={self.windings}, '
            f'orthant={self.orthant!r}'
        )
