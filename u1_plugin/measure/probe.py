"""Reads the maps of a network that evaluates, as the method reads them."""

from contextlib import AbstractContextManager
from typing import (
    Any,
    Dict,
    List,
    Literal,
    NamedTuple,
    Optional,
    Sequence,
    Union,
)

import torch
from torch import Tensor, nn

from ..geometry import (
    energy,
    image_moment,
    pooled_vector,
    to_positive_orthant,
)
from ..networks import unwrapped
from ..nn.base import build
from ..nn.bottleneck_angle_neck import PLANES
from ..nn.branch import U1Branch
from ..nn.feature_plane import FeaturePlane
from ..nn.taps import MapCollector
from ..options import checked
from .naming import written_as
from .views import PlainView, is_augmented

Layers = Union[None, str, Sequence[str]]
Plane = Literal['feature', 'image', 'joint']
Planes = Union[None, dict, Sequence[dict]]
Orthant = Literal['relu', 'abs', 'softplus', 'identity']


class Source(NamedTuple):
    """One layer in one plane.

    Attributes:
        layer (str): Name of the module.
        plane (str): ``'feature'`` or ``'image'``.
    """

    layer: str
    plane: str

    def __str__(self) -> str:
        return f'{self.layer}/{self.plane}'


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
            'the images need one gt_label each to be measured class by class; '
            'use a data set of single-label classification'
        )
    return torch.cat([label.reshape(1) for label in labels]).cpu().long()


def _branch_of(model: nn.Module) -> Optional[U1Branch]:
    branch = getattr(model, 'u1', None)
    return branch if isinstance(branch, U1Branch) else None


def check_options(field: str, layers: Layers, feature_plane: Planes) -> None:
    """Check what of a probe's options needs no network.

    Args:
        field (str): Whose options they are, for messages.
        layers (str | Sequence[str], optional): See :class:`Probe`.
        feature_plane (dict | Sequence[dict], optional): See :class:`Probe`.

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
    if several and names is not None and len(feature_plane) != len(names):
        raise ValueError(
            f'{field}.feature_plane has {len(feature_plane)} configs, but '
            f'layers has {len(names)} names; give one a layer'
        )
    for config in feature_plane if several else [feature_plane]:
        _build_plane(config, field)


def _default_layers(
    branch: Optional[U1Branch], field: str
) -> Union[str, List[str]]:
    if branch is None:
        return 'auto'
    names = [source.module for source in branch.sources]
    if len(set(names)) < len(names):
        raise ValueError(
            f'{field}.layers=None, but model.u1.neck.layers='
            f'{branch.neck.layers} are positions of one output, of which the '
            "last is read; set layers to names, such as ['backbone.layer3']"
        )
    return names


class Probe:
    """Energies and moments of named layers, batch by batch.

    Nothing is attached to the network until :meth:`attach`. Of a branch with
    other windings than 1, one angle is read: that of winding 1 where the
    branch has it, otherwise that of its first (:attr:`winding`).

    Args:
        model (nn.Module): A classifier, or a wrapper of one.
        layers (str | Sequence[str], optional): Names of its modules, such as
            ``'backbone.layer4'``. None takes those of the model's U(1)
            branch, or without one the last map before pooling.
        plane (str): ``'feature'``, ``'image'`` or ``'joint'``, which measures
            both.
        feature_plane (dict | Sequence[dict], optional): Config of
            :class:`~u1_plugin.nn.FeaturePlane`, or one a layer. None
            takes the neck's own plane for a layer that the neck measures, and
            the Fourier plane without a centre elsewhere.
        orthant (str, optional): ``rho``. None takes the neck's, or
            ``'relu'``.
        token_grid (str, optional): See
            :class:`~u1_plugin.nn.BottleneckAngleNeck`. None takes the
            branch's.
        field (str): Whose options these are, for messages.

    Raises:
        ValueError: If an option is out of its range or names no module.
    """

    @checked('Probe')
    def __init__(
        self,
        model: nn.Module,
        layers: Layers = None,
        plane: Plane = 'joint',
        feature_plane: Planes = None,
        orthant: Optional[Orthant] = None,
        token_grid: Optional[str] = None,
        field: str = 'Probe',
    ) -> None:
        check_options(field, layers, feature_plane)
        if token_grid == '':  # it would name the network itself
            raise ValueError(f"{field}.token_grid='' must name a module")
        self.field, self._names = field, {}
        augmented, model = is_augmented(model), unwrapped(model)
        branch = _branch_of(model)
        neck = None if branch is None else branch.neck
        if orthant is None:
            orthant = 'relu' if neck is None else neck.orthant
        if layers is not None or branch is None:
            self._names['u1.neck.layers'] = f'{field}.layers'
        if token_grid is not None or branch is None:
            self._names['u1.neck.token_grid'] = f'{field}.token_grid'
        if layers is None:
            layers = _default_layers(branch, field)
        if isinstance(layers, str) and layers != 'auto':
            layers = [layers]
        if token_grid is None and neck is not None:
            token_grid = neck.token_grid
        with self._named():
            self._collector = MapCollector(model, layers, token_grid)
        self._view = PlainView(model) if augmented else None
        self.layers = self._collector.layers
        self.orthant = orthant
        #: n of ``exp(i n theta)``, of both planes.
        self.winding = _one_of((1,) if neck is None else neck.windings)
        self.sources = [
            Source(layer, name)
            for layer in self.layers
            for name in PLANES[plane]
        ]
        self._planes: Dict[str, nn.Module] = {}
        if plane != 'image':
            self._planes = self._find_planes(branch, feature_plane)

    def _find_planes(self, branch, config) -> Dict[str, nn.Module]:
        if config is not None:
            configs = [config] * len(self.layers)
            if not isinstance(config, dict):
                configs = list(config)
            # Once more, for it is now that the layers are known.
            check_options(self.field, self.layers, configs)
            planes = [_build_plane(own, self.field) for own in configs]
            return dict(zip(self.layers, planes))
        own = {}
        if branch is not None and len(branch.neck.feature_planes):
            names = [source.module for source in branch.sources]
            own = dict(zip(names, branch.neck.feature_planes))
        default = dict(windings=(self.winding,))
        return {
            layer: own.get(layer) or _build_plane(default, self.field)
            for layer in self.layers
        }

    def _named(self) -> AbstractContextManager:
        """Errors of what reads the maps name the probe's own options."""
        return written_as(self._names)

    def attach(self) -> None:
        """Read the network's maps from now on."""
        self.detach()
        self._collector.__enter__()
        if self._view is not None:
            self._view.attach(self._collector)

    def detach(self) -> None:
        """Leave the network as it was; keep no map."""
        if self._view is not None:
            self._view.detach()
        self._collector.__exit__()

    @torch.no_grad()
    def intensities(self) -> Dict[str, Tensor]:
        """``I`` of the latest batch by layer, ``(B, C, H, W)``.

        Raises:
            ValueError: If a layer did not run or has no map.
        """
        with self._named():
            reader = self._view or self._collector
            maps = reader.maps()
        return {
            layer: to_positive_orthant(activation, self.orthant)
            for layer, activation in maps.items()
        }

    def energies(self) -> Dict[str, Tensor]:
        """``E`` of the latest batch by layer, ``(B, H, W)``."""
        return {
            layer: energy(intensity)
            for layer, intensity in self.intensities().items()
        }

    @torch.no_grad()
    def moments(self) -> Dict[Source, Tensor]:
        """``z`` of the latest batch by layer and plane, ``(B, 2)``.

        Float32 or wider, whatever autocast says. Of several windings, that of
        :attr:`winding`; a ``feature_plane`` of one's own has its own windings,
        of which 1, or otherwise the first, is read.
        """
        found = {}
        intensities = self.intensities()
        for source in self.sources:
            intensity = intensities[source.layer]
            with torch.autocast(intensity.device.type, enabled=False):
                if source.plane == 'image':
                    found[source] = image_moment(
                        energy(intensity), self.winding
                    )
                else:
                    found[source] = self._feature(source.layer, intensity)
        return found

    def _feature(self, layer: str, intensity: Tensor) -> Tensor:
        plane = self._planes[layer].to(intensity.device)
        moment = plane(pooled_vector(intensity))
        if moment.ndim == 2:
            return moment
        return moment[:, plane.windings.index(_one_of(plane.windings))]


def _one_of(windings: Sequence[int]) -> int:
    return 1 if 1 in windings else windings[0]


def _build_plane(config: dict, owner: str) -> nn.Module:
    for field, value in (('basis', 'learned'), ('center', 'running')):
        if config.get(field) == value:
            raise ValueError(
                f'{owner}.feature_plane.{field}={value!r} is fitted in '
                'training, which a measurement does not do; leave '
                "feature_plane out to use the model's own, or fit one to a "
                'file'
            )
    return build(f'{owner}.feature_plane', config, FeaturePlane).eval()
