"""One pass over the images equals the whole at once, and so do its controls."""

import argparse

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from analysed_digits import CLASSES, COUNT, LAYERS

from u1_plugin.geometry import (
    angle,
    energy,
    image_moment,
    pca_basis,
    pooled_vector,
    to_positive_orthant,
)
from u1_plugin.lab.analysis import (
    analysis_run,
    controls,
    moment_controls,
    survey,
)
from u1_plugin.lab.analysis.angle_figures import polar_histograms
from u1_plugin.lab.analysis.drawing import png
from u1_plugin.lab.analysis.images import make_dataset, make_loader
from u1_plugin.lab.analysis.layer import LayerState
from u1_plugin.measure import fisher_lee_correlation


@pytest.fixture(scope='module')
def loader(network, pictures):
    return make_loader(make_dataset(network.config, str(pictures)), 16)


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
    row = controls.shuffles_of(layer, labels, 4)
    assert row.observed > 0.5 and row.low > 0.5  # whatever the order
    assert row.scrambled < 1.5 * row.chance < row.observed


def test_without_an_angle_nothing_is_told(tmp_path):
    state = LayerState('x', 'relu', 6, tmp_path)
    state.update(torch.ones(6, 4, 1, 1), torch.arange(6))
    labels = np.arange(6) % 3
    layer = state.finish(labels, 3, tuple(survey.PLANES))
    row = controls.shuffles_of(layer, labels, 3)
    assert np.isnan([row.observed, row.median, row.rank, row.chance]).all()
    none = survey.Survey([layer] * 2, labels, CLASSES)
    assert np.isnan(moment_controls.centring_of(none)[1].follows).all()
    picture = polar_histograms(layer, CLASSES, ['image', 'pca_centred'])
    assert png(picture, 20).startswith(b'\x89PNG')


@pytest.mark.parametrize('scale', [1.0, 1e25, 1e-25])
def test_images_without_energy_are_no_moments_of_zero(scale, tmp_path):
    """And energies of any scale are energies."""
    maps = torch.zeros(6, 4, 2, 3)
    maps[:3, :, 0, 2] = scale
    state = LayerState('x', 'relu', 6, tmp_path)
    state.update(maps, torch.arange(6))
    labels = np.arange(6) % 3
    layer = state.finish(labels, 3, tuple(survey.PLANES))
    assert layer.energy.n == layer.energy.skipped == 3
    assert np.isfinite(layer.moments['image']).all(1).tolist() == (
        [True] * 3 + [False] * 3
    )
    both = survey.Survey([layer] * 2, labels, CLASSES)
    row = moment_controls.centring_of(both)[1]
    assert row.x.value == pytest.approx(layer.moments['image'][0, 0])
    shift = moment_controls.shifts_of(both, both, np.arange(6))[0]
    assert shift.n == 3


def test_a_layer_of_one_pixel_ends_no_analysis(tmp_path):
    """Its image angle is that of nothing, and all else is told."""
    maps = torch.rand(60, 8, 1, 1, generator=torch.Generator().manual_seed(0))
    labels = np.arange(60) % 3
    layers = []
    for name, values in (('input', maps.expand(-1, -1, 4, 4)), ('x', maps)):
        state = LayerState(name, 'relu', 60, tmp_path, 9)
        state.update(values, torch.arange(60))
        layers.append(state.finish(labels, 3, tuple(survey.PLANES)))
    result = survey.Survey(layers, labels, ['a', 'b', 'c'])
    options = argparse.Namespace(permutations=99, alpha=0.05)
    nulls = analysis_run.findings_of(options, result)['nulls']['x']
    assert np.isnan(nulls['image']).all() and len(nulls['image']) == 199
    assert np.isfinite(nulls['pca_centred']).all()


@pytest.mark.parametrize('side', [5, 7, 8])
def test_balanced_maps_have_no_angle_in_the_image_plane(side, tmp_path):
    """Rounding would give all flat maps of one colour the same one."""
    labels = np.arange(24) % 3
    maps = torch.rand(3, 4, 1, 1)[labels].expand(-1, -1, side, side).clone()
    maps[-3:, :, 0, 0] *= 2
    state = LayerState('x', 'relu', 24, tmp_path)
    state.update(maps, torch.arange(24))
    layer = state.finish(labels, 3, ('image',))
    assert layer.planes['image'].skipped == 21
    # Their energy has a place, in the middle.
    assert (layer.moments['image'][:-3] == 0).all()
