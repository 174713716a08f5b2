"""Hue maps over a photograph, and CAM."""

import math
import sys

import numpy as np
import pytest
import torch
from helpers import CHANNELS, CLASSES, build, images, plain_config
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from twins import load_tool

from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.measure.hue import HueMap, hue_figure, hue_map, to_rgb
from u1_plugin.nn.feature_plane import FeaturePlane


def test_primary_colours():
    theta = np.deg2rad([0, 120, 240])
    colors = to_rgb(theta, np.ones(3), np.ones(3))
    np.testing.assert_allclose(colors, np.eye(3), atol=1e-9)


@pytest.mark.parametrize('palette', ['hsv', 'twilight'])
def test_saturation_and_value(palette):
    theta = np.linspace(-math.pi, math.pi, 7)
    ones = np.ones(7)
    grey = to_rgb(theta, 0 * ones, 0.4 * ones, palette)
    np.testing.assert_allclose(grey, 0.4)
    np.testing.assert_allclose(to_rgb(theta, ones, 0 * ones, palette), 0)
    full = to_rgb(theta, ones, ones, palette)
    np.testing.assert_allclose(full[0], full[-1], atol=0.02)  # a circle
    assert np.ptp(full, 0).max() > 0.3


def test_unknown_palette():
    with pytest.raises(ValueError, match='palette'):
        to_rgb(np.zeros(1), np.ones(1), np.ones(1), 'jet')


def test_three_channels_show_their_own_colours():
    """Red, green, blue and grey pixels of one map, the grey one darker."""
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.5]])
    found = hue_map(colors.T.reshape(3, 2, 2), FeaturePlane(3))
    theta = np.rad2deg(found.theta.ravel()[:3])
    np.testing.assert_allclose(theta % 360, [0, 120, 240], atol=1e-3)
    np.testing.assert_allclose(found.energy.ravel(), [1, 1, 1, 0.75], rtol=1e-6)
    # The angle of an axis to the diagonal of a cube.
    np.testing.assert_allclose(
        found.phi.ravel(), [math.acos(1 / math.sqrt(3))] * 3 + [0], atol=1e-5
    )
    shown = found.colors().reshape(4, 3)
    assert shown[:3].argmax(1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(shown[3], 0.75, atol=1e-5)


def test_a_map_without_energy_is_black():
    found = hue_map(torch.zeros(5, 2, 3), FeaturePlane(5))
    assert not found.colors().any()


def test_cam_adds_up_to_the_logit(tool):
    model = build(plain_config()).eval()
    x = images(1)
    with torch.no_grad():
        activation = model.backbone(x)[-1][0]
        logits = model(x)[0]
        cam = tool.class_activation_map(activation, model.head.fc, logits)
    best = logits.argmax()
    assert cam.shape == activation.shape[1:]
    assert cam.mean() + model.head.fc.bias[best].item() == pytest.approx(
        logits[best].item(), rel=1e-4
    )


def test_cam_is_not_invented(tool):
    """Of a head that does something else, or of another map."""
    activation, fc = torch.rand(CHANNELS, 2, 2), nn.Linear(CHANNELS, CLASSES)
    with torch.no_grad():
        other = fc(activation.amax((1, 2)))
        assert tool.class_activation_map(activation, fc, other) is None
        assert tool.class_activation_map(activation[1:], fc, other) is None


def test_panels():
    own = HueMap(*np.random.default_rng(0).random((3, 4, 5)))
    figure = hue_figure(
        np.ones((8, 10, 3)), dict(a=own, b=own), np.zeros((2, 2)), 'CAM'
    )
    titles = [ax.get_title() for ax in figure.axes]
    assert {'what the network sees', 'a, 4×5', 'b, 4×5', 'CAM'} <= set(titles)
    assert any('off-axis' in title for title in titles)


@pytest.fixture(scope='module')
def tool():
    return load_tool('visualize_image.py')


@pytest.fixture
def command(root, tmp_path):
    """A photograph, weights and the rest of a command line."""
    photo = tmp_path / 'china.jpg'
    Image.fromarray(load_sample_images().images[0]).save(photo)
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=build(plain_config()).state_dict()), weights)
    config = tmp_path / 'config.py'
    base = root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    config.write_text(
        f"_base_ = ['{base}']\n"
        'model = dict(backbone=dict(strides=(1, 2, 2, 2)))\n'
    )
    return [
        *('visualize_image.py', str(config), str(weights), str(photo)),
        *('--size', '64', '--out', str(tmp_path / 'hue.png')),
    ]


def test_tool(tool, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', command)
    tool.main()
    assert 'No CAM' not in capsys.readouterr().out
    with Image.open(tmp_path / 'hue.png') as picture:
        assert picture.width > 800
        colors = np.asarray(picture.convert('RGB')).reshape(-1, 3)
        assert len(np.unique(colors, axis=0)) > 1000
    with pytest.raises(SystemExit):
        tool.main()
    assert 'exists' in capsys.readouterr().err


def test_tool_reads_fitted_planes(tool, command, tmp_path, monkeypatch):
    planes = tmp_path / 'planes'
    planes.mkdir()
    rng = np.random.default_rng(0)
    np.savez(
        planes / 'backbone.npz',
        basis=rng.normal(size=(2, CHANNELS)),
        center=rng.random(CHANNELS) / CHANNELS,
    )
    more = ['--planes', str(planes), '--layers', 'backbone']
    monkeypatch.setattr(sys, 'argv', [*command, *more])
    seen = []
    monkeypatch.setattr(
        tool,
        'hue_map',
        lambda a, plane, rho: seen.append(plane) or hue_map(a, plane, rho),
    )
    tool.main()
    assert [plane.basis_type for plane in seen] == ['pca']
    assert [plane.center_type for plane in seen] == ['file']


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(source='none.py'), 'none.py'),
        (dict(checkpoint='none.pth'), "CHECKPOINT 'none.pth' does not exist"),
        (dict(checkpoint='-'), 'comes without CHECKPOINT; give one$'),
        (dict(layers='backbone.none'), '--layers.*backbone.none'),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tool, command, change, words, monkeypatch
):
    """Without a traceback, and without options of other tools."""
    name, source, checkpoint, *rest = command
    if 'layers' in change:
        rest += ['--layers', change['layers']]
    files = [change.get('source', source), change.get('checkpoint', checkpoint)]
    monkeypatch.setattr(sys, 'argv', [name, *files, *rest])
    with pytest.raises(SystemExit, match=f'^error: .*{words}'):
        tool.main()


@pytest.mark.parametrize('size', ['0', '-3', '1.5'])
def test_impossible_sizes_are_refused(tool, command, size, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [*command, '--size', size])
    with pytest.raises(SystemExit):
        tool.main()
    assert f'--size: {size!r} must be an integer >= 1' in (
        capsys.readouterr().err
    )


def test_a_network_of_one_size_takes_the_size_asked_for(
    tool, command, tmp_path, monkeypatch
):
    """Position embeddings are those of the images that are shown."""
    name = 'timm:vit_tiny_patch16_224'
    weights = tmp_path / 'vit.pth'
    model = load_network(name, seed=0, size=64).model
    torch.save(dict(state_dict=model.state_dict()), weights)
    command[1:3] = name, str(weights)
    monkeypatch.setattr(sys, 'argv', [*command, '--layers', 'model.blocks.11'])
    tool.main()
    assert (tmp_path / 'hue.png').is_file()
