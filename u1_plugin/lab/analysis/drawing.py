"""What pictures and pages of an analysis share: colours, names, numbers."""

import io
import math
from typing import Optional

from matplotlib.figure import Figure

from ...measure.estimate import Estimate
from ..markup import mathtext
from .layer import LayerFinding

#: Blue and orange of Okabe and Ito.
BLUE, ORANGE = '#0072B2', '#D55E00'

#: Panels side by side.
COLUMNS = 3


def png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    return buffer.getvalue()


def short(name: str) -> str:
    """A layer's name without what all layers' names begin with."""
    for prefix in ('backbone.timm_model.', 'backbone.', 'model.'):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def shown_name(layer: str) -> str:
    """A layer's short name as a picture shows it."""
    return mathtext(short(layer))


def title_of(layer: LayerFinding) -> str:
    """Name and size: ``layer4: 512 x 7 x 7``."""
    height, width = layer.energy.mean_map.shape
    size = f'{layer.channels} channels, {height}×{width}'
    return f'{shown_name(layer.name)}\n{size}'


def grid(count: int, height: float, projection: Optional[str] = None):
    """A figure of so many panels, and their axes."""
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(
        figsize=(3.5 * columns, height * rows), layout='constrained'
    )
    axes = figure.subplots(
        rows, columns, squeeze=False, subplot_kw=dict(projection=projection)
    ).ravel()
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def draw_map(ax, layer: LayerFinding, most: Optional[float] = None):
    """Mean energy with a cross on the optical axis, which is 0; y is up."""
    mean = layer.energy.mean_map
    height, width = mean.shape
    # Half a pixel beyond the centres.
    extent = (-width / 2, width / 2, -height / 2, height / 2)
    image = ax.imshow(mean, cmap='cividis', extent=extent, vmin=0, vmax=most)
    ax.plot(0, 0, '+', color='white', ms=14, mew=3)
    ax.plot(0, 0, '+', color='black', ms=11, mew=1.2)
    return image


def show_number(value: float, digits: int = 3) -> str:
    """A number for readers; a dash where there is none."""
    return '–' if math.isnan(value) else f'{value:.{digits}f}'


def show_estimate(estimate: Estimate, digits: int = 3) -> str:
    """Value and interval."""
    numbers = estimate.value, estimate.low, estimate.high
    value, low, high = (show_number(number, digits) for number in numbers)
    return value if '–' in (value, low, high) else f'{value} [{low}, {high}]'


def show_pvalue(value: float) -> str:
    """A p-value; tiny ones as a bound."""
    if math.isnan(value):
        return '–'
    return '< 0.001' if value < 0.001 else f'{value:.3f}'
