"""Circular statistics against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from u1_plugin.geometry import (
    angle_difference,
    circular_correlation,
    circular_mean,
    rayleigh_pvalue,
    resultant_length,
)


def von_mises(kappa: float, shape, mean: float = 0.7, seed: int = 0):
    draws = np.random.default_rng(seed).vonmises(mean, kappa, shape)
    return torch.from_numpy(draws)


@pytest.mark.parametrize('kappa', [0.0, 0.5, 4.0])
def test_mean_and_length_equal_scipy(kappa):
    theta = von_mises(kappa, 300)
    expected = stats.circmean(theta.numpy(), high=math.pi, low=-math.pi)
    assert circular_mean(theta).item() == pytest.approx(expected)
    variance = stats.circvar(theta.numpy())
    assert resultant_length(theta).item() == pytest.approx(1 - variance)


def test_resultant_length_of_von_mises():
    kappa = 2.0
    expected = special.i1(kappa) / special.i0(kappa)
    measured = resultant_length(von_mises(kappa, 200_000)).item()
    assert measured == pytest.approx(expected, abs=5e-3)


def test_weights_count_as_repetitions():
    theta = torch.tensor([0.1, 2.0, -3.0])
    weight = torch.tensor([1.0, 3.0, 2.0])
    repeated = theta.repeat_interleave(weight.long())
    torch.testing.assert_close(
        circular_mean(theta, weight), circular_mean(repeated)
    )
    torch.testing.assert_close(
        resultant_length(theta, weight), resultant_length(repeated)
    )


def test_rayleigh_keeps_its_level_and_finds_an_effect():
    null = rayleigh_pvalue(von_mises(0.0, (1000, 60)))
    # 1,000 draws of a 5 % event: within 3.5 standard errors.
    assert abs((null < 0.05).double().mean() - 0.05) < 0.024
    assert (rayleigh_pvalue(von_mises(2.0, (100, 60))) < 0.01).all()


def test_rayleigh_of_many_angles_in_float32():
    theta = von_mises(0.004, 10**6)
    expected = rayleigh_pvalue(theta)
    assert 0.001 < expected < 0.9
    # R itself is good to a few 1e-6, of 2e-3.
    torch.testing.assert_close(
        rayleigh_pvalue(theta.float()).double(), expected, rtol=0.05, atol=0
    )


def test_rayleigh_of_one_angle():
    assert rayleigh_pvalue(torch.full((20,), 1.0)) < 1e-6


def vmap_reads_bits() -> bool:
    """Scales are read off the bits of numbers, which torch 2.8 cannot batch."""
    try:
        torch.vmap(lambda x: x.view(torch.int32))(torch.ones(2, 2))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize('bad', [-1.0, math.inf, math.nan])
def test_weights_are_finite_and_none_is_negative(bad):
    theta, weight = torch.tensor([0.3, 1.0]), torch.tensor([1.0, bad])
    for function in (circular_mean, resultant_length):
        with pytest.raises(ValueError, match='weight holds numbers'):
            function(theta, weight)
        both = torch.stack([theta, theta]), torch.ones(2, 2)
        if vmap_reads_bits():
            assert torch.vmap(function)(*both).shape == (2,)
        assert function(theta.to('meta'), weight.to('meta')).shape == ()


def test_circular_correlation():
    theta = von_mises(1.0, 500)
    noise = von_mises(20.0, 500, 0.0, seed=1)
    assert circular_correlation(theta, theta).item() == pytest.approx(1)
    assert circular_correlation(theta, -theta).item() == pytest.approx(-1)
    assert circular_correlation(theta, theta + noise) > 0.8
    other = von_mises(1.0, 500, seed=2)
    assert abs(circular_correlation(theta, other)) < 0.15
    flat = torch.ones(500).double()
    assert abs(circular_correlation(theta, flat)) < 1e-6


def test_angle_difference():
    a, b = von_mises(0.0, 1000) * 5, von_mises(0.0, 1000, seed=1) * 5
    difference = angle_difference(a, b)
    assert (difference >= -math.pi).all() and (difference < math.pi).all()
    torch.testing.assert_close(difference.sin(), (a - b).sin())
    torch.testing.assert_close(difference.cos(), (a - b).cos())
    torch.testing.assert_close(angle_difference(b, a), -difference)
    below = torch.tensor(np.nextafter(-math.pi, -4))
    assert angle_difference(below, 0.0) == -math.pi


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_lengths_and_correlations_keep_their_range(dtype):
    for theta in torch.linspace(-9, 9, 41, dtype=dtype):
        for n in (1, 2, 3, 7, 50):
            same = theta.repeat(n)
            assert resultant_length(same) <= 1
            other = torch.linspace(0, 3, n, dtype=dtype)
            assert circular_correlation(same, other) == 0
            assert circular_correlation(other, same) == 0
