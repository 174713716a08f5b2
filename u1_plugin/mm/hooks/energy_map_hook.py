"""Shows where the energy of a layer lies, epoch by epoch."""

from typing import Any, Dict, Optional, Sequence

import torch
from mmengine.runner import Runner

from ...measure.accumulators import EnergyAccumulator, Several
from ...measure.probe_options import Layers, Orthant
from ...measure.profile import EnergySummary, concentration, symmetry
from ...measure.sombrero import Sombrero, fit_if_rings
from ...options import checked
from ..layer_pictures import energy_picture
from .analysis_hook import AnalysisHook


class EnergyMapHook(AnalysisHook):
    """Mean energy map, radial profile and Sombrero fit of each layer.

    Scalars of each layer, under ``u1/LAYER/``: ``energy_share`` (of the rings
    that end within half the half diagonal, so that only an even number of
    rings reaches it) and ``energy_excess`` (the same less the uniform
    share), ``symmetry``, and of the fit ``V(r) = a r^4 - b r^2 + c``
    ``sombrero_a``, ``_b``, ``_c``, ``_radius`` and ``_r2``. A picture of each
    layer shows map, profile and curve. See
    :mod:`u1_plugin.measure.profile` for the formulas.

    Args:
        layers, orthant, token_grid: Of :class:`~u1_plugin.measure.Probe`.
        radial_bins (int): Rings between the axis and the map's corner.

    Raises:
        ValueError: If an option is out of its range; when a loop starts, if a
            layer is not in the model.
    """

    name = 'energy'

    @checked('EnergyMapHook')
    def __init__(
        self,
        layers: Layers = None,
        orthant: Optional[Orthant] = None,
        token_grid: Optional[str] = None,
        radial_bins: Several = 16,
    ) -> None:
        # The image plane needs no plane of feature space.
        super().__init__(layers, 'image', None, orthant, token_grid)
        self.radial_bins = radial_bins

    def _start(self, runner: Runner, loader) -> None:
        self._energies = {
            layer: EnergyAccumulator(self.radial_bins)
            for layer in self._probe.layers
        }

    def _update(
        self, samples: Sequence[Any], index: torch.Tensor, count: int
    ) -> None:
        for layer, energy in self._probe.energies().items():
            self._probe.check_count(len(energy), count)
            self._energies[layer].update(energy[: len(samples)], index)

    def _totals(self) -> Dict[str, EnergyAccumulator]:
        return {
            layer: accumulator.reduce()
            for layer, accumulator in self._energies.items()
        }

    def _report(
        self, runner: Runner, loop: str, totals: Dict[str, EnergyAccumulator]
    ) -> None:
        layers = {}
        for layer, total in totals.items():
            if not total.n:
                runner.logger.warning(f'energy maps: {layer} has no energy')
                continue
            summary = total.summary()
            fit = fit_if_rings(summary)
            layers[layer] = describe_energy(summary, fit)
            self._scalars(runner, loop, _scalars(layer, layers[layer]))
            figure = energy_picture(summary, fit, layer)
            self._picture(runner, loop, layer, figure)
        folder = self._write(runner, loop, dict(layers=layers), totals)
        runner.logger.info(f'energy maps: {folder}')


def describe_energy(summary: EnergySummary, fit: Optional[Sombrero]) -> dict:
    """What ``summary.json`` says of a layer."""
    sombrero = None
    if fit is not None:
        names = ('a', 'b', 'c', 'rim', 'ring_radius', 'r2')
        sombrero = {name: getattr(fit, name) for name in names}
    return dict(
        n=summary.n,
        skipped=summary.skipped,
        map_size=summary.mean_map.shape,
        mean_energy=summary.mean_energy,
        radius=summary.rings.radius,
        pixels=summary.rings.pixels,
        profile=summary.profile,
        profile_error=summary.profile_error,
        concentration=concentration(summary),
        symmetry=symmetry(summary),
        image_symmetry=summary.image_symmetry,
        sombrero=sombrero,
    )


def _scalars(layer: str, description: dict) -> Dict[str, float]:
    near, fit = description['concentration'], description['sombrero']
    values = dict(
        energy_share=near.share,
        energy_excess=near.excess.value,
        symmetry=description['symmetry'].value,
    )
    if fit is not None:
        values.update(
            {f'sombrero_{name}': fit[name].value for name in 'abc'},
            sombrero_radius=fit['ring_radius'],
            sombrero_r2=fit['r2'],
        )
    return {f'{layer}/{name}': value for name, value in values.items()}
