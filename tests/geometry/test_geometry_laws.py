"""The laws of the method, as properties of the geometry."""

import colorsys
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from u1_plugin.geometry import (
    angle,
    energy,
    feature_moment,
    fourier_basis,
    image_moment,
    image_plane_basis,
    mirrored,
    off_axis_angle,
    orthonormal_basis,
    pca_basis,
    pooled_vector,
    random_basis,
    to_positive_orthant,
)

PI = math.pi
F64 = torch.float64
law = settings(max_examples=50)

seeds = st.integers(0, 2**32 - 1)
channels = st.integers(3, 40)
windings = st.integers(1, 4)
scales = st.floats(1e-6, 1e6)
# (1, 1) is left out: its only pixel is the axis, which has no angle.
sizes = st.tuples(st.integers(1, 7), st.integers(1, 7)).filter(
    lambda size: size != (1, 1)
)


def rand(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=F64)


def _fitted_plane(count):
    return pca_basis(rand(5 * count, count, seed=count))


def _learned_plane(count):
    # Far from a plane orthogonal to m, so that the projection has work to do.
    return orthonormal_basis(3 * rand(2, count, seed=count) + 1)


PLANES = {
    'fourier': lambda count: fourier_basis(count, F64),
    'random': lambda count: random_basis(count, seed=7, dtype=F64),
    'pca': _fitted_plane,
    'learned': _learned_plane,
}
every_plane = pytest.mark.parametrize('plane', PLANES)


def assert_same_angle(got, expected, tol=1e-8):
    """Equal modulo 2 pi."""
    expected = torch.as_tensor(expected, dtype=F64)
    gap = torch.sin((got.to(F64) - expected) / 2).abs().max()
    assert gap < tol, f'{got} is not {expected} modulo 2 pi'


def clear_angle(moment):
    """The angle of a moment that is long enough to have one."""
    assume(bool((moment.norm(dim=-1) > 1e-4).all()))
    return angle(moment)


@every_plane
@law
@given(count=channels, seed=seeds, scale=scales)
def test_scaling_leaves_theta_f(plane, count, seed, scale):
    vector, basis = rand(count, seed=seed), PLANES[plane](count)
    theta = clear_angle(feature_moment(vector, basis))
    assert_same_angle(angle(feature_moment(scale * vector, basis)), theta)


@every_plane
@law
@given(count=channels, seed=seeds, shift=st.floats(-100, 100))
def test_adding_grey_leaves_theta_f(plane, count, seed, shift):
    vector, basis = rand(count, seed=seed), PLANES[plane](count)
    theta = clear_angle(feature_moment(vector, basis))
    assert_same_angle(angle(feature_moment(vector + shift, basis)), theta)


@law
@given(count=channels, seed=seeds, shift=st.integers(-50, 50), n=windings)
def test_rolling_channels_turns_theta_f(count, seed, shift, n):
    assume(n < count / 2)
    vector, basis = rand(count, seed=seed), fourier_basis(count, F64, None, n)
    theta = clear_angle(feature_moment(vector, basis))
    rolled = angle(feature_moment(vector.roll(shift), basis))
    assert_same_angle(rolled, theta + 2 * PI * n * shift / count)


@pytest.mark.parametrize('primary', range(3))
def test_primary_colours(primary):
    colour = torch.eye(3, dtype=F64)[primary]
    theta = angle(feature_moment(colour, fourier_basis(3, F64)))
    assert_same_angle(theta, math.radians(120 * primary))


@law
@given(count=channels, channel=st.integers(0, 39))
def test_single_channel_has_its_own_direction(count, channel):
    assume(channel < count)
    vector = torch.zeros(count, dtype=F64)
    vector[channel] = 2.0
    theta = angle(feature_moment(vector, fourier_basis(count, F64)))
    assert_same_angle(theta, 2 * PI * channel / count)


@law
@given(rgb=st.tuples(*[st.floats(0, 1)] * 3))
def test_three_channels_are_circular_hue(rgb):
    r, g, b = rgb
    expected = torch.tensor([r - (g + b) / 2, 3**0.5 / 2 * (g - b)], dtype=F64)
    moment = feature_moment(torch.tensor(rgb, dtype=F64), fourier_basis(3, F64))
    torch.testing.assert_close(moment, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    'rgb', [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)]
)
def test_pure_hues_agree_with_colorsys(rgb):
    # HSV's hexagonal hue and the circular one meet only at these six.
    vector = torch.tensor(rgb, dtype=F64)
    theta = angle(feature_moment(vector, fourier_basis(3, F64)))
    assert_same_angle(theta, 2 * PI * colorsys.rgb_to_hsv(*rgb)[0])


def test_moment_of_each_pixel_is_that_of_its_vector():
    maps, basis = rand(2, 5, 3, 4), fourier_basis(5, F64)
    moment = feature_moment(maps, basis, dim=1)
    assert moment.shape == (2, 3, 4, 2)
    torch.testing.assert_close(
        moment[1, 2, 3], feature_moment(maps[1, :, 2, 3], basis)
    )
    torch.testing.assert_close(
        moment.mean((1, 2)), feature_moment(pooled_vector(maps), basis)
    )


@law
@given(size=sizes, seed=seeds, turns=st.integers(0, 4), n=windings)
def test_rot90_turns_theta_xy(size, seed, turns, n):
    field = rand(*size, seed=seed)
    theta = clear_angle(image_moment(field, n))
    turned = angle(image_moment(torch.rot90(field, turns, (-2, -1)), n))
    assert_same_angle(turned, theta + n * turns * PI / 2)


@law
@given(size=sizes, seed=seeds)
def test_flips_mirror_theta_xy(size, seed):
    field = rand(*size, seed=seed)
    theta = clear_angle(image_moment(field))
    assert_same_angle(angle(image_moment(field.flip(-1))), PI - theta)
    assert_same_angle(angle(image_moment(field.flip(-2))), -theta)


@law
@given(size=sizes, seed=seeds, flips=st.tuples(st.booleans(), st.booleans()))
def test_mirrored_undoes_flips_of_every_winding(size, seed, flips):
    field = rand(1, *size, seed=seed)
    dims = [dim for dim, flip in zip((-1, -2), flips) if flip]
    before, after = (
        torch.stack([image_moment(f, n) for n in (1, 2, 3)], 1)
        for f in (field, field.flip(dims))
    )
    undone = mirrored(after, torch.tensor([flips]), (1, 2, 3))
    torch.testing.assert_close(undone, before, rtol=0, atol=1e-12)


@law
@given(size=sizes, seed=seeds, scale=scales)
def test_scaling_leaves_z_xy(size, seed, scale):
    maps = rand(3, *size, seed=seed)
    scaled, plain = (energy(a, dim=0) for a in (scale * maps, maps))
    torch.testing.assert_close(image_moment(scaled), image_moment(plain))


@law
@given(size=sizes, seed=seeds, sparsity=st.floats(0, 1))
def test_z_xy_is_within_the_unit_disc(size, seed, sparsity):
    field = rand(*size, seed=seed)
    field = torch.where(rand(*size, seed=seed ^ 1) < sparsity, 0.0, field)
    assert image_moment(field).norm() <= 1 + 1e-12


@pytest.mark.parametrize(
    'row, column, degrees',
    # Rows count downwards, so the top row is up: +90 degrees.
    [(0, 1, 90), (2, 1, -90), (1, 2, 0), (1, 0, 180), (0, 2, 45)],
)
def test_x_points_right_and_y_up(row, column, degrees):
    field = torch.zeros(3, 3, dtype=F64)
    field[row, column] = 5.0
    moment = image_moment(field)
    assert_same_angle(angle(moment), math.radians(degrees))
    assert moment.norm().item() == pytest.approx(1)


@pytest.mark.parametrize('size', [(4, 4), (5, 5), (2, 5), (5, 4), (1, 3)])
def test_every_pixel_has_its_polar_angle(size):
    height, width = size
    basis = image_plane_basis(height, width, F64)
    assert basis.shape == (2, height, width)
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, (height - 1) / 2 - row
            radius = math.hypot(x, y) or 1.0
            expected = torch.tensor([x / radius, y / radius], dtype=F64)
            torch.testing.assert_close(basis[:, row, column], expected)


@pytest.mark.parametrize('size', [(1, 1), (3, 3), (3, 5), (7, 1)])
def test_axis_pixel_contributes_nothing_but_energy(size):
    field = rand(*size)
    field[size[0] // 2, size[1] // 2] = 0
    before, total = image_moment(field), field.sum()
    field[size[0] // 2, size[1] // 2] = 3.0
    torch.testing.assert_close(
        image_moment(field), before * total / (total + 3)
    )


@pytest.mark.parametrize('size', [(2, 2), (3, 4), (5, 5)])
def test_uniform_map_has_no_direction(size):
    assert image_moment(torch.ones(size, dtype=F64)).norm() < 1e-12


@law
@given(count=channels, seed=seeds, rho=st.sampled_from(['relu', 'abs']))
def test_phi_is_within_a_quadrant(count, seed, rho):
    vector = 2 * rand(4, count, seed=seed) - 1
    phi = off_axis_angle(to_positive_orthant(vector, rho))
    assert (phi >= 0).all() and (phi <= PI / 2).all()


@law
@given(count=channels, seed=seeds, scale=scales)
def test_phi_is_scale_invariant(count, seed, scale):
    vector = rand(count, seed=seed)
    torch.testing.assert_close(
        off_axis_angle(scale * vector, dim=0), off_axis_angle(vector, dim=0)
    )


@law
@given(count=channels, seed=seeds)
def test_phi_is_the_angle_to_the_medial_vector(count, seed):
    vector = rand(count, seed=seed)
    medial = torch.ones(count, dtype=F64) / count**0.5
    expected = torch.acos(vector @ medial / vector.norm())
    torch.testing.assert_close(off_axis_angle(vector, dim=0), expected)


@law
@given(count=st.integers(1, 40), grey=st.floats(1e-3, 1e3))
def test_phi_of_grey_is_zero(count, grey):
    vector = torch.full((count,), grey, dtype=F64)
    assert off_axis_angle(vector, dim=0) < 1e-12


@law
@given(count=channels, active=st.integers(1, 40), value=scales)
def test_phi_of_equal_channels(count, active, value):
    # One channel: acos(1/sqrt(C)); all of them: grey.
    active = min(active, count)
    vector = torch.zeros(count, dtype=F64)
    vector[:active] = value
    expected = math.acos((active / count) ** 0.5)
    # Loose, since acos itself is good to sqrt(eps) only near 1.
    assert off_axis_angle(vector, dim=0).item() == pytest.approx(
        expected, abs=1e-7
    )


def test_phi_reads_the_channel_dimension():
    maps = rand(2, 4, 3, 5)
    phi = off_axis_angle(maps)
    assert phi.shape == (2, 3, 5)
    assert phi[1, 2, 4] == off_axis_angle(maps[1, :, 2, 4], dim=0)


@law
@given(count=channels, seed=seeds)
def test_energy_is_the_squared_norm(count, seed):
    maps = rand(2, count, 3, 2, seed=seed) - 0.5
    torch.testing.assert_close(energy(maps), maps.norm(dim=1) ** 2)
