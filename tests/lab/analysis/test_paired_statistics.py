"""Statistics of a resample are those of the report on its images."""

import math

import numpy as np
import pytest
import torch
from compared_layers import layer_of
from torch import nn

from u1_plugin.lab.analysis.comparison import paired_difference
from u1_plugin.lab.analysis.layer import (
    LayerState,
    ResampledMaps,
    image_weights,
)
from u1_plugin.lab.analysis.paired_statistics import (
    STATISTICS,
    BootstrapStatistic,
    _Angles,
    _dependence,
    layer_collapse,
    pooled_vectors,
    statistics_of,
)
from u1_plugin.lab.analysis.survey import JUDGED
from u1_plugin.measure import (
    CollapseAccumulator,
    class_dependence,
    collapse_of,
    symmetry,
)
from u1_plugin.measure.profile import concentration
from u1_plugin.measure.sombrero import fit_sombrero, heights
from u1_plugin.mm.angle_measure import AngleMeasure, AngleOptions


def test_weights_belong_to_the_images():
    index = np.arange(500)
    whole = image_weights(index, 40)
    assert whole.shape == (40, 500)
    parts = [image_weights(part, 40) for part in np.split(index[::-1], 4)]
    assert (np.concatenate(parts, 1)[:, ::-1] == whole).all()
    # Counts of a bootstrap: mean and variance 1, four standard errors.
    assert abs(whole.mean() - 1) < 4 / math.sqrt(whole.size)
    assert abs(whole.var() - 1) < 4 * math.sqrt(3 / whole.size)


def test_resampled_maps_are_weighed_means():
    energy = torch.rand(30, 3, 4, generator=torch.Generator().manual_seed(0))
    energy = energy.double()
    energy[7], energy[9] = 0, math.nan  # no part of any mean
    found = ResampledMaps(5)
    for part in torch.arange(30).split(8):
        found.update(energy[part], part)
    kept = np.array([k for k in range(30) if k not in (7, 9)])
    relative = (energy / energy.mean((1, 2), keepdim=True)).numpy()[kept]
    for row, weight in zip(found.mean_maps(), image_weights(kept, 5)):
        expected = np.average(relative, axis=0, weights=weight)
        np.testing.assert_allclose(row, expected)


def test_statistics_are_those_of_the_report(tmp_path):
    layer, labels = layer_of(tmp_path, 0)
    found = statistics_of(layer, labels, 5)
    assert set(found) == set(STATISTICS)
    tall = heights(layer.energy, fit_sombrero(layer.energy))
    collapse = layer_collapse(layer, labels, 5)
    expected = dict(
        concentration=concentration(layer.energy).excess.value,
        symmetry=symmetry(layer.energy).value,
        crown=tall.crown.value,
        brim=tall.brim.value,
        nc1=collapse.nc1,
        cdnv=collapse.cdnv,
        separation=collapse.separation,
    )
    for plane in JUDGED:
        own = class_dependence(layer.planes[plane].table, 199, 2)
        expected[f'information {plane}'] = own.information_share.value
        expected[f'means {plane}'] = own.between_share.value
    # By either turn, as the claim is judged.
    assert (found['agreement'].draws >= 0).all()
    assert found['agreement'].value >= 0
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value), name
        assert len(found[name].draws) == 40
    assert set(statistics_of(layer, None, 1)) == set(list(STATISTICS)[:4])


def test_collapse_of_a_layer_is_that_of_its_vectors(tmp_path):
    layer, labels = layer_of(tmp_path, 0)
    stream = CollapseAccumulator(5)
    vectors = pooled_vectors(layer)
    stream.update(vectors, torch.from_numpy(labels))
    np.testing.assert_allclose(
        layer_collapse(layer, labels, 5), stream.summary()
    )
    # Vectors are stored as directions in float32.
    assert vectors.norm(dim=1).numpy() == pytest.approx(layer.norms, rel=1e-6)
    assert layer_collapse(layer, 0 * labels, 5) is None


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_collapse_is_the_hook_s(tmp_path, bad):
    """Of the images whose maps are finite; one without energy counts."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(40, 6, 8, 8, generator=generator)
    labels = np.arange(40) % 2
    maps[labels == 1, 0] += 1
    maps[3] = 0
    maps[0], maps[5, 2, 1, 1] = bad, bad
    state = LayerState('l', 'relu', 40, tmp_path, 20)
    state.update(maps, torch.arange(40))
    layer = state.finish(labels, 2, tuple(JUDGED))
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1)).eval()
    options = AngleOptions(['0'], 'image', None, 'relu', None, 36, 99)
    hook = AngleMeasure(options.probe(network, 'hook'), 'ab', options)
    hook.probe.attach()
    network(maps)
    hook.update([dict(gt_label=torch.tensor([k])) for k in labels], 40)
    hook.probe.detach()
    found = layer_collapse(layer, labels, 2)
    assert found.n == 38
    np.testing.assert_allclose(found, hook.collapse()['0'], rtol=1e-5)
    rows = pooled_vectors(layer)
    assert (rows[3] == 0).all() and rows[[0, 5]].isnan().all()
    # What is resampled are the same images.
    drawn = statistics_of(layer, labels, 2)['nc1']
    assert drawn.value == found.nc1
    kept = np.array([k for k in range(40) if k not in (0, 5)])
    weights = torch.from_numpy(image_weights(np.arange(40), 20))
    pooled = maps[kept].mean((2, 3)).double()
    own = torch.from_numpy(labels[kept])
    for value, weight in zip(drawn.draws, weights[:, kept]):
        expected = collapse_of(pooled, own, 2, weight, True)
        assert value == pytest.approx(expected.nc1, rel=1e-4)


def angles_of(images: int, known: np.ndarray, resamples: int):
    """Both shares of images of which some have an angle."""
    labels = np.arange(images) % 2
    theta = np.random.default_rng(3).uniform(-3, 3, images)
    moments = np.full((images, 2), np.nan)
    moments[known] = np.stack([np.cos(theta), np.sin(theta)], 1)[known]
    angles = _Angles(moments, labels, 2, 36)
    weights = image_weights(np.arange(images), resamples)
    table = angles.table(np.ones(images, int))
    return _dependence('image', table, angles, weights), weights


def test_draws_keep_the_place_of_their_resample():
    """A resample without an angle is NaN, and no one takes its place."""
    few, weights = angles_of(200, np.arange(5), 200)
    more, _ = angles_of(200, np.arange(6), 200)
    empty = ~weights[:, :5].any(1)
    assert 0 < empty.sum() < 20
    for own in few.values():
        assert own.draws.shape == (200,)
        assert np.isnan(own.draws[empty]).all()
    own, other = few['means image'], more['means image']
    assert np.isfinite(own.draws[~empty]).all()
    # Few decide nothing, but the interval is that of paired resamples.
    found = paired_difference(own, other)
    spread = (own.draws - other.draws)[~empty].std(ddof=1)
    assert found.high - found.value == pytest.approx(1.959964 * spread)
    assert math.isnan(found.pvalue)


def test_collapse_keeps_the_place_of_its_resample(tmp_path):
    """Of two classes with one image each, many resamples hold but one."""
    layer, _ = layer_of(tmp_path, 0, images=12)
    labels = np.array([1] + [0] * 11)
    drawn = statistics_of(layer, labels, 5)['cdnv'].draws
    missing = image_weights(np.arange(12), 40)[:, 0] == 0
    assert drawn.shape == (40,) and 0 < missing.sum() < 40
    assert np.isnan(drawn[missing]).all()
    assert np.isfinite(drawn[~missing]).all()


def test_the_interval_of_a_paired_difference_covers():
    """Means of correlated data: 95 % but for 200 runs' own error."""
    rng = np.random.default_rng(0)
    weights = image_weights(np.arange(80), 200)
    inside, widths = 0, []
    for _ in range(200):
        shared = rng.normal(size=80)
        values = [shared + 0.3 * rng.normal(size=80) + k for k in (0.2, 0.0)]
        drawn = [
            BootstrapStatistic(own.mean(), weights @ own / weights.sum(1))
            for own in values
        ]
        found = paired_difference(*drawn)
        inside += found.low < 0.2 < found.high
        widths.append(found.high - found.low)
    assert 180 <= inside <= 199
    # Paired: the part that both share does not widen it.
    assert np.mean(widths) < 1.2 * 2 * 1.96 * 0.3 * math.sqrt(2 / 80)
