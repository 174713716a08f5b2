"""What all pictures of an analysis share: colours, names, panels."""

import io
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


def number_text(estimate: Estimate) -> str:
    """Value and interval for a title."""
    low, high = estimate.low, estimate.high
    return f'{estimate.value:.2f} [{low:.2f}, {high:.2f}]'
