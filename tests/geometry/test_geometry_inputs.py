"""What the functions of the geometry take, refuse, and say of it."""

import math

import numpy as np
import pytest
import torch

from u1_plugin import geometry as g

VECTORS, PLANE = torch.ones(2, 4), g.fourier_basis(4)
FLIPS = torch.tensor([[True, False]] * 2)
POINTS = g.image_moment_basis(2, 2)
#: By function and argument: a call with that argument left open.
TENSORS = {
    'angle moment': g.angle,
    'to_unit moment': g.to_unit,
    'energy intensity': g.energy,
    'off_axis_angle intensity': g.off_axis_angle,
    'pooled_vector intensity': g.pooled_vector,
    'safe_norm x': lambda x: g.safe_norm(x, -1),
    'to_positive_orthant activation': g.to_positive_orthant,
    'scaled_relu activation': g.scaled_relu,
    'scale_of values': lambda x: g.scale_of(x, -1),
    'direction vectors': g.direction,
    'weighted_mean weights': lambda x: g.weighted_mean(x, POINTS),
    'weighted_mean points': lambda x: g.weighted_mean(VECTORS, x),
    'feature_moment vectors': lambda x: g.feature_moment(x, PLANE),
    'feature_moment basis': lambda x: g.feature_moment(VECTORS, x),
    'image_moment energy': g.image_moment,
    'image_moment basis': lambda x: g.image_moment(VECTORS, basis=x),
    'mirrored moment': lambda x: g.mirrored(x, FLIPS),
    'mirrored flips': lambda x: g.mirrored(VECTORS[:, :2], x),
    'orthonormal_basis rows': g.orthonormal_basis,
    'pca_basis vectors': g.pca_basis,
    'angle_difference first': lambda x: g.angle_difference(x, 1.0),
    'resultant_length theta': g.resultant_length,
    'resultant_length weight': lambda x: g.resultant_length(VECTORS, x),
}
OPTIONAL = ('image_moment basis', 'resultant_length weight')


@pytest.mark.parametrize(
    'wrong',
    [torch.ones(2, 4, dtype=torch.complex64), None, 1.0, 'a', np.ones(4)],
    ids=['complex', 'None', 'number', 'text', 'array'],
)
@pytest.mark.parametrize('name', TENSORS)
def test_what_is_no_real_tensor_is_named(name, wrong):
    field = name.split()[1]
    if wrong is None and name in OPTIONAL:
        return
    with pytest.raises(ValueError, match=rf'^{field} must be a tensor of real'):
        TENSORS[name](wrong)


#: Of those, the functions that take any shape.
_ANY_SHAPE = ('to_positive_orthant', 'angle_difference')
ALONG = {k: v for k, v in TENSORS.items() if k.split()[0] not in _ANY_SHAPE}


@pytest.mark.parametrize('shape', [(), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize('name', ALONG)
def test_a_missing_dimension_is_named(name, shape):
    # Of rows and vectors of planes, the channels are counted.
    words = rf'{name.split()[1]}|^channels=0'
    with pytest.raises(ValueError, match=words):
        ALONG[name](torch.zeros(shape))


BATCHES = {
    'angle': (g.angle, (0, 2), (0,)),
    'to_unit': (g.to_unit, (0, 2), (0, 2)),
    'energy': (g.energy, (0, 3, 2, 2), (0, 2, 2)),
    'off_axis_angle': (g.off_axis_angle, (0, 3, 2, 2), (0, 2, 2)),
    'pooled_vector': (g.pooled_vector, (0, 3, 2, 2), (0, 3)),
    'scaled_relu': (g.scaled_relu, (0, 3, 2, 2), (0, 3, 2, 2)),
    'scale_of': (lambda x: g.scale_of(x, -1), (0, 3), (0, 1)),
    'feature_moment': (
        lambda x: g.feature_moment(x, PLANE),
        (0, 4),
        (0, 2),
    ),
    'image_moment': (g.image_moment, (0, 2, 2), (0, 2)),
    'mirrored': (lambda x: g.mirrored(x, FLIPS[:0]), (0, 2), (0, 2)),
    'resultant_length': (g.resultant_length, (0, 3), (0,)),
}


@pytest.mark.parametrize('name', BATCHES)
def test_an_empty_batch_gives_an_empty_answer(name):
    call, given, wanted = BATCHES[name]
    assert call(torch.zeros(given)).shape == wanted


@pytest.mark.parametrize(
    'call',
    [
        g.angle,
        g.to_unit,
        g.energy,
        g.off_axis_angle,
        g.pooled_vector,
        g.resultant_length,
        g.image_moment,
        g.direction,
        lambda x: g.safe_norm(x, 1),
        lambda x: g.angle_difference(x, x),
        lambda x: g.to_positive_orthant(x, 'softplus'),
    ],
)
def test_whole_numbers_are_taken_as_float32(call):
    whole = torch.tensor([[1, 0], [2, 1]])
    torch.testing.assert_close(call(whole), call(whole.float()))


@pytest.mark.parametrize(
    'call, words',
    [
        (lambda: g.scale_of(torch.ones(2).int(), 0), ('values', 'int32')),
        (lambda: g.energy(VECTORS, 2), ('intensity', 'dim=2', '(2, 4)')),
        (lambda: g.energy(VECTORS, None), ('intensity', 'dim=None')),
        (lambda: g.energy(VECTORS, True), ('intensity', 'dim=True')),
        (lambda: g.angle(VECTORS), ('moment', '(2, 4)', '(..., 2)')),
        (
            lambda: g.feature_moment(VECTORS, torch.ones(2, 4, 1)),
            ('basis', '(2, 4, 1)', '(2, C)'),
        ),
        (
            lambda: g.image_moment(torch.ones(3, 3), basis=POINTS),
            ('basis', '(4, 3)', '(9, 3)'),
        ),
        (
            lambda: g.mirrored(VECTORS[:, :2], FLIPS, (1, 2)),
            ('windings=(1, 2)', '(2, 2)', '(B, N, 2)'),
        ),
        (lambda: g.mirrored(VECTORS[:, :2], FLIPS[:1]), ('flips', '(1, 2)')),
        (lambda: g.mirrored(VECTORS[:, :2], FLIPS, 1), ('windings=1',)),
        (
            lambda: g.resultant_length(VECTORS, VECTORS[0]),
            ('weight', '(4,)', '(2, 4)'),
        ),
        (
            lambda: g.angle_difference(VECTORS, 1j * VECTORS),
            ('second', 'complex64'),
        ),
        (lambda: g.fourier_basis('4'), ("channels='4'",)),
        (lambda: g.fourier_basis(5, winding=1.5), ('winding=1.5',)),
        (lambda: g.random_basis(4, seed=None), ('seed=None',)),
        (lambda: g.random_basis(4.5), ('channels=4.5',)),
        (lambda: g.image_plane_basis(0, 2), ('height=0', '>= 1')),
        (lambda: g.image_moment_basis(2, None), ('width=None',)),
        (lambda: g.image_moment(VECTORS, winding=0), ('winding=0',)),
    ],
)
def test_what_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    'eps',
    [0, -1.0, math.nan, math.inf, 1e300, 1e-320, '1', True, [1]]
    + [torch.ones(2), torch.tensor(1.0).double()],
)
def test_eps_is_a_length_that_the_type_holds(eps):
    with pytest.raises(ValueError, match='^eps'):
        g.to_unit(VECTORS[:, :2], eps)


def test_numbers_of_numpy_are_numbers():
    assert g.fourier_basis(np.int64(5), winding=np.int64(2)).shape == (2, 5)
    assert g.random_basis(np.int64(5), np.int64(1)).shape == (2, 5)
    assert g.image_plane_basis(np.int64(2), np.int32(3)).shape == (2, 2, 3)
    unit = g.to_unit(VECTORS[:, :2], np.float32(0.5))
    assert torch.equal(unit, g.to_unit(VECTORS[:, :2], 0.5))
    assert torch.equal(g.energy(VECTORS, np.int64(1)), g.energy(VECTORS))
