"""Pictures of angles, class by class."""

from typing import Mapping, Optional, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...measure.circular_tests import ClassAngleSummary
from ...measure.estimate import Estimate
from ...measure.information import Dependence
from ...measure.labels import class_style
from ..markup import label, mathtext
from .drawing import BLUE, ORANGE, show_estimate, shown_name
from .layer import PLANES, LayerFinding

#: Classes drawn at most; the largest ones.
MAX_CLASSES = 10


def _shown(summary: ClassAngleSummary) -> np.ndarray:
    """The largest classes, in the data set's order."""
    largest = np.argsort(-summary.count, kind='stable')[:MAX_CLASSES]
    return np.sort(largest[summary.count[largest] > 0])


def _draw_roses(ax: Axes, table: np.ndarray, mean: float, color, style) -> None:
    bins = len(table)
    edges = np.linspace(-np.pi, np.pi, bins + 1)
    share = table / max(table.sum(), 1)
    # Area and not radius is what the eye compares.
    radius = np.sqrt(np.append(share, share[-1]))
    ax.fill_between(edges, 0, radius, step='post', color=color, alpha=0.25)
    ax.step(edges, radius, where='post', color=color, lw=1.3, ls=style)
    if np.isfinite(mean):
        ax.plot([mean, mean], [0, radius.max()], color=color, lw=2, ls=style)


def polar_histograms(
    layer: LayerFinding, names: Sequence[str], planes: Sequence[str]
) -> Figure:
    """Angles of every class in two planes, keys of :data:`~.survey.PLANES`."""
    shown = _shown(layer.planes[planes[0]])
    count = max(len(shown), 1)  # an empty figure where no image has an angle
    columns = min(count, 5)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(2.1 * columns + 0.4, 2.5 * rows + 0.5), layout='constrained'
    )
    axes = figure.subplots(
        rows, columns, squeeze=False, subplot_kw=dict(projection='polar')
    ).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for ax, index in zip(axes, shown):
        for plane, color, style in zip(planes, (BLUE, ORANGE), ('-', '--')):
            summary = layer.planes[plane]
            _draw_roses(
                ax, summary.table[index], summary.mean[index], color, style
            )
        name = mathtext(names[index], 20)
        ax.set_title(f'{name} (n = {summary.count[index]})', fontsize=9)
        ax.set_xticks(np.arange(4) * np.pi / 2, ['0°', '90°', '', '270°'])
        ax.set_yticks([])
        ax.tick_params(labelsize=8, pad=-2)
    handles = [
        figure.axes[0].plot([], [], color=color, ls=style, lw=2, label=label)[0]
        for color, style, label in zip(
            (BLUE, ORANGE), ('-', '--'), (PLANES[p] for p in planes)
        )
    ]
    figure.legend(
        handles=handles, loc='outside lower center', ncols=2, fontsize=9
    )
    return figure


def plane_agreement(
    layer: LayerFinding,
    names: Sequence[str],
    planes: Sequence[str],
    correlation: Estimate,
) -> Figure:
    """Class angles in one plane against those in the other."""
    figure = Figure(figsize=(4.9, 4.6), layout='constrained')
    ax = figure.subplots()
    first, second = (layer.planes[plane] for plane in planes)
    for index in _shown(first):
        x, y = np.rad2deg([first.mean[index], second.mean[index]])
        errors = np.rad2deg([first.half_width[index], second.half_width[index]])
        style = class_style(index)
        ax.errorbar(
            x,
            y,
            xerr=None if np.isnan(errors[0]) else errors[0],
            yerr=None if np.isnan(errors[1]) else errors[1],
            ls='',
            ms=7,
            capsize=2,
            elinewidth=1,
            **style,
        )
        ax.annotate(
            mathtext(names[index]),
            (x, y),
            textcoords='offset points',
            xytext=(6, 5),
            fontsize=9,
        )
    ticks = np.arange(-180, 181, 90)
    text = f'r = {show_estimate(correlation, 2)}, p = {correlation.pvalue:.3f}'
    if np.isnan(correlation.value):
        text = 'too few classes for a correlation'
    ax.set(
        title=f'{shown_name(layer.name)}: class angles\n{text}',
        xlabel=f'{PLANES[planes[0]]} (degrees)',
        ylabel=f'{PLANES[planes[1]]} (degrees)',
        xlim=(-205, 205),
        ylim=(-205, 205),
        xticks=ticks,
        yticks=ticks,
    )
    ax.grid(color='0.9')
    return figure


def moment_clouds(
    layer: LayerFinding,
    labels: np.ndarray,
    names: Optional[Sequence[str]],
    planes: Sequence[str],
) -> Figure:
    """Every image's moment in some planes; ``names`` is None without labels."""
    figure = Figure(figsize=(5.0 * len(planes), 4.9), layout='constrained')
    axes = figure.subplots(1, len(planes), squeeze=False)[0]
    for ax, plane in zip(axes, planes):
        moments = layer.moments[plane]
        for index in _shown(layer.planes[plane]):
            points = moments[labels == index]
            style = class_style(index) if names else dict(color=BLUE)
            name = label(names[index]) if names else None
            ax.scatter(
                *points.T, s=14, alpha=0.7, linewidths=0, label=name, **style
            )
        ax.axhline(0, color='0.8', lw=0.7, zorder=0)
        ax.axvline(0, color='0.8', lw=0.7, zorder=0)
        # The axes in one unit, or angles could not be seen.
        ax.set_aspect('equal', adjustable='datalim')
        unit = (
            'share of the energy' if plane == 'image' else 'norm of the vector'
        )
        ax.set(title=PLANES[plane], xlabel=f'Re z ({unit})', ylabel='Im z')
    if names:
        handles, texts = axes[0].get_legend_handles_labels()
        figure.legend(
            handles,
            texts,
            loc='outside lower center',
            ncols=min(len(texts), 10),
            fontsize=9,
            markerscale=1.6,
        )
    return figure


def information_bars(
    dependences: Mapping[str, Mapping[str, Dependence]],
    nulls: Mapping[str, Mapping[str, np.ndarray]],
) -> Figure:
    """Mutual information of angle and class against permuted labels, nats.

    By layer, then plane.
    """
    layers = list(dependences)
    figure = Figure(
        figsize=(10.5, 1.7 + 0.95 * len(layers)), layout='constrained'
    )
    ax = figure.subplots()
    styles = zip(PLANES, (BLUE, '#CC79A7', '#009E73', ORANGE), 'osD^')
    for k, (plane, color, marker) in enumerate(styles):
        for row, layer in enumerate(layers):
            dependence, y = dependences[layer][plane], row + 0.2 * (k - 1.5)
            low, high = np.percentile(nulls[layer][plane], (2.5, 97.5))
            ax.plot([low, high], [y, y], color='0.6', lw=6, zorder=1)
            share, most = (
                dependence.information_share,
                dependence.entropy - dependence.chance,
            )
            errors = [
                [most * (share.value - share.low)],
                [most * (share.high - share.value)],
            ]
            ax.errorbar(
                dependence.information,
                y,
                xerr=errors,
                fmt=marker,
                color=color,
                ms=6,
                capsize=3,
                label=PLANES[plane] if row == 0 else None,
            )
    ax.plot([], [], color='0.6', lw=6, label='permuted labels, 95 %')
    entropy = next(iter(dependences[layers[0]].values())).entropy
    ax.axvline(entropy, color='0.3', ls=':', label='entropy of the labels')
    ax.set(
        yticks=range(len(layers)),
        yticklabels=[shown_name(layer) for layer in layers],
        xlabel='mutual information of angle and class (nats)',
        xlim=(0, None),
    )
    ax.invert_yaxis()
    ax.legend(
        fontsize=8.5, loc='upper left', bbox_to_anchor=(1.01, 1), frameon=False
    )
    return figure
