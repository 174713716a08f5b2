"""The report of an analysis is one page, with its numbers and files."""

import json
import re
import shutil
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from analysed_digits import CLASSES, COUNT, LAYERS
from helpers import build, u1_config
from twins import load_tool

from u1_plugin.lab.analysis import survey
from u1_plugin.lab.analysis.drawing import show_estimate, show_pvalue
from u1_plugin.lab.analysis.images import make_dataset, make_loader
from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.lab.markup import plain
from u1_plugin.measure.hue import to_rgb


def test_a_palette_is_named():
    one = np.ones(1)
    for palette in ('jet', None, np.ones(2)):
        with pytest.raises(ValueError, match="palette=.* 'hsv' or 'twilight'"):
            to_rgb(one, one, one, palette)


def test_numbers_for_readers():
    estimate = SimpleNamespace(value=1.0, low=float('nan'), high=2.0)
    assert show_estimate(estimate) == '1.000'
    assert show_pvalue(0.0004) == '< 0.001' and show_pvalue(0.25) == '0.250'


@pytest.fixture(scope='module')
def report(config_file, pictures, tmp_path_factory):
    """A report of untrained weights, written by the tool."""
    out = tmp_path_factory.mktemp('analysis') / 'report'
    tool = load_tool('analyze_bottleneck.py')
    argv = [
        *('analyze_bottleneck.py', str(config_file), '--untrained', '1'),
        *('--data', str(pictures), '--out', str(out), '--layers', *LAYERS),
        *('--permutations', '99', '--control-images', '6'),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', argv)
        tool.main()
        with pytest.raises(SystemExit):  # never into an existing folder
            tool.main()
    return out


def test_report_needs_no_other_file(report):
    page = (report / 'report.html').read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(s.startswith('data:image/png') for s in sources)
    assert 'http' not in re.sub(r'base64,[^"]*', '', page)
    for text in ('Sombrero', 'quarter', 'padding reflect', 'layer2'):
        assert text in page
    assert 'untrained twin</td>' not in page  # of an untrained network


def test_numbers_are_valid_json(report):
    def refuse(constant):
        raise AssertionError(f'{constant} is no JSON')

    text = (report / 'numbers.json').read_text()
    content = json.loads(text, parse_constant=refuse)
    assert [layer['name'] for layer in content['layers']] == [
        survey.INPUT,
        *LAYERS,
    ]
    assert content['claims'].keys() == set(LAYERS)
    rows = content['verdicts']
    assert {row['claim'] for row in rows} == {'C1', 'C2', 'C3'}
    assert all(
        row['corrected'] is None or row['corrected'] >= row['pvalue']
        for row in rows
    )
    variants = {row['variant'] for row in content['controls']['variants']}
    assert variants == {'as analysed', 'padding reflect', 'padding circular'}
    assert len(content['controls']['turns']) == 9


def test_files_load_in_a_u1_config(report, config_file, pictures, tmp_path):
    """Their moments are those of the analysis."""
    plain = load_network(str(config_file), seed=1)
    loader = make_loader(make_dataset(plain.config, str(pictures)), COUNT)
    expected = survey.survey(
        plain.model, loader, ['backbone'], tmp_path, CLASSES
    ).layers[-1]
    angles = report / 'class_angles' / 'backbone.pca_centred.json'
    config = u1_config(
        head=dict(type='LinearClsHead', num_classes=4, in_channels=128),
        neck=dict(
            feature_plane=dict(
                type='FeaturePlane',
                basis='pca',
                center='file',
                file=str(report / 'planes' / 'backbone.npz'),
            )
        ),
        class_angles=dict(mode='file', file=str(angles)),
    )
    model = build(config)
    batch = next(iter(loader))
    data = plain.model.data_preprocessor(batch, False)
    with torch.no_grad():
        maps = plain.model.backbone(data['inputs'])
        moments = model.u1.eval().neck(maps)[0].value
    np.testing.assert_allclose(
        moments, expected.moments['pca_centred'], atol=1e-5
    )
    difference = model.u1.class_angles.angles.numpy() - (
        expected.planes['pca_centred'].mean
    )
    np.testing.assert_allclose(np.cos(difference), 1, atol=1e-6)


def test_images_without_labels(config_file, pictures, tmp_path):
    loose = tmp_path / 'loose'
    loose.mkdir()
    for file in pictures.rglob('*.png'):
        shutil.copy(file, loose)
    tool = load_tool('analyze_bottleneck.py')
    out = tmp_path / 'out'
    argv = [
        *('analyze_bottleneck.py', str(config_file), '--untrained'),
        *('--data', str(loose), '--out', str(out), '--layers', 'backbone'),
        *('--control-images', '0', '--padding', 'circular'),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', argv)
        tool.main()
        patch.setattr(sys, 'argv', [*argv[:-2], '--out', str(out) + '2'])
        patch.setattr(tool, 'write_report', lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tool.main()
    assert not (tmp_path / 'out2').exists()  # at once or not at all
    content = json.loads((out / 'numbers.json').read_text())
    assert {row['claim'] for row in content['verdicts']} == {'C1', 'C2'}
    assert 'no labels' in (out / 'report.html').read_text()
    assert not (out / 'class_angles').exists()


@pytest.mark.parametrize(
    'options, words',
    [
        (['none.pth', '--untrained'], 'CHECKPOINT=none.pth would go unread'),
        (['--untrained', '--size', '0'], "--size: '0' must be an integer >= 1"),
        (
            ['--untrained', '--workers', '-1'],
            "--workers: '-1' must be an integer >= 0",
        ),
    ],
)
def test_options_that_would_go_unread_or_fail_late(
    config_file, tmp_path, capsys, options, words
):
    argv = ['analyze_bottleneck.py', str(config_file), *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [*argv, '--out', str(tmp_path / 'out')])
        with pytest.raises(SystemExit):
            load_tool('analyze_bottleneck.py').main()
    assert words in capsys.readouterr().err


class Page(HTMLParser):
    """Tags with their attributes' names, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = set(), ''
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add((tag, *sorted(name for name, _ in attributes)))

    def handle_data(self, data):
        self.text += data


NAMES = (
    '"><img src=x onerror=alert(1)>',
    '<title><script>alert(2)',
    '_hidden $x$ \u732b {{ 7*7 }}',
    'two\nlines \x1b[31m [red]' + 'x' * 150,
)


def test_names_of_classes_are_text(
    config_file, report, pictures, tmp_path, capsys
):
    for old, new in zip(CLASSES, NAMES):
        shutil.copytree(pictures / old, tmp_path / 'named' / new)
    out = tmp_path / 'report'
    argv = [
        *('analyze_bottleneck.py', str(config_file), '--untrained', '1'),
        *('--data', str(tmp_path / 'named'), '--out', str(out)),
        *('--layers', 'backbone', '--permutations', '99'),
        *('--control-images', '0'),
    ]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings('error', message='Glyph')
        patch.setattr(sys, 'argv', argv)
        load_tool('analyze_bottleneck.py').main()
    page = Page((out / 'report.html').read_text())
    assert page.tags <= Page((report / 'report.html').read_text()).tags
    assert {'script', 'onerror'}.isdisjoint(sum(page.tags, ()))
    for name in NAMES:
        assert plain(name) in page.text
    content = json.loads((out / 'numbers.json').read_text())
    assert sorted(content['classes']) == sorted(NAMES)
    assert '\x1b[31m' not in capsys.readouterr().out


_COUNT_IMAGES = """<script>addEventListener('load', () => {
const all = [...document.images];
document.title = JSON.stringify({images: all.length,
  decoded: all.filter(i => i.naturalWidth > 100).length,
  wide: document.documentElement.scrollWidth > innerWidth});
});</script></body>"""


@pytest.mark.skipif(not shutil.which('chromium'), reason='no chromium on PATH')
def test_report_in_a_browser(report, tmp_path):
    page = (report / 'report.html').read_text()
    file = tmp_path / 'page.html'
    file.write_text(page.replace('</body>', _COUNT_IMAGES))
    command = [
        *('chromium', '--headless', '--no-sandbox', '--disable-gpu'),
        *('--disable-background-networking', '--disable-sync'),
        *('--no-first-run', f'--user-data-dir={tmp_path / "profile"}'),
        *('--window-size=1200,900', '--dump-dom', file.as_uri()),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    )
    seen = json.loads(re.search(r'<title>(.*?)</title>', done.stdout)[1])
    assert seen['images'] == page.count('<img') > 5
    assert seen['decoded'] == seen['images'] and not seen['wide']
