"""Exact values of the geometry where a formula would round or overflow."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from u1_plugin import geometry as g

PI = math.pi
#: Near the ends of float32, and powers of two: they change no digit.
FAR = (2.0**-100, 2.0**100)


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.2 + torch.rand(
        *shape, generator=torch.Generator().manual_seed(seed)
    )


def backward(function, values, autocast: bool = False) -> torch.Tensor:
    """The gradient of a weighted sum."""
    first = values.clone().requires_grad_()
    output = function(first)
    loss = (output * sample(*output.shape, seed=2)).sum()
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        (gradient,) = torch.autograd.grad(loss, first)
    return gradient


def mean_of(weights: torch.Tensor) -> torch.Tensor:
    points = g.image_moment_basis(2, 3, weights.dtype)
    return g.weighted_mean(weights, points)


@pytest.mark.parametrize('autocast', [False, True])
@pytest.mark.parametrize('function', [g.direction, mean_of])
def test_a_backward_pass_is_in_float32_even_inside_autocast(function, autocast):
    values = sample(2, 6)
    found = backward(function, values, autocast=autocast)
    expected = backward(function, values.double())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_sums_of_large_weights_do_not_overflow():
    values = sample(2, 6)
    assert torch.equal(mean_of(2.0**126 * values), mean_of(values))


@pytest.mark.parametrize('scale', FAR)
@pytest.mark.parametrize('function', [g.direction, mean_of])
def test_the_scale_of_vectors_and_weights_changes_no_digit(function, scale):
    values = sample(2, 6)
    assert torch.equal(function(scale * values), function(values))
    slope = backward(function, scale * values)
    assert torch.equal(slope, backward(function, values) / scale)


class Operations(TorchDispatchMode):
    """Counts them."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    'function',
    [
        g.direction,
        lambda x, scaled: g.direction(x, 1e-3, scaled),
        lambda x, scaled: g.to_unit(x[:, :2], scaled=scaled),
        lambda x, scaled: g.feature_moment(x, g.fourier_basis(6), -1, scaled),
        lambda x, scaled: g.image_moment(x.view(2, 2, 3), scaled=scaled),
        lambda x, scaled: g.weighted_mean(
            x, g.image_moment_basis(2, 3), scaled
        ),
    ],
)
def test_what_was_scaled_before_is_spared_operations(function):
    values, found, counts = sample(2, 6), [], []
    for scaled in (False, True):
        with Operations() as operations:
            found.append(function(values, scaled=scaled))
        counts.append(operations.count)
    torch.testing.assert_close(*found)
    # The scale itself takes eight, and the division one.
    assert counts[1] <= counts[0] - 9, counts


@pytest.mark.parametrize('scale', [2.0**-140, *FAR, 2.0**120])
def test_the_scale_of_weights_changes_no_length(scale):
    theta, weight = 3 * sample(4, 5), sample(4, 5, seed=1)
    weight = (weight * 8).round()  # in the few bits of a subnormal number
    found = g.resultant_length(theta, scale * weight, 0)
    assert torch.equal(found, g.resultant_length(theta, weight, 0))


def test_an_angle_that_is_a_plain_number():
    theta = torch.tensor([0.5, 3.0, -3.0])
    expected = torch.tensor([2.0, 4.5 - 2 * PI, -1.5])
    torch.testing.assert_close(g.angle_difference(theta, -1.5), expected)


def test_opposite_angles_are_half_a_turn_back():
    first = torch.tensor([PI, -PI, 0.0, 0.0], dtype=torch.float64)
    second = torch.tensor([0.0, 0.0, PI, -PI], dtype=torch.float64)
    assert g.angle_difference(first, second).tolist() == [-PI] * 4


def test_zeros_of_either_sign_have_the_angle_0():
    zeros = torch.tensor([[0.0, 0.0], [-0.0, 0.0], [-0.0, -0.0]])
    assert (g.angle(zeros) == 0).all()
    assert (g.off_axis_angle(torch.tensor([[-0.0] * 3, [0.0] * 3])) == 0).all()


@pytest.mark.parametrize('count', [1, 2, 5])
def test_negative_grey_is_opposite_to_the_medial_vector(count):
    phi = g.off_axis_angle(torch.full((1, count), -1.0))
    assert phi.item() == pytest.approx(PI)


def test_the_norm_of_zero_needs_no_nan():
    zero = torch.zeros(3, requires_grad=True)
    # It fails at a NaN on the way, though one that is multiplied by 0 later.
    with torch.autograd.set_detect_anomaly(True):
        g.safe_norm(zero, 0).backward()
    assert (zero.grad == 0).all()


def test_the_mean_of_a_half_map_keeps_its_small_pixels():
    pixels = torch.full((1, 1, 32, 32), 2.0**-11, dtype=torch.float16)
    pixels[..., 0, 0] = 2.0**15
    # Scaled to the largest, the others would be zeros of float16.
    expected = (2.0**15 + 1023 * 2.0**-11) / 1024
    assert g.pooled_vector(pixels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('shape', [(2, 0, 3, 3), (2, 3, 0, 3), (2, 3, 3, 0)])
def test_maps_without_pixels_or_channels_are_refused(shape):
    with pytest.raises(ValueError, match='activation: there is nothing along'):
        g.scaled_relu(torch.zeros(shape))


def test_one_channel_spans_no_plane():
    with pytest.raises(ValueError, match='channels=1: a plane'):
        g.pca_basis(sample(4, 1))


def test_the_random_plane_of_no_seed_is_that_of_seed_0():
    assert torch.equal(g.random_basis(5), g.random_basis(5, 0))


def test_seeds_have_64_bits():
    assert g.random_basis(5, 2**63 - 1).shape == (2, 5)
    with pytest.raises(ValueError, match='^seed='):
        g.random_basis(5, 2**63)


def test_a_compilers_sizes_are_whole_numbers():
    found = torch.compile(
        g.image_moment, fullgraph=True, backend='eager', dynamic=True
    )
    maps = sample(2, 3, 4)
    assert torch.equal(found(maps), g.image_moment(maps))


@pytest.mark.filterwarnings('ignore')  # what torch says of its tracer
def test_a_tracers_sizes_are_whole_numbers():
    def grid(maps: torch.Tensor) -> torch.Tensor:
        return g.image_plane_basis(*maps.shape[-2:])

    found = torch.jit.trace(grid, sample(2, 3, 4))
    assert torch.equal(found(sample(2, 5, 6)), g.image_plane_basis(5, 6))


def test_rows_that_are_almost_alike_still_give_an_orthonormal_plane():
    rows = sample(1, 40).repeat(2, 1)
    rows[1] = rows[1] / 3 + 1e-4 * sample(40, seed=1)
    plane = g.orthonormal_basis(rows)
    torch.testing.assert_close(plane @ plane.T, torch.eye(2))


@pytest.mark.parametrize('shape', [(4, 5), (2, 4, 5), (2, 3, 4, 5)])
def test_moments_of_any_shape_have_their_gradient(shape):
    generator = torch.Generator().manual_seed(0)
    energy = torch.rand(shape, generator=generator, dtype=torch.float64)
    energy.requires_grad_()
    moments = g.image_moment(energy)
    rows = g.image_moment(energy.reshape(-1, 4, 5))
    assert torch.equal(moments.reshape(-1, 2), rows)
    assert torch.autograd.gradcheck(g.image_moment, [energy])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    'basis, size',
    [
        (g.image_plane_basis, (600, 3)),
        (g.image_moment_basis, (3, 600)),
        (g.fourier_basis, (5000,)),
    ],
)
def test_planes_in_half_precision_are_rounded_once(basis, size, dtype):
    assert torch.equal(basis(*size, dtype=dtype), basis(*size).to(dtype))


@pytest.mark.parametrize(
    'function',
    [
        lambda x: g.feature_moment(x, g.fourier_basis(x.size(1))),
        lambda x: g.image_moment(x.view(2, 4, 8)),
        lambda x: g.orthonormal_basis(x[:2]),
    ],
)
def test_angles_are_in_float32_even_inside_autocast(function):
    values = sample(2, 32)
    expected = function(values)
    with torch.autocast('cpu', torch.bfloat16):
        found = function(values)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert function(values.to('meta')).shape == expected.shape
