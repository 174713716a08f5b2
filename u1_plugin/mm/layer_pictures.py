"""Small pictures of one layer for MMEngine's visualizer."""

from typing import TYPE_CHECKING, Optional, Sequence

import numpy as np

from ..extras import needs
from ..measure import labels
from ..measure.circular_tests import ClassAngleSummary
from ..measure.estimate import CONFIDENCE, NORMAL_QUANTILE
from ..measure.profile import EnergySummary
from ..measure.sombrero import Sombrero

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Classes that a legend can still name.
_NAMED = 20


def _figure(**options) -> 'Figure':
    """On no screen; matplotlib is imported where it is used."""
    with needs('lab'):
        from matplotlib.figure import Figure
    return Figure(dpi=100, layout='constrained', **options)


def to_array(figure: 'Figure') -> np.ndarray:
    """A figure as ``(H, W, 3)``, uint8, RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def energy_picture(
    summary: EnergySummary, fit: Optional[Sombrero], title: str
) -> 'Figure':
    """Mean energy map, and the radial profile with its fitted curve.

    Args:
        summary (EnergySummary): Of one layer.
        fit (Sombrero, optional): Of ``summary``; None draws no curve.
        title (str): Above both.
    """
    figure = _figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    picture = left.imshow(summary.mean_map, cmap='viridis')
    figure.colorbar(picture, ax=left, label='mean energy (uniform = 1)')
    left.set(title='energy map', xlabel='x (pixels)', ylabel='y (pixels)')
    right.errorbar(
        summary.rings.radius,
        summary.profile,
        NORMAL_QUANTILE * summary.profile_error,
        fmt='o',
        color='black',
        label=f'mean and {CONFIDENCE:.0%} interval',
    )
    if fit is not None:
        radius = np.linspace(0, summary.rings.radius[-1], 100)
        label = 'a r⁴ − b r² + c'
        if np.isfinite(fit.r2):
            label += f', R² = {fit.r2:.2f}'
        right.plot(radius, fit.curve(radius), color='#CC6677', label=label)
    right.axhline(1, color='0.6', lw=0.8, ls='--')
    right.set(
        title='radial profile',
        xlabel='r (half diagonals)',
        ylabel='mean energy (uniform = 1)',
    )
    right.legend()
    figure.suptitle(f'{labels.mathtext(title)}, {summary.n} images')
    return figure


def angle_picture(
    summary: ClassAngleSummary, names: Sequence[str], title: str
) -> 'Figure':
    """Mean angle and resultant length of every class, on the disc.

    Args:
        summary (ClassAngleSummary): Of one layer and plane.
        names (Sequence[str]): Of the K classes.
        title (str): Above.
    """
    figure = _figure(figsize=(6, 5))
    axes = figure.add_subplot(projection='polar')
    for index in np.flatnonzero(summary.count):
        axes.plot(
            [summary.mean[index]],
            [summary.length[index]],
            ls='',
            label=labels.label(names[index]),
            **labels.class_style(index),
        )
    title = labels.mathtext(title)
    axes.set(ylim=(0, 1), title=f'{title}, {summary.n} images')
    axes.set_xlabel('angle: circular mean; radius: resultant length R')
    if len(names) <= _NAMED:
        figure.legend(loc='outside right upper', fontsize=9)
    return figure
