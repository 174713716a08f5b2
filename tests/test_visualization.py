"""The picture of moments."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from u1_plugin.measure.visualization import (
    MomentPanel,
    class_style,
    plot_moments,
)


def figure(angles: np.ndarray):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % len(angles)
    panels = [
        MomentPanel(title, rng.normal(size=(60, 2)) * scale, labels)
        for title, scale in (('small', 0.5), ('large', 2))
    ]
    names = [str(c) for c in range(len(angles))]
    return plot_moments(panels, angles, names, 'title')


def test_panels_share_one_scale_and_show_every_class():
    axes = figure(np.linspace(0, 6, 10)).axes
    assert [ax.get_title() for ax in axes] == ['small', 'large']
    assert axes[0].get_xlim() == axes[1].get_xlim()
    for ax in axes:
        assert {t.get_text() for t in ax.texts} == set('0123456789')
        assert sum(len(c.get_offsets()) for c in ax.collections) == 60


@pytest.mark.parametrize('gap', [0.0, 0.01, 0.1, 0.16])
def test_labels_of_near_angles_do_not_overlap(gap):
    drawn = figure(np.array([1.0, 1.0 + gap, 1.0 + 2 * gap, 4.0]))
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    for ax in drawn.axes:
        boxes = [t.get_window_extent(canvas.get_renderer()) for t in ax.texts]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])


def test_ten_classes_differ_in_colour_and_marker():
    styles = [class_style(c) for c in range(10)]
    assert len({style['color'] for style in styles}) == 10
    assert len({style['marker'] for style in styles}) == 10
