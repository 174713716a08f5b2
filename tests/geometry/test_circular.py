"""Circular statistics against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from u1_plugin.geometry import angle_difference, resultant_length


def von_mises(kappa: float, shape, mean: float = 0.7, seed: int = 0):
    draws = np.random.default_rng(seed).vonmises(mean, kappa, shape)
    return torch.from_numpy(draws)


@pytest.mark.parametrize('kappa', [0.0, 0.5, 4.0])
def test_length_equals_scipy(kappa):
    theta = von_mises(kappa, 300)
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
        resultant_length(theta, weight), resultant_length(repeated)
    )


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
    with pytest.raises(ValueError, match='weight holds numbers'):
        resultant_length(theta, weight)
    both = torch.stack([theta, theta]), torch.ones(2, 2)
    if vmap_reads_bits():
        assert torch.vmap(resultant_length)(*both).shape == (2,)
    assert resultant_length(theta.to('meta'), weight.to('meta')).shape == ()


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
def test_lengths_keep_their_range(dtype):
    for theta in torch.linspace(-9, 9, 41, dtype=dtype):
        for n in (1, 2, 3, 7, 50):
            assert resultant_length(theta.repeat(n)) <= 1
