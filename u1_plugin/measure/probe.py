"""Reads the maps of a network that evaluates, as the method reads them."""

from functools import partial
from typing import Any, Dict, NamedTuple, Optional, Sequence, Set, Union
from weakref import finalize

import torch
from torch import Tensor, nn

from ..geometry import (
    energy,
    image_moment,
    pooled_vector,
    scale_of,
    to_positive_orthant,
)
from ..geometry.moments import without_rounding
from ..geometry.scales import without_autocast
from ..networks import unwrapped
from ..nn.bottleneck_angle_neck import PLANES
from ..nn.branch import U1Branch
from ..nn.collector import MapCollector
from ..options import checked
from .probe_branch import branch_collector, layer_planes, pixel_moment
from .probe_options import (
    Layers,
    Orthant,
    Plane,
    Planes,
    build_plane,
    check_options,
    written_as,
)
from .uncompiled import Uncompiled
from .views import PlainView, is_augmented


class ProbedLayer(NamedTuple):
    """One layer in one plane.

    Attributes:
        layer (str): Name of the module.
        plane (str): ``'feature'`` or ``'image'``.
    """

    layer: str
    plane: str

    def __str__(self) -> str:
        return f'{self.layer}/{self.plane}'


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
            takes the neck's own plane for a layer that the neck measures, by
            whatever name, and the Fourier plane without a centre elsewhere;
            with ``neck.of='pixel'`` the layer's pixels are read, as the loss
            does, and otherwise the pooled vector.
        orthant (str, optional): ``rho``. None takes the neck's, or
            ``'relu'``.
        token_grid (str, optional): For tokens, see
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
        self._uncompiled = Uncompiled(model)
        self._lost: Optional[finalize[Any, Any]] = None
        augmented, model = is_augmented(model), unwrapped(model)
        branch = getattr(model, 'u1', None)
        if not isinstance(branch, U1Branch):
            branch = None
        neck = None if branch is None else branch.neck
        if orthant is None:
            orthant = 'relu' if neck is None else neck.orthant
        if layers is not None or branch is None:
            self._names['u1.neck.layers'] = f'{field}.layers'
        if token_grid is not None or branch is None:
            self._names['u1.neck.token_grid'] = f'{field}.token_grid'
        if isinstance(layers, str) and layers != 'auto':
            layers = [layers]
        if token_grid is None and neck is not None:
            token_grid = neck.token_grid
        with written_as(self._names), self._uncompiled:
            self._collector = (
                MapCollector(model, layers or 'auto', token_grid)
                if layers is not None or branch is None
                else branch_collector(model, branch, token_grid, field)
            )
        maps = self._collector.sources
        self._view = PlainView(model) if augmented else None
        self.layers = self._collector.layers
        self.orthant = orthant
        #: n of ``exp(i n theta)``, of both planes.
        self.winding = _one_of((1,) if neck is None else neck.windings)
        self.sources = [
            ProbedLayer(layer, name)
            for layer in self.layers
            for name in PLANES[plane]
        ]
        self._planes: Dict[str, nn.Module] = {}
        self._by_pixel: Set[str] = set()
        if plane != 'image' and feature_plane is not None:
            self._planes = self._build_planes(feature_plane)
        elif plane != 'image':
            self._planes, self._by_pixel = layer_planes(
                maps, branch, self.winding, field
            )

    def _build_planes(
        self, config: Union[Dict[str, Any], Sequence[Dict[str, Any]]]
    ) -> Dict[str, nn.Module]:
        if isinstance(config, dict):
            config = [config] * len(self.layers)
        # Once more, for it is now that the layers are known.
        check_options(self.field, self.layers, config)
        planes = [build_plane(options, self.field) for options in config]
        return dict(zip(self.layers, planes))

    def attach(self) -> None:
        """Read the network's maps from now on.

        A compiled network runs as written meanwhile, see
        :class:`~.uncompiled.Uncompiled`. A probe that is garbage-collected
        detaches itself.
        """
        self.detach()
        self._uncompiled.begin()
        self._collector.__enter__()
        if self._view is not None:
            self._view.attach(self._collector)
        self._lost = finalize(self, _detach, self._collector, self._view)
        self._lost.atexit = False

    def detach(self) -> None:
        """Leave the network as it was; keep no map."""
        if self._lost is not None:
            self._lost.detach()
        _detach(self._collector, self._view)
        self._uncompiled.end()

    def end_batch(self) -> None:
        """Forget a batch that was not read, where images have several views.

        Only several passes of one batch need to be told from those of the
        next; call it at the end of each batch of which maps may go unread.
        """
        if self._view is not None:
            self._view.end_batch()

    def check_count(self, maps: int, images: int) -> None:
        """Raise ValueError unless a layer gave one map an image."""
        if maps != images:
            raise ValueError(
                f'{self.field}.layers={self.layers} gave {maps} maps for '
                f'{images} images; choose layers with one map an image'
            )

    @torch.no_grad()
    def maps(self) -> Dict[str, Tensor]:
        """``A`` of the latest batch by layer, ``(B, C, H, W)``.

        Raises:
            ValueError: If a layer did not run or has no map.
        """
        with written_as(self._names):
            return (self._view or self._collector).maps()

    @torch.no_grad()
    def intensities(self) -> Dict[str, Tensor]:
        """``I`` of the latest batch by layer, ``(B, C, H, W)``."""
        return {
            layer: to_positive_orthant(activation, self.orthant)
            for layer, activation in self.maps().items()
        }

    def energies(self) -> Dict[str, Tensor]:
        """``E`` of the latest batch by layer, ``(B, H, W)``, float64.

        Squares of float32 would overflow beyond 1.8e19.
        """
        return {
            layer: energy(intensity.double())
            for layer, intensity in self.intensities().items()
        }

    @torch.no_grad()
    def moments(self) -> Dict[ProbedLayer, Tensor]:
        """``z`` of the latest batch by layer and plane, ``(B, 2)``.

        Float32 or wider, whatever autocast says; in the image plane 0 where
        energy is balanced about the axis but for rounding. Of several
        windings, that of :attr:`winding`; a ``feature_plane`` of one's own has
        its own windings, of which 1, or otherwise the first, is read.
        """
        moments = {}
        intensities = self.intensities()
        for source in self.sources:
            intensity = intensities[source.layer]
            with without_autocast(intensity.device):
                if source.plane == 'image':
                    # The mean over the energy is the same at any scale.
                    unit = intensity / scale_of(intensity, (1, 2, 3))
                    moment = image_moment(energy(unit), self.winding)
                    moment = without_rounding(moment)
                else:
                    moment = self._feature(source.layer, intensity)
            moments[source] = moment
        return moments

    def _feature(self, layer: str, intensity: Tensor) -> Tensor:
        measure = partial(self.feature_moment, layer)
        if layer in self._by_pixel:
            return pixel_moment(intensity, measure)
        return measure(pooled_vector(intensity))

    def feature_moment(self, layer: str, vectors: Tensor) -> Tensor:
        """``z_f`` of vectors in the plane in which a layer is measured.

        Args:
            layer (str): One of :attr:`layers`; not for ``plane='image'``.
            vectors (Tensor): ``(N, C)``, pooled or of pixels.

        Returns:
            Tensor: ``(N, 2)``.
        """
        plane: Any = self._planes[layer].to(vectors.device)
        training = plane.training
        plane.eval()  # a running centre counts what trains, and once
        try:
            moment: Tensor = plane(vectors)
        finally:
            plane.train(training)
        if moment.ndim == 2:
            return moment
        return moment[:, plane.windings.index(_one_of(plane.windings))]


def _detach(collector: MapCollector, view: Optional[PlainView]) -> None:
    if view is not None:
        view.detach()
    collector.__exit__()


def _one_of(windings: Sequence[int]) -> int:
    return 1 if 1 in windings else windings[0]
