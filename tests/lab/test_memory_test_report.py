"""Pictures of matches mark the pixels, and names in them are plain text."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from rich.console import Console

from u1_plugin.lab.memory_evaluation import Grid
from u1_plugin.lab.memory_test_report import (
    ImagePatch,
    PixelMatch,
    QueryRow,
    cell_of,
    draw_matches,
    show,
    write_pictures,
)


def test_cells_lie_where_their_pixels_do():
    # Of a map of 2 rows and 4 columns: bottom left.
    half = np.hypot(3, 1) / 2
    cell = cell_of((-1.5 / half, -0.5 / half), (2, 4))
    assert cell.center == pytest.approx((0.125, 0.75))
    assert cell.size == (0.25, 0.5)
    assert cell_of((0.0, 0.0), (1, 1)).center == (0.5, 0.5)


def test_picture_marks_both_images():
    image = np.zeros((20, 40, 3), np.uint8)
    cell = ImagePatch((0.125, 0.75), (0.25, 0.5))
    rows = [QueryRow(image, 'q', [PixelMatch(image, 'm', cell, cell)])]
    query, match = draw_matches(rows).axes
    for ax in (query, match):
        (patch,) = ax.patches
        assert patch.get_bbox().bounds == pytest.approx((-0.5, 9.5, 10, 10))
        assert [t.get_text() for t in ax.texts] == ['1']
    whole = draw_matches([QueryRow(image, 'q', [PixelMatch(image, 'm')])])
    assert not any(ax.patches for ax in whole.axes)


class _Named:
    """Two images of a class whose name is markup."""

    metainfo = dict(classes=['$\\frac{[red]x', 'a_b$'])

    def __getitem__(self, index):
        sample = DataSample(metainfo=dict(img_path='[bold]$x_'))
        return dict(inputs=torch.zeros(3, 8, 8).byte(), data_samples=sample)


def test_names_are_plain_text(tmp_path, capsys):
    pixel = dict(
        image=0,
        label=1,
        distance=0.5,
        position=(0.0, 0.0),
        memory_position=(0.0, 0.0),
    )
    match = dict(
        number=0,
        true=0,
        voted=7,
        mode='pixel',
        map_shape=[1, 1],
        pixels=[pixel],
    )
    row = {'k': 1, 'accuracy/top1': 50.0}
    layer = '[red]net/a$_b[/red]'
    results = {
        layer: dict(
            rows=[row],
            retrieval={'retrieval/mAP': 1.0},
            vectors=1,
            channels=3,
            bytes=4,
            matches=[match],
        )
    }
    show(results, 'kappa', Grid('image', [0.0], [1]), Console(width=200))
    assert capsys.readouterr().out.count(layer) == 2
    data = _Named()
    write_pictures(results, data, (data, [0]), False, tmp_path)
    (picture,) = tmp_path.iterdir()
    assert picture.name == results[layer]['picture']
