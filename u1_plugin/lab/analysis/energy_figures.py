"""Pictures of where the energy lies."""

from typing import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...measure.estimate import NORMAL_QUANTILE
from ...measure.sombrero import fit_if_rings
from .drawing import (
    BLUE,
    COLUMNS,
    ORANGE,
    draw_map,
    grid,
    show_estimate,
    shown_name,
    title_of,
)
from .layer import LayerFinding


def energy_maps(layers: Sequence[LayerFinding]) -> Figure:
    """Mean energy of every layer, each on its own scale; 1 is uniform."""
    figure, axes = grid(len(layers), 3.2)
    for number, (ax, layer) in enumerate(zip(axes, layers)):
        image = draw_map(ax, layer)
        ax.set(
            title=title_of(layer),
            xlabel='x from the optical axis (pixels)',
            ylabel='y (pixels)' if number % COLUMNS == 0 else '',
        )
        figure.colorbar(image, ax=ax, shrink=0.85)
    figure.suptitle('mean energy / uniform', fontsize=11)
    return figure


def radial_profiles(
    layers: Sequence[LayerFinding], data: LayerFinding
) -> Figure:
    """Energy by distance from the axis, with the fit and the input image's."""
    figure, axes = grid(len(layers), 3.7)
    for ax, layer in zip(axes, layers):
        summary, fit = layer.energy, fit_if_rings(layer.energy)
        radius = summary.rings.radius
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
            NORMAL_QUANTILE * summary.profile_error,
            fmt='o',
            color=BLUE,
            ms=5,
            capsize=3,
            label='measured, 95 %',
        )
        if fit:
            r = np.linspace(0, radius[-1], 100)
            curve, band = fit.curve(r), NORMAL_QUANTILE * fit.curve_error(r)
            ax.plot(r, curve, color=ORANGE, lw=1.8, label='fit')
            ax.fill_between(
                r, curve - band, curve + band, color=ORANGE, alpha=0.25, lw=0
            )
            ax.set_title(
                f'{shown_name(layer.name)}\na = {show_estimate(fit.a, 2)}\n'
                f'b = {show_estimate(fit.b, 2)}\nc = {show_estimate(fit.c, 2)}',
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
    fitted = [(layer, fit_if_rings(layer.energy)) for layer in layers]
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
