"""What a probe takes from a U(1) branch: its maps and its feature planes."""

import logging
from typing import Callable, Dict, Optional, Sequence, Set, Tuple

from torch import Tensor, nn

from ..geometry import energy, scale_of, to_unit
from ..geometry.scales import working_dtype
from ..nn.branch import U1Branch
from ..nn.collector import MapCollector
from ..nn.maps import MapSource
from ..nn.origins import same_map
from .probe_options import build_plane

_logger = logging.getLogger('u1_plugin')


def branch_collector(
    model: nn.Module, branch: U1Branch, token_grid: Optional[str], field: str
) -> MapCollector:
    """Collects the maps that a branch reads, by the names of their modules.

    Raises:
        ValueError: If one has no name: it is not the last of an output.
    """
    unnamed = ValueError(
        f'{field}.layers=None, but model.u1.neck.layers={branch.neck.layers} '
        'are positions of an output of which the last is read by name; set '
        "layers to names, such as ['backbone.layer3']"
    )
    names = [source.module for source in branch.sources]
    try:
        collector = MapCollector(model, names, token_grid)
    except ValueError as error:  # one of them is another of them by name
        if any(isinstance(layer, int) for layer in branch.neck.layers):
            raise unnamed from error
        raise
    found, wanted = (
        [(source.module, source.index) for source in sources]
        for sources in (collector.sources, branch.sources)
    )
    if found != wanted:
        raise unnamed
    return collector


def layer_planes(
    sources: Sequence[MapSource],
    branch: Optional[U1Branch],
    winding: int,
    field: str,
) -> Tuple[Dict[str, nn.Module], Set[str]]:
    """The plane of each layer, and the layers that are read by pixel.

    A layer that a branch measures, by whatever name, has the plane of the
    branch's neck, and is read as the neck reads it. Any other has the Fourier
    plane without a centre, and its pooled vector is read.
    """
    planes: Dict[str, nn.Module] = {}
    pixels, default = set(), dict(windings=(winding,))
    for source in sources:
        layer = str(source.layer)
        plane = None if branch is None else _branch_plane(source, branch)
        if branch is not None and plane is not None:
            if getattr(branch.neck, 'of', 'pooled') == 'pixel':
                pixels.add(layer)
        elif branch is not None and _has_own_plane(branch):
            _logger.info(
                f'{field}.layers: {layer!r} is none of the layers that the '
                'U(1) branch measures, so that its pooled vector is read, in '
                f'the Fourier plane without a centre; {field}.feature_plane '
                'sets another'
            )
        planes[layer] = plane or build_plane(default, field)
    return planes, pixels


def _has_own_plane(branch: U1Branch) -> bool:
    """Whether another plane than the default one is trained."""
    neck = branch.neck
    by_pixel = getattr(neck, 'of', 'pooled') == 'pixel'
    return bool(getattr(neck, 'feature_plane', None)) or by_pixel


def _branch_plane(source: MapSource, branch: U1Branch) -> Optional[nn.Module]:
    for other, plane in zip(branch.sources, branch.neck.feature_planes):
        if same_map(source, other):
            return plane
    return None


def pixel_moment(
    intensity: Tensor, measure: Callable[[Tensor], Tensor]
) -> Tensor:
    """``sum E u / sum E``, with u the directions of the pixels' moments.

    Of a loss that is the mean over pixels, weighted by energy, this is what is
    drawn to the class point.

    Args:
        intensity (Tensor): ``I``, ``(B, C, H, W)``.
        measure (Callable): Gives ``z_f``, ``(N, 2)``, of vectors ``(N, C)``.

    Returns:
        Tensor: ``(B, 2)``, modulus <= 1; 0 where a map has no energy.
    """
    intensity = intensity.to(working_dtype(intensity.dtype))
    intensity = intensity / scale_of(intensity, (1, 2, 3))
    vectors = intensity.flatten(2).transpose(1, 2)
    weights = energy(vectors, dim=2)
    units = to_unit(measure(vectors.flatten(0, 1)))
    units = units.unflatten(0, weights.shape) * weights[..., None]
    total = weights.sum(1, keepdim=True)
    mean: Tensor = units.sum(1) / total.masked_fill(total == 0, 1.0)
    return mean
