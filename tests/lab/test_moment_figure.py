"""The picture of moments."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from u1_plugin.lab.moment_figure import MomentPanel, plot_moments
from u1_plugin.measure.labels import class_style


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


def picture(angles, panels=1, title=None, name='panel'):
    """Three moments, the longest 5, in one class each but for the third."""
    moments = np.array([[3.0, -4.0], [0.0, 1.0], [-1.0, 2.0]])
    labels = np.array([0, 1, 1])
    shown = [
        MomentPanel(name, moments / (k + 1), labels) for k in range(panels)
    ]
    names = [f'c{k}' for k in range(len(angles))]
    return plot_moments(shown, np.asarray(angles), names, title)


def directions(angles) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_moments_lie_in_the_circle_of_the_class_angles():
    angles = np.array([0.3, 2.0, -1.2])
    drawn = picture(angles, panels=2)
    assert len(drawn.axes) == 2
    width, height = drawn.get_size_inches()
    assert width == 2 * picture(angles).get_size_inches()[0] > height
    for panel, ax in enumerate(drawn.axes):
        circle, *rays, across, upwards = ax.lines
        turn = circle.get_xydata()
        (radius,) = np.unique(np.hypot(*turn.T).round(9))
        # All moments of both panels lie within, and the longest not far.
        assert 5.2 < radius < 6
        step = np.diff(np.unwrap(np.arctan2(*turn.T[::-1])))
        assert sum(step) == pytest.approx(2 * np.pi) and max(step) < 0.1
        order = np.argsort(angles)
        ends = radius * directions(angles[order])
        for k, (ray, tip) in enumerate(zip(rays[::2], rays[1::2])):
            np.testing.assert_allclose(ray.get_xydata(), [(0, 0), ends[k]])
            np.testing.assert_allclose(tip.get_xydata(), [ends[k]])
            style = class_style(order[k])
            assert (tip.get_color(), tip.get_marker()) == tuple(style.values())
            assert ray.get_color() == tip.get_color()
        for k, points in enumerate(ax.collections):
            expected = [[(3, -4)], [(0, 1), (-1, 2)], np.empty((0, 2))][k]
            np.testing.assert_allclose(
                points.get_offsets(), np.array(expected) / (panel + 1)
            )
            color = to_rgb(class_style(k)['color'])
            assert np.allclose(points.get_facecolor()[:, :3], color)
        # The axes lie behind.
        assert set(across.get_ydata()) == set(upwards.get_xdata()) == {0}
        behind = max(line.get_zorder() for line in (across, upwards))
        assert behind < min(points.get_zorder() for points in ax.collections)
        assert ax.get_xlabel().startswith('Re z') and ax.get_ylabel() == 'Im z'
        assert ax.get_aspect() == 1
        low, high = ax.get_xlim()
        assert (low, high) == ax.get_ylim() and low == -high
        assert 1.4 * radius < high < 1.6 * radius


def test_labels_stand_outside_and_near_ones_farther_out():
    # Steps of 9 degrees and a bit less, or exactly as much.
    step, below = np.deg2rad(9), np.deg2rad(8.9)
    angles = np.array([1.0, 1 + below, 1 + 2 * below, 3, 0, step, -1.5])
    (ax,) = picture(angles).axes
    radius = np.hypot(*ax.lines[0].get_xydata()[0])
    order = np.argsort(angles)
    assert [t.get_text() for t in ax.texts] == [f'c{k}' for k in order]
    found = np.empty((len(angles), 2))
    found[order] = [text.get_position() for text in ax.texts]
    far = np.hypot(*found.T)
    np.testing.assert_allclose(found, far[:, None] * directions(angles))
    lonely, next_one, last = far[[0, 3, 4, 5, 6]], far[1], far[2]
    np.testing.assert_allclose(lonely, lonely[0])
    assert 1.1 * radius < lonely[0] < next_one < last < 1.4 * radius
    assert next_one - lonely[0] == pytest.approx(last - next_one)


def test_titles_are_shortened_where_there_is_no_room():
    for figure_width, panel_width in ((160, 80), (161, 81)):
        drawn = picture([0.0, 1.0], 1, 't' * figure_width, 'p' * panel_width)
        above, title = drawn.texts[0].get_text(), drawn.axes[0].get_title()
        assert (len(above), len(title)) == (160, 80)
        assert ('…' in above) == ('…' in title) == (panel_width > 80)
    assert not picture([0.0, 1.0]).texts
