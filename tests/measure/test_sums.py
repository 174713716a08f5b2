"""Streaming sums: equal to the batch, to their parts, and to two ranks."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from analysis_ranks import accumulators
from scipy import special, stats

from u1_plugin.geometry import pca_basis
from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.vectors import VectorAccumulator


def energies(n=37, height=6, width=9, seed=0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(n, height, width, generator=generator)
    return maps * torch.rand(n, 1, 1, generator=generator) * 100


def angles_of(theta: torch.Tensor, modulus: float = 0.3) -> torch.Tensor:
    return modulus * torch.stack([theta.cos(), theta.sin()], -1)


def naive_profile(maps: np.ndarray, bins: int):
    """Image by image, pixel by pixel."""
    n, height, width = maps.shape
    rows = []
    for image in maps:
        rings: dict = {}
        for y in range(height):
            for x in range(width):
                r = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2)
                r /= np.hypot(height, width) / 2
                ring = max(int(np.ceil(r * bins - 1e-9)), 1)
                rings.setdefault(ring, []).append(image[y, x] / image.mean())
        rows.append([np.mean(rings[ring]) for ring in sorted(rings)])
    return np.mean(rows, 0), np.cov(rows, rowvar=False)


@pytest.mark.parametrize('batch', [1, 10, 37])
def test_energy_streaming_is_the_naive_batch(batch):
    maps = energies()
    total = EnergyAccumulator(radial_bins=5)
    for part in maps.split(batch):
        total.update(part)
    found = total.summary()
    maps = maps.double().numpy()
    relative = maps / maps.mean((1, 2), keepdims=True)
    profile, covariance = naive_profile(maps, 5)
    assert found.n == 37 and found.skipped == 0
    np.testing.assert_allclose(found.mean_map, relative.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.profile, profile, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-10)
    np.testing.assert_allclose(found.mean_energy, maps.mean(), rtol=1e-12)
    turned = [
        np.corrcoef(m.ravel(), np.rot90(m, 2).ravel())[0, 1] for m in relative
    ]
    np.testing.assert_allclose(found.image_symmetry, np.mean(turned))
    for k, own in enumerate(found.group_maps):
        np.testing.assert_allclose(own, relative[k::20].mean(0), rtol=1e-12)


def test_images_without_energy_count_apart():
    maps = energies(8)
    maps[2], maps[5, 0, 0] = 0, float('nan')
    total, rest = EnergyAccumulator(), EnergyAccumulator()
    total.update(maps)
    some = torch.tensor([0, 1, 3, 4, 6, 7])
    rest.update(maps[some], some)
    found, expected = total.summary(), rest.summary()
    assert (found.n, found.skipped, expected.skipped) == (6, 2, 0)
    np.testing.assert_allclose(found.mean_map, expected.mean_map)
    np.testing.assert_allclose(found.covariance, expected.covariance)
    np.testing.assert_allclose(found.mean_energy, expected.mean_energy)
    dark = EnergyAccumulator()
    dark.update(torch.zeros(3, 4, 4))
    assert dark.n == 0
    with pytest.raises(ValueError, match='none of 3 image'):
        dark.summary()


def test_sums_of_parts_add_up_and_survive_a_file(tmp_path):
    parts = (slice(0, 40), slice(40, 41), slice(41, None))
    own = [accumulators(part) for part in parts]
    for name, whole in accumulators(slice(None)).items():
        states = [part[name].state() for part in own]
        for key, value in whole.state().items():
            np.testing.assert_allclose(
                sum(state[key] for state in states),
                value,
                rtol=1e-12,
                atol=1e-12,
                err_msg=f'{name} {key}',
            )
        np.savez(tmp_path / 'whole.npz', **whole.state())
        with np.load(tmp_path / 'whole.npz') as file:
            for key, value in whole.state().items():
                np.testing.assert_array_equal(file[key], value)


def test_two_ranks_are_one(root, environment, tmp_path):
    script = str(root / 'tests/measure/analysis_ranks.py')
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=2']
        + ['--standalone', script, str(tmp_path / 'two')],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(tmp_path / 'two', weights_only=False)
    assert two.pop('refused') == [True, True]
    whole = accumulators(slice(None))
    for case in ('halves', 'one rank has none'):
        for name, own in whole.items():
            for key, value in own.state().items():
                np.testing.assert_allclose(
                    two[case][name][key],
                    value,
                    rtol=1e-12,
                    atol=1e-12,
                    err_msg=f'{case} {name} {key}',
                )
    assert two['untouched']


def test_memory_does_not_grow_with_the_data():
    total = EnergyAccumulator()
    total.update(energies(3))
    before = {name: value.shape for name, value in total.state().items()}
    for seed in range(20):
        total.update(energies(5, seed=seed))
    after = {name: value.shape for name, value in total.state().items()}
    assert before == after and total.n == 103


def test_class_angles_are_scipys():
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(400, generator=generator, dtype=torch.float64) * 0.8 + 3
    labels = torch.arange(400) % 4
    labels[labels == 2] = 0  # class 2 stays without an image
    total = AngleAccumulator(4)
    for part in range(0, 400, 33):
        block = slice(part, part + 33)
        total.update(angles_of(theta[block]), labels[block])
    found = total.summary()
    assert found.count.tolist() == [200, 100, 0, 100]
    assert np.isnan(found.mean[2]) and np.isnan(found.pvalue[2])
    for label in (0, 1, 3):
        own = theta[labels == label]
        mean = stats.circmean(own, high=np.pi, low=-np.pi)
        assert np.isclose(found.mean[label], mean)
        directions = stats.directional_stats(angles_of(own, 1.0).numpy())
        length, n = directions.mean_resultant_length, len(own)
        assert np.isclose(found.length[label], length)
        # Rayleigh's test, by Zar's 27.4.
        root = np.sqrt(1 + 4 * n + 4 * (n**2 - (n * length) ** 2))
        assert np.isclose(found.pvalue[label], np.exp(root - (1 + 2 * n)))
    assert found.table.sum() == 400
    low = (found.table[0] > 0).argmax() / 36 * 2 * np.pi - np.pi
    first = (theta[labels == 0] + np.pi).remainder(2 * np.pi).min() - np.pi
    assert 0 <= float(first) - low < 2 * np.pi / 36


def test_planted_concentration_gives_the_closed_form():
    """R of a von Mises distribution is I1(kappa) / I0(kappa)."""
    rng = np.random.default_rng(0)
    kappas, n = np.array([0.0, 0.5, 2.0, 10.0]), 20000
    total = AngleAccumulator(4)
    for label, kappa in enumerate(kappas):
        theta = torch.from_numpy(rng.vonmises(label - 1.5, kappa, n))
        total.update(angles_of(theta), torch.full((n,), label))
    found = total.summary()
    expected = special.i1(kappas) / special.i0(kappas)
    # The standard error of R is at most 1 / sqrt(2n) = 0.005.
    np.testing.assert_allclose(found.length, expected, atol=0.02)
    np.testing.assert_allclose(found.mean[1:], [-0.5, 0.5, 1.5], atol=0.05)
    assert (found.corrected[1:] < 1e-6).all() and found.corrected[0] > 1e-3


def test_interval_of_a_class_mean_covers_it():
    rng = np.random.default_rng(1)
    theta = torch.from_numpy(rng.vonmises(2.0, 3.0, (1000, 40)))
    total = AngleAccumulator(1000)
    total.update(
        angles_of(theta.flatten()), torch.arange(1000).repeat_interleave(40)
    )
    found = total.summary()
    covered = (abs(found.mean - 2.0) < found.half_width).mean()
    assert 0.92 < covered < 0.97


def test_images_without_an_angle_count_apart():
    moments = angles_of(torch.linspace(-3, 3, 6))
    moments[1], moments[4, 0] = 0, float('inf')
    total = AngleAccumulator(2)
    total.update(moments, torch.tensor([0, 0, 0, 1, 1, 1]))
    found = total.summary()
    assert (found.n, found.skipped) == (4, 2)
    assert found.count.tolist() == [2, 2]
    moduli = total.state()['modulus']
    np.testing.assert_allclose(moduli, [0.6, 0.6], rtol=1e-6)


def test_vectors_give_centre_and_plane():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(60, 7, generator=generator).double() * 5
    total = VectorAccumulator()
    for part in torch.cat([vectors, torch.zeros(2, 7)]).split(9):
        total.update(part)
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(total.center(), unit.mean(0))
    np.testing.assert_allclose(total.pca_basis(), pca_basis(unit), atol=1e-9)


@pytest.mark.parametrize(
    'act, words',
    [
        (lambda: EnergyAccumulator(radial_bins=1), 'radial_bins=1'),
        (lambda: AngleAccumulator(0), 'num_classes=0'),
        (lambda: EnergyAccumulator().state(), 'has seen no image'),
        (
            lambda: AngleAccumulator(2).update(
                torch.ones(2, 2), torch.tensor([0, 2])
            ),
            r'labels are in \[0, 2\].*num_classes=2',
        ),
        (
            lambda: AngleAccumulator(2).update(
                torch.ones(2, 2), torch.tensor([0])
            ),
            r'labels is torch.int64 of shape \(1,\); give 2 integers',
        ),
        (
            lambda: [
                total.update(torch.ones(1, size, 4))
                for total in [EnergyAccumulator()]
                for size in (4, 5)
            ],
            r'\(5, 4\) after \(4, 4\)',
        ),
    ],
)
def test_what_does_not_fit_is_refused(act, words):
    with pytest.raises(ValueError, match=words):
        act()
