"""Pictures of where the energy lies."""

from typing import Optional, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...extras import needs
from ...measure.estimate import CONFIDENCE
from ...measure.profile import Sombrero, fit_sombrero
from .drawing import (
    BLUE,
    COLUMNS,
    ORANGE,
    grid,
    number_text,
    shown_name,
    title_of,
)
from .layer import LayerFinding

with needs('lab'):
    from scipy import stats


def energy_maps(layers: Sequence[LayerFinding]) -> Figure:
    """Mean energy of every layer; 1 is the uniform distribution.

    Args:
        layers (Sequence[LayerFinding]): One panel each, each on its own scale.
    """
    figure, axes = grid(len(layers), 3.2)
    for number, (ax, layer) in enumerate(zip(axes, layers)):
        mean = layer.energy.mean_map
        height, width = mean.shape
        # Half a pixel beyond the centres; the optical axis is 0, y is up.
        extent = (-width / 2, width / 2, -height / 2, height / 2)
        image = ax.imshow(mean, cmap='cividis', extent=extent, vmin=0)
        ax.plot(0, 0, '+', color='white', ms=14, mew=3)
        ax.plot(0, 0, '+', color='black', ms=11, mew=1.2)
        ax.set(
            title=title_of(layer),
            xlabel='x from the optical axis (pixels)',
            ylabel='y (pixels)' if number % COLUMNS == 0 else '',
        )
        figure.colorbar(image, ax=ax, shrink=0.85)
    figure.suptitle('mean energy / uniform', fontsize=11)
    return figure


def _fit(layer: LayerFinding) -> Optional[Sombrero]:
    return fit_sombrero(layer.energy) if len(layer.energy.profile) > 2 else None


def radial_profiles(
    layers: Sequence[LayerFinding], data: LayerFinding
) -> Figure:
    """Energy by distance from the axis, with the fitted Sombrero.

    Args:
        layers (Sequence[LayerFinding]): One panel each.
        data (LayerFinding): The input image, drawn for comparison.
    """
    figure, axes = grid(len(layers), 3.7)
    quantile = stats.norm.ppf((1 + CONFIDENCE) / 2)
    for ax, layer in zip(axes, layers):
        summary, fit = layer.energy, _fit(layer)
        radius = summary.rings.radius
        error = quantile * np.sqrt(np.diag(summary.covariance) / summary.n)
        ax.axhline(1, color='0.5', lw=1, ls=':', label='uniform')
        ax.plot(
            data.energy.rings.radius,
            data.energy.profile,
            color='0.45',
            ls='--',
            lw=1.3,
            label='input image',
        )
        ax.errorbar(
            radius,
            summary.profile,
            error,
            fmt='o',
            color=BLUE,
            ms=5,
            capsize=3,
            label='measured, 95 %',
        )
        if fit:
            r = np.linspace(0, radius[-1], 100)
            curve, band = fit.curve(r), quantile * fit.curve_error(r)
            ax.plot(r, curve, color=ORANGE, lw=1.8, label='fit')
            ax.fill_between(
                r, curve - band, curve + band, color=ORANGE, alpha=0.25, lw=0
            )
            ax.set_title(
                f'{shown_name(layer.name)}\na = {number_text(fit.a)}\n'
                f'b = {number_text(fit.b)}\nc = {number_text(fit.c)}',
                fontsize=9.5,
            )
        else:
            ax.set_title(f'{shown_name(layer.name)}\ntoo small for a fit')
        ax.set(
            xlabel='distance r from the axis (half diagonals)',
            ylabel='energy / uniform',
            xlim=(0, 1.02),
        )
    axes[0].legend(fontsize=8.5, framealpha=0.9)
    return figure


def sombrero_surfaces(layers: Sequence[LayerFinding]) -> Figure:
    """The fitted ``V(r)`` turned about the axis, over the measured rings."""
    fitted = [(layer, _fit(layer)) for layer in layers]
    fitted = [(layer, fit) for layer, fit in fitted if fit]
    figure, axes = grid(max(len(fitted), 1), 3.6, '3d')
    turn = np.linspace(0, 2 * np.pi, 61)
    for ax, (layer, fit) in zip(axes, fitted):
        rings = layer.energy.rings.radius
        r = np.linspace(0, rings[-1], 30)[:, None]
        x, y = r * np.cos(turn), r * np.sin(turn)
        height = np.broadcast_to(fit.curve(r), x.shape)
        ax.plot_surface(
            x, y, height, cmap='cividis', alpha=0.85, lw=0, antialiased=True
        )
        for radius, level in zip(rings, layer.energy.profile):
            ax.plot(
                radius * np.cos(turn),
                radius * np.sin(turn),
                level,
                color='black',
                lw=0.9,
            )
        ax.set_title(shown_name(layer.name), pad=0)
        ax.set(xlabel='x (half diag.)', ylabel='y (half diag.)')
        ax.view_init(elev=28, azim=-60)
        for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
            axis.set_major_locator(MaxNLocator(4))
        ax.set_box_aspect(None, zoom=0.8)
    return figure
