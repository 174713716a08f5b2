"""Names from outside are plain text in tables, pictures and file names."""

import csv
import re
import warnings
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hostile_names import HOSTILE, any_text, visible
from hypothesis import example, given, settings
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from u1_plugin.lab.benchmark.table import read_csv, save_csv
from u1_plugin.lab.markup import (
    file_name,
    label,
    link,
    mathtext,
    shortened,
    terminal,
)
from u1_plugin.lab.moment_figure import MomentPanel, plot_moments
from u1_plugin.mm.layer_pictures import angle_picture


@pytest.mark.parametrize('lone', [True, False])
def test_csv_round_trip(tmp_path, lone):
    """With and without carriage returns, which need quotes."""
    named = [n for n in HOSTILE if lone or '\r' not in n] + ['a\rb'] * lone
    table = pd.DataFrame(
        dict(arm=named, quantity=named[::-1], value=-1.5, detail='')
    )
    table.loc[0, 'value'] = np.nan
    save_csv(table, tmp_path / 'table.csv')
    text = (tmp_path / 'table.csv').read_bytes().decode()
    cells = list(csv.reader(StringIO(text, newline='')))
    assert len(cells) == 1 + len(named)
    for arm, quantity, value, _ in cells[1:]:
        for cell in (arm, quantity):
            assert not cell.startswith(tuple('=+-@\t\r\n'))
        assert value in ('-1.5', '')  # numbers stay numbers
    found = read_csv(tmp_path / 'table.csv')
    named = [n.encode(errors='backslashreplace').decode() for n in named]
    assert found.arm.tolist() == named
    assert found.quantity.tolist() == named[::-1]
    assert np.isnan(found.value[0]) and (found.value[1:] == -1.5).all()


def test_pictures():
    figure = Figure(figsize=(10, 40))
    ax = figure.subplots()
    ax.set_title(mathtext(HOSTILE[0]))
    for name in HOSTILE:
        ax.plot([0, 1], label=label(name))
    ax.set_yticks(range(len(HOSTILE)), [mathtext(name) for name in HOSTILE])
    legend = ax.legend()
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # of glyphs that there are not
        FigureCanvasAgg(figure).draw()
    texts = [text.get_text().replace(r'\$', '$') for text in legend.get_texts()]
    assert len(texts) == len(HOSTILE)
    for name, text in zip(HOSTILE, texts):
        plainly = visible(name)
        if plainly.isascii() and 0 < len(plainly) <= 40:
            assert text.strip() == plainly
        assert 0 < len(text) < 100
    assert r'café \u732b' in ''.join(texts)


def test_pictures_of_training_name_every_class():
    """Of hooks, which have no laboratory; legends hide no class."""
    names = ['_a $x$', '\x1b[31m', '猫']
    count = np.array([2, 1, 1])
    summary = SimpleNamespace(count=count, mean=count, length=count / 2, n=4)
    angles = angle_picture(summary, names, '$layer$')
    FigureCanvasAgg(angles).draw()
    (legend,) = angles.legends
    shown = [r' _a \$x\$', '\ufffd[31m', r'\u732b']
    assert [text.get_text() for text in legend.get_texts()] == shown
    assert angles.axes[0].get_title() == r'\$layer\$, 4 images'
    panel = MomentPanel('$p$', np.ones((3, 2)), np.arange(3))
    moments = plot_moments([panel], np.arange(3.0), names)
    FigureCanvasAgg(moments).draw()
    assert {t.get_text().strip() for t in moments.axes[0].texts} == {
        name.strip() for name in shown
    }


def test_long_names_keep_both_ends():
    text = shortened('abc' * 50 + 'xyz', 20)
    assert len(text) == 20
    assert text.startswith('abcabc') and text.endswith('abcxyz')
    assert shortened('x' * 20, 20) == 'x' * 20
    assert shortened('abcdefghij', 7) == 'abc…hij'
    assert shortened('abcdefghij', 8) == 'abcd…hij'


@settings(max_examples=100)
@given(any_text)
@example('\\\\[red]\\[1]\\')
@example('[none]x[/none]')
@example('a[b:smile:')
def test_terminals_of_any_text(name):
    text = Text.from_markup(f'[b]{terminal(name)}[/b]] x')
    assert text.plain == f'{visible(name)}] x'


def printed(text: str) -> str:
    stream = StringIO()
    console = Console(file=stream, width=2000, color_system='truecolor')
    table = Table('name', title=text)
    table.add_row(text)
    console.print(table)
    console.print(f'{text}: done')
    return stream.getvalue()


def test_terminals():
    for name in HOSTILE:
        text = printed(terminal(name))
        own = re.sub(r'\x1b\[[\d;]*m', '', text)  # rich's colours of numbers
        assert not {'\x1b', '\x07', '\u202e'} & set(own)
        assert own.count(visible(name)) >= 3 * bool(visible(name))


def test_file_names(tmp_path):
    for name in HOSTILE:
        file = tmp_path / f'{file_name(name)}-table.tex'
        file.write_text('x')
        assert not file.name.startswith('.')
    files = list(tmp_path.iterdir())
    assert len(files) == len(HOSTILE) and all(f.is_file() for f in files)


def test_different_names_are_different_files():
    found = {file_name(name) for name in HOSTILE}
    assert len(found) == len(set(HOSTILE))
    assert file_name('a/b') != file_name('a%2fb')
    # No text: as Python reads names of files, and as it never does.
    assert file_name('a\udc80') == 'a%ed%b2%80'
    assert file_name('a\ud800') == 'a%ed%a0%80'
    assert len(file_name('x' * 500)) < 200
    assert file_name('x' * 500) != file_name('x' * 499)


def test_addresses_lead_to_their_files():
    assert link('planes/a#b?c%.npz') == 'planes/a%23b%3Fc%25.npz'
    assert link('javascript:x') == 'javascript%3Ax'
    for name in HOSTILE[:-2]:
        assert not set(link(f'a/{name}.png')) & set('#?<>"\'& :[]()')
