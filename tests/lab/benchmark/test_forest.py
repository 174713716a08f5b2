"""A forest figure shows every data set, the pooled result and intervals."""

from across_results import across, close
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from u1_plugin.lab.benchmark.forest import forest


def texts(figure):
    FigureCanvasAgg(figure).draw()
    (ax,) = figure.axes
    legend = ax.get_legend().get_texts()
    return [*ax.texts, *ax.get_yticklabels(), *ax.get_xticklabels(), *legend]


def test_forest():
    """Rows, numbers and sizes; a diamond as wide as its interval."""
    comparisons = [across([0.5, 0.8]), across([0.1, -0.1, 0])]
    long = dict(arm='u1-image' * 9, reference='one-hot' * 9)
    comparisons[1] = comparisons[1]._replace(**long)
    figure = forest(comparisons)
    shown = texts(figure)
    assert min(text.get_fontsize() for text in shown) >= 8
    (ax,) = figure.axes
    assert ax.get_xlabel() == 'difference of test top-1, percentage points'
    names = [text.get_text() for text in ax.get_yticklabels()]
    assert names == [
        *(f'set {i}  (n=10)' for i in range(2)),
        'mean of 2  (n=20)',
        *(f'set {i}  (n=10)' for i in range(3)),
        'mean of 3  (n=30)',
    ]
    for one, diamond in zip(comparisons, ax.patches):
        across_ = diamond.get_xy()[:, 0]
        d = one.pooled.difference
        close([across_.min(), across_.max()], [d.low, d.high])
        assert to_hex(diamond.get_facecolor()).upper() == '#D55E00'
    # Nothing lies beyond the picture, and no two texts on each other.
    boxes = [text.get_window_extent() for text in shown if text.get_text()]
    width, height = figure.canvas.get_width_height()
    for box in boxes:
        assert 0 <= box.x0 and box.x1 <= width
        assert 0 <= box.y0 and box.y1 <= height
    for i, box in enumerate(boxes):
        assert box.count_overlaps(boxes[i + 1 :]) == 0


def test_forest_without_intervals():
    figure = forest([across([0, 0], noise=0), across([1, 1], noise=0)])
    shown = [text.get_text() for text in texts(figure)]
    assert shown.count('+1.00 [no interval]') == 3
    assert shown.count('+0.00 [+0.00, +0.00]') == 3
    assert not figure.axes[0].patches
