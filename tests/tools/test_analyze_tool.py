"""The analysis of bottlenecks: one pass, controls, report and files."""

import importlib.util
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
import torch.nn.functional as F
from helpers import build, u1_config
from mmengine.config import Config
from PIL import Image
from sklearn.datasets import load_digits

from u1_plugin.geometry import (
    angle,
    energy,
    image_moment,
    pca_basis,
    pooled_vector,
    to_positive_orthant,
)
from u1_plugin.lab.analysis import controls, moment_controls, survey
from u1_plugin.lab.analysis.angle_figures import polar_histograms
from u1_plugin.lab.analysis.built_in import image_folder
from u1_plugin.lab.analysis.drawing import png, show_estimate, show_pvalue
from u1_plugin.lab.analysis.images import (
    make_dataset,
    make_loader,
    prepare_image,
    subset_index,
)
from u1_plugin.lab.analysis.layer import LayerState
from u1_plugin.lab.analysis.sources import Network, load_network, untrained_twin
from u1_plugin.lab.markup import plain
from u1_plugin.measure import fisher_lee_correlation
from u1_plugin.measure.hue import to_rgb

COUNT = 40
CLASSES = ('0', '1', '2', '3')
LAYERS = ['backbone.layer2', 'backbone']


def load_tool(root, name: str):
    spec = importlib.util.spec_from_file_location(
        name, root / f'tools/{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Forty digits of four classes."""
    out = tmp_path_factory.mktemp('digits')
    digits = load_digits(n_class=len(CLASSES))
    for i in range(COUNT):
        place = out / str(digits.target[i])
        place.mkdir(exist_ok=True)
        grey = np.round(digits.images[i] * (255 / 16)).astype(np.uint8)
        Image.fromarray(grey).save(place / f'{i}.png')
    return out


@pytest.fixture(scope='module')
def config_file(root, tmp_path_factory):
    """The digits config of the repository, with fewer classes."""
    file = tmp_path_factory.mktemp('config') / 'small.py'
    base = root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    file.write_text(f"_base_ = ['{base}']\n")
    return file


@pytest.fixture(scope='module')
def network(config_file):
    return load_network(str(config_file), seed=0)


@pytest.fixture(scope='module')
def loader(network, folder):
    return make_loader(make_dataset(network.config, str(folder)), 16)


@pytest.fixture(scope='module')
def found(network, loader, tmp_path_factory):
    scratch = tmp_path_factory.mktemp('vectors')
    return survey.survey(network.model, loader, LAYERS, scratch, CLASSES)


def test_one_pass_equals_the_whole_at_once(network, loader, found):
    inputs, labels, raw = [], [], []
    for batch in loader:
        data = network.model.data_preprocessor(batch, False)
        inputs.append(data['inputs'])
        raw.append(torch.stack(list(batch['inputs'])).flip(1) / 255)
        labels += [int(s.gt_label) for s in data['data_samples']]
    assert found.labels.tolist() == labels
    with torch.no_grad():
        activation = network.model.backbone(torch.cat(inputs))[-1]
    for layer, maps in (
        (found.layers[0], torch.cat(raw)),
        (found.layers[-1], activation),
    ):
        intensity = to_positive_orthant(maps)
        own = energy(intensity).double()
        z = image_moment(own)
        torch.testing.assert_close(
            torch.from_numpy(layer.moments['image']), z, atol=1e-6, rtol=1e-5
        )
        relative = own / own.mean((1, 2), keepdim=True)
        np.testing.assert_allclose(
            layer.energy.mean_map, relative.mean(0).numpy(), rtol=1e-5
        )
        theta = angle(z)[torch.tensor(labels) == 1]
        mean = torch.polar(torch.ones_like(theta), theta).mean()
        assert layer.planes['image'].mean[1] == pytest.approx(
            float(mean.angle()), abs=1e-5
        )
    unit = F.normalize(pooled_vector(intensity).double(), dim=1)
    np.testing.assert_allclose(layer.center, unit.mean(0).numpy(), atol=1e-6)
    basis = pca_basis(unit).numpy()
    np.testing.assert_allclose(abs(layer.basis @ basis.T), np.eye(2), atol=1e-4)
    expected = (unit.numpy() - unit.numpy().mean(0)) @ layer.basis.T
    np.testing.assert_allclose(
        layer.moments['pca_centred'], expected, atol=1e-5
    )


def test_grey_images_have_no_hue(found):
    assert found.layers[0].planes['pca_centred'].n == 0
    assert found.layers[0].planes['image'].n == COUNT


def test_angles_of_the_images_turn_with_them(network, loader, found, tmp_path):
    index = np.arange(COUNT)
    for times, degrees in ((1, 90), (3, -90)):
        scratch = tmp_path / str(times)
        scratch.mkdir()
        turned = survey.survey(
            network.model,
            loader,
            LAYERS,
            scratch,
            CLASSES,
            planes=(),
            transform=moment_controls.quarter_turn(times),
        )
        row = moment_controls.turns_of(found, turned, 90 * times, index)[0]
        assert row.layer == survey.INPUT and row.n == COUNT
        assert row.mean == pytest.approx(degrees, abs=1e-3)
        assert row.length == pytest.approx(1, abs=1e-6)
        assert row.correlation.value == pytest.approx(1, abs=1e-6)


def test_correlation_of_angles_all_around():
    """It needs no mean direction; against the sum over all pairs."""
    rng = np.random.default_rng(0)
    first = np.arange(40) * (2 * np.pi / 40)
    turned = fisher_lee_correlation(first, first + 1.2)
    assert turned.value == pytest.approx(1) and turned.pvalue == 0.001
    assert fisher_lee_correlation(first, -first).value == (pytest.approx(-1))
    second = first + rng.normal(size=40)
    a, b = (np.sin(t[:, None] - t) for t in (first, second))
    naive = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    found = fisher_lee_correlation(first, second)
    assert found.value == pytest.approx(naive)
    assert found.low < naive < found.high
    nothing = fisher_lee_correlation(first, rng.permutation(first))
    assert nothing.low < 0 < nothing.high and nothing.pvalue > 0.05
    assert fisher_lee_correlation(first, 0 * first).value == 0
    # An angle that is not known is no pair, and too few say nothing.
    holes = np.append(second, [np.nan, 0.3])
    again = fisher_lee_correlation(np.append(first, [0.3, np.nan]), holes)
    assert again == found
    assert np.isnan(fisher_lee_correlation(first[:4], holes[-5:-1])).all()
    with pytest.raises(ValueError, match=r'\(40,\) and \(42,\)'):
        fisher_lee_correlation(first, holes)


def test_moments_follow_a_shift(network, loader, found, tmp_path):
    moved = survey.survey(
        network.model,
        loader,
        LAYERS,
        tmp_path,
        CLASSES,
        planes=(),
        transform=moment_controls.shift_right,
    )
    row = moment_controls.shifts_of(found, moved, np.arange(COUNT))[0]
    assert row.along.low > 0.1  # the digits fill half of the width
    assert row.n == COUNT


def test_shift_moves_by_an_eighth():
    x = torch.arange(16.0).expand(1, 1, 2, 16)
    shifted = moment_controls.shift_right(x)
    assert shifted[0, 0, 0].tolist() == [0, 0, *range(14)]


def test_shuffled_channels(found):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 50)
    vectors = rng.normal(size=(4, 96))[labels]
    vectors = vectors + 0.1 * rng.normal(size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    layer = found.layers[-1]._replace(
        channels=96, vectors=vectors, center=vectors.mean(0)
    )
    row = controls.shuffles_of(layer, labels, 4, orders=20)
    assert row.own > 0.5 and row.low > 0.5  # whatever the order
    assert row.scrambled < 1.5 * row.chance < row.own


def test_a_palette_is_named():
    one = np.ones(1)
    for palette in ('jet', None, np.ones(2)):
        with pytest.raises(ValueError, match="palette=.* 'hsv' or 'twilight'"):
            to_rgb(one, one, one, palette)


def test_without_an_angle_nothing_is_told(tmp_path):
    state = LayerState('x', 'relu', 6, tmp_path)
    state.update(torch.ones(6, 4, 1, 1), torch.arange(6))
    labels = np.arange(6) % 3
    layer = state.finish(labels, 3, tuple(survey.PLANES))
    row = controls.shuffles_of(layer, labels, 3, orders=9)
    assert np.isnan([row.own, row.median, row.rank, row.chance]).all()
    none = survey.Survey([layer] * 2, labels, CLASSES)
    assert np.isnan(moment_controls.centring_of(none)[1].follows).all()
    picture = polar_histograms(layer, CLASSES, ['image', 'pca_centred'])
    assert png(picture, 20).startswith(b'\x89PNG')


def test_untrained_twin_is_seeded(network):
    state = torch.random.get_rng_state()
    twins = [untrained_twin(network, seed).model for seed in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = (twin.backbone.conv1.weight for twin in twins)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_weights_of_another_network_are_refused(config_file, tmp_path):
    file = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), file)
    with pytest.raises(ValueError, match='backbone.conv1.weight'):
        load_network(str(config_file), str(file))
    with pytest.raises(ValueError, match='--untrained'):
        load_network(str(config_file))


def test_names_of_sources(network, tmp_path):
    with pytest.raises(ValueError, match='timm has no such model'):
        load_network('timm:resnet_of_nobody', seed=0)
    with pytest.raises(ValueError, match='is no folder'):
        make_dataset(network.config, str(tmp_path / 'nothing'))
    config = Config(dict(test_pipeline=[]))
    with pytest.raises(ValueError, match='no test images'):
        make_dataset(config, 'config')
    assert subset_index(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert subset_index(9, 3).tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    'name, count, classes', [('photos', 21, None), ('faces', 200, 2)]
)
def test_built_in_images(network, name, count, classes):
    with image_folder(name) as place:
        dataset = make_dataset(network.config, str(place))
        # Releases of scikit-image differ in the pictures that they ship.
        assert len(dataset) == count or name == 'photos' and len(dataset) > 9
        names = dataset.metainfo.get('classes') if classes else None
        assert (names and len(names)) == classes
        file = dataset.get_data_info(0)['img_path']
        batch = prepare_image(network.config, file, size=24)
    assert batch['inputs'][0].shape == (3, 24, 24)
    assert not place.exists()


def test_numbers_for_readers():
    estimate = SimpleNamespace(value=1.0, low=float('nan'), high=2.0)
    assert show_estimate(estimate) == '1.000'
    assert show_pvalue(0.0004) == '< 0.001' and show_pvalue(0.25) == '0.250'


@pytest.fixture(scope='module')
def report(root, config_file, folder, tmp_path_factory):
    """A report of untrained weights, written by the tool."""
    out = tmp_path_factory.mktemp('analysis') / 'report'
    tool = load_tool(root, 'analyze_bottleneck')
    argv = [
        *('analyze_bottleneck.py', str(config_file), '--untrained', '1'),
        *('--data', str(folder), '--out', str(out), '--layers', *LAYERS),
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


def test_files_load_in_a_u1_config(report, config_file, folder, tmp_path):
    """Their moments are those of the analysis."""
    plain = load_network(str(config_file), seed=1)
    loader = make_loader(make_dataset(plain.config, str(folder)), COUNT)
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


def test_images_without_labels(root, config_file, folder, tmp_path):
    loose = tmp_path / 'loose'
    loose.mkdir()
    for file in folder.rglob('*.png'):
        shutil.copy(file, loose)
    tool = load_tool(root, 'analyze_bottleneck')
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
    root, config_file, report, folder, tmp_path, capsys
):
    for old, new in zip(CLASSES, NAMES):
        shutil.copytree(folder / old, tmp_path / 'named' / new)
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
        load_tool(root, 'analyze_bottleneck').main()
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


def test_network_is_a_tuple_of_what_it_names(network):
    assert isinstance(network, Network) and not network.model.training
    assert network.weights == 'untrained, seed 0'
