"""Scales of tensors: exact powers of two, and what they keep in range."""

import numpy as np
import pytest
import torch

from u1_plugin import geometry as g
from u1_plugin.geometry.scales import power_of_two, working_dtype

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
FAR = (2.0**-100, 2.0**100)


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.2 + torch.rand(*shape, generator=generator)


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_powers_of_two_are_those_of_frexp(dtype):
    held = torch.finfo(dtype)
    two = torch.tensor(2.0, dtype=dtype)
    values = [held.tiny, 3 * held.tiny, 0.3, 1.0, 1.5, 2.0, 100.0, held.max]
    values += [torch.nextafter(two, 0 * two).item()]
    values = torch.tensor(values, dtype=dtype)
    exponents = np.frexp(values.double().numpy())[1] - 1
    found, expected = power_of_two(values), np.ldexp(1.0, exponents)
    assert found.tolist() == expected.tolist()
    small = torch.tensor([0.0, held.tiny / 2, held.tiny / 4], dtype=dtype)
    assert power_of_two(small).tolist() == [held.tiny] * 3
    assert power_of_two(two / 0).isinf()


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_the_scale_is_that_of_the_largest_modulus(dtype):
    values = torch.tensor([[0.3, -5.0, 1.0], [0.0, 0.0, -0.0], [7.0, 0, 2]])
    values = values.to(dtype)
    assert g.scale_of(values, 1).tolist() == [[4.0], [1.0], [4.0]]
    assert g.scale_of(values, 0).tolist() == [[4.0, 4.0, 2.0]]
    assert g.scale_of(values, (0, 1)).tolist() == [[4.0]]
    assert g.scale_of(values, [0, 1]).dtype == dtype


def test_at_least_float32():
    wanted = {d: torch.float32 for d in (*DTYPES[:3], torch.int64, torch.bool)}
    wanted[torch.float64] = torch.float64
    assert {dtype: working_dtype(dtype) for dtype in wanted} == wanted


@pytest.mark.parametrize('dtype', DTYPES, ids=str)
def test_the_scaled_relu_and_its_gradient(dtype):
    maps = (sample(2, 3, 2, 2) - 0.7).to(dtype)
    maps[0] *= 8
    maps[0, 0, 0] = 0
    maps.requires_grad_()
    scale = g.scale_of(maps.detach().relu(), (1, 2, 3))
    weight = sample(2, 3, 2, 2, seed=1).to(dtype)
    found = g.scaled_relu(maps)
    assert torch.equal(found, maps.detach().relu() / scale)
    assert 1 <= found.amax((1, 2, 3)).min() and found.max() < 2
    (slope,) = torch.autograd.grad((found * weight).sum(), maps)
    assert torch.equal(slope, weight * (maps > 0) / scale)


@pytest.mark.parametrize('scale', FAR)
def test_planes_of_rows_and_vectors_of_any_scale(scale):
    rows = sample(2, 7)
    each = torch.tensor([[scale], [1 / scale]])
    plane = g.orthonormal_basis(rows)
    assert torch.equal(g.orthonormal_basis(each * rows), plane)
    vectors = sample(9, 7)
    assert torch.equal(g.pca_basis(scale * vectors), g.pca_basis(vectors))


def test_three_vectors_are_enough_for_a_plane():
    plane = g.pca_basis(sample(3, 5))
    torch.testing.assert_close(plane @ plane.T, torch.eye(2))


def test_sums_on_the_way_do_not_overflow():
    largest = torch.full((2, 6), 1.9 * 2.0**127)
    plane = g.fourier_basis(6)
    expected = g.feature_moment(largest / 2.0**127, plane)
    found = g.feature_moment(largest, plane)
    assert torch.equal(found / 2.0**127, expected)
    maps = sample(2, 2, 3)
    assert torch.equal(g.image_moment(2.0**126 * maps), g.image_moment(maps))
    moment = sample(4, 2)
    for scale in FAR:
        found = g.to_unit(scale * moment, 0.3 * scale)
        assert torch.equal(found, g.to_unit(moment, 0.3))


def test_the_usual_eps_and_winding():
    assert torch.equal(g.to_unit(sample(3, 2)), g.to_unit(sample(3, 2), 1e-3))
    assert torch.equal(g.fourier_basis(5), g.fourier_basis(5, winding=1))
    basis = g.image_moment_basis(2, 3, torch.float32, None, 1)
    assert torch.equal(g.image_moment_basis(2, 3), basis)


def test_dimensions_are_counted_from_either_end():
    vectors = sample(2, 4)
    assert torch.equal(g.energy(vectors, -2), g.energy(vectors, 0))
    assert torch.equal(g.energy(vectors, -1), g.energy(vectors, 1))
    for dim in (-3, 2, False, 1.0):
        with pytest.raises(ValueError, match='^intensity: .* along dim='):
            g.energy(vectors, dim)


@pytest.mark.parametrize(
    'call',
    [
        lambda: g.random_basis(5, -1),
        lambda: g.random_basis(5, True),
        lambda: g.fourier_basis(True),
        lambda: g.fourier_basis(0),
        lambda: g.fourier_basis(6, winding=0),
        lambda: g.image_plane_basis(3, True),
    ],
)
def test_numbers_that_are_too_small_or_none(call):
    with pytest.raises(ValueError, match='must be an integer >='):
        call()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_softplus_of_narrow_maps_keeps_their_angles(dtype):
    """Near 0 it is log 2 and half the map, which they cannot tell apart."""
    generator = torch.Generator().manual_seed(0)
    narrow = (torch.randn(8, 16, 4, 4, generator=generator) * 0.01).to(dtype)
    found = g.to_positive_orthant(narrow, 'softplus')
    assert torch.equal(found, g.to_positive_orthant(narrow.float(), 'softplus'))
    assert found.unique().numel() > 0.9 * narrow.unique().numel()
    for rho in ('relu', 'abs', 'identity'):  # exact, whatever the type
        assert g.to_positive_orthant(narrow, rho).dtype == dtype
