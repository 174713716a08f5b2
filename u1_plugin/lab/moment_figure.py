"""Pictures of moments and class angles, for the demo."""

from typing import NamedTuple, Optional, Sequence

import numpy as np

from ..extras import needs
from ..measure.labels import class_style, mathtext

with needs('lab'):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class MomentPanel(NamedTuple):
    """One panel of :func:`plot_moments`.

    Attributes:
        title (str): Above the panel.
        moments (np.ndarray): ``z``, ``(N, 2)``.
        labels (np.ndarray): ``(N,)``, in ``[0, K)``.
    """

    title: str
    moments: np.ndarray
    labels: np.ndarray


def _draw_class_angles(
    ax: Axes, angles: np.ndarray, radius: float, names: Sequence[str]
) -> None:
    turn = np.linspace(0, 2 * np.pi, 361)
    ax.plot(radius * np.cos(turn), radius * np.sin(turn), color='0.6', lw=0.8)
    order = np.argsort(angles)
    previous, step = -np.inf, 0
    for index in order:
        theta = angles[index]
        # Neighbours closer than 9 degrees would write over each other.
        step = step + 1 if theta - previous < np.deg2rad(9) else 0
        previous = theta
        label = radius * (1.12 + 0.11 * step)
        style = class_style(index)
        ax.plot(
            [0, radius * np.cos(theta)],
            [0, radius * np.sin(theta)],
            color=style['color'],
            lw=0.7,
            alpha=0.6,
        )
        ax.plot(
            radius * np.cos(theta),
            radius * np.sin(theta),
            ls='',
            ms=8,
            mec='white',
            color=style['color'],
            marker=style['marker'],
        )
        ax.text(
            label * np.cos(theta),
            label * np.sin(theta),
            mathtext(names[index]),
            ha='center',
            va='center',
            fontsize=11,
            color=style['color'],
            fontweight='bold',
        )


def plot_moments(
    panels: Sequence[MomentPanel],
    angles: np.ndarray,
    names: Sequence[str],
    title: Optional[str] = None,
) -> Figure:
    """Moments in the complex plane, one colour and marker a class.

    Args:
        panels (Sequence[MomentPanel]): Side by side, on one scale.
        angles (np.ndarray): Class angles ``theta_c``, ``(K,)``, radians;
            drawn on a circle around the moments.
        names (Sequence[str]): Of the K classes.
        title (str, optional): Above all panels.

    Returns:
        Figure: Not attached to any screen; save it with ``savefig``.
    """
    figure = Figure(figsize=(6.4 * len(panels), 6.9), layout='constrained')
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    moduli = [np.linalg.norm(panel.moments, axis=1) for panel in panels]
    radius = 1.1 * max(modulus.max() for modulus in moduli)
    for ax, panel in zip(axes, panels):
        _draw_class_angles(ax, angles, radius, names)
        for index in range(len(names)):
            points = panel.moments[panel.labels == index]
            ax.scatter(
                *points.T, s=26, alpha=0.75, linewidths=0, **class_style(index)
            )
        ax.set(
            xlabel='Re z (unit: norm of the pooled vector)',
            ylabel='Im z',
            title=mathtext(panel.title, 80),
            aspect='equal',
            xlim=(-1.45 * radius, 1.45 * radius),
            ylim=(-1.45 * radius, 1.45 * radius),
        )
        ax.axhline(0, color='0.85', lw=0.6, zorder=0)
        ax.axvline(0, color='0.85', lw=0.6, zorder=0)
    if title:
        figure.suptitle(mathtext(title, 160))
    return figure
