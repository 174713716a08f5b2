"""Gradients, degenerate input, precision, compilation, error messages."""

import pytest
import torch
from torch import nn

from u1_plugin import geometry as g

RHOS = g.ORTHANT_MAPS
HALF = (torch.bfloat16, torch.float16)


def sample(*shape, low=0.2, high=1.2):
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(*shape, generator=generator, dtype=torch.float64)
    return low + (high - low) * values


def _points(count):
    return torch.cat(
        [sample(count, 2, low=-1), torch.ones(count, 1).double()], 1
    )


class Geometry(nn.Module):
    """All that a loss reads from one activation."""

    def __init__(self, rho='relu', channels=5, plane='fourier'):
        super().__init__()
        self.rho, self.channels, self.plane = rho, channels, plane
        self.rows = nn.Parameter(
            g.random_basis(channels, seed=1, dtype=torch.float64).clone()
        )

    def basis(self, like):
        if self.plane == 'learned':
            return g.orthonormal_basis(self.rows)
        build = {'fourier': g.fourier_basis, 'random': g.random_basis}
        return build[self.plane](self.channels, dtype=like.dtype)

    def forward(self, activation):
        intensity = g.to_positive_orthant(activation, self.rho)
        pooled = g.pooled_vector(intensity)
        z_f = g.feature_moment(pooled, self.basis(pooled))
        z_xy = g.image_moment(g.energy(intensity))
        planes = torch.stack([g.angle(z_f), g.angle(z_xy)])
        return (
            g.off_axis_angle(intensity),
            planes,
            torch.cat([g.to_unit(z_f), g.to_unit(z_xy)]),
            g.resultant_length(planes, dim=0),
            g.angle_difference(planes[0], planes[1]),
        )


DIFFERENTIABLE = {
    'safe_norm': (lambda x: g.safe_norm(x, -1), (3, 4)),
    'energy': (g.energy, (2, 3, 2, 2)),
    'off_axis_angle': (g.off_axis_angle, (2, 3, 2, 2)),
    'pooled_vector': (g.pooled_vector, (2, 3, 2, 2)),
    'feature_moment': (g.feature_moment, (3, 4), (2, 4)),
    'image_moment': (g.image_moment, (2, 3, 4)),
    'angle': (g.angle, (3, 2)),
    'to_unit': (g.to_unit, (3, 2)),
    'direction': (g.direction, (2, 3, 4)),
    'direction with eps': (lambda x: g.direction(x, 0.3), (3, 4)),
    'weighted_mean': (lambda w: g.weighted_mean(w, _points(6)), (3, 6)),
    'image_moment of winding 3': (lambda e: g.image_moment(e, 3), (2, 3, 4)),
    'orthonormal_basis': (g.orthonormal_basis, (2, 5)),
    'angle_difference': (g.angle_difference, (4,), (4,)),
    'resultant_length': (g.resultant_length, (5,)),
    'weighted resultant_length': (g.resultant_length, (5,), (5,)),
}


@pytest.mark.parametrize('name', DIFFERENTIABLE)
def test_gradcheck(name):
    function, *shapes = DIFFERENTIABLE[name]
    # Inputs of different values, lest a difference of two be zero.
    inputs = [
        (sample(*shape) / (1 + i)).requires_grad_()
        for i, shape in enumerate(shapes)
    ]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize('rho', RHOS)
def test_gradcheck_of_the_whole(rho):
    # Both signs, but away from the kink at 0.
    x = sample(2, 5, 3, 4)
    x = torch.where(torch.arange(4) % 3 == 0, -x, x).requires_grad_()
    assert torch.autograd.gradcheck(Geometry(rho), (x,))


@pytest.mark.parametrize(
    'function',
    [
        g.direction,
        g.to_unit,
        lambda x: g.weighted_mean(x, _points(2)),
        lambda x: g.image_moment(x.view(2, 2, 2)),
    ],
)
def test_gradients_of_gradients_are_refused(function):
    x = sample(4, 2).requires_grad_()
    loss = function(x).square().sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match='gradients of gradients'):
        gradient.sum().backward()


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize('make', [g.random_basis, g.fourier_basis])
def test_a_basis_is_the_callers_to_write_into(make, dtype):
    first = make(7, dtype=dtype)
    expected = first.clone()
    first.zero_()
    assert torch.equal(make(7, dtype=dtype), expected)


def degenerate_inputs():
    one_pixel = torch.zeros(2, 5, 3, 3)
    one_pixel[:, :, 1, 1] = 1.0
    return {
        'zero map': torch.zeros(2, 5, 3, 3),
        'one empty sample': torch.stack(
            [torch.zeros(5, 3, 3), sample(5, 3, 3).float()]
        ),
        'grey': torch.full((2, 5, 3, 3), 0.7),
        'grey, negative': torch.full((2, 5, 3, 3), -0.7),
        'axis pixel only': one_pixel,
        'one pixel': torch.zeros(2, 5, 1, 1),
    }


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, *HALF])
@pytest.mark.parametrize('plane', ['fourier', 'learned'])
@pytest.mark.parametrize('rho', RHOS)
def test_degenerate_input_stays_finite(rho, plane, dtype):
    for name, value in degenerate_inputs().items():
        x = value.to(dtype).requires_grad_()
        model = Geometry(rho, plane=plane)
        outputs = model(x)
        assert all(output.isfinite().all() for output in outputs), name
        if dtype == torch.float16:
            # The slope of an angle grows like 1/|z| and leaves float16's
            # range near 0; the loss reads directions, whose slope is bounded.
            outputs = outputs[2:3]
        for output in outputs:
            parameters = [x] + [model.rows] * (plane == 'learned')
            gradients = torch.autograd.grad(
                output.sum(), parameters, retain_graph=True, allow_unused=True
            )
            for gradient in gradients:
                assert gradient is None or gradient.isfinite().all(), name


def test_zero_has_defined_values():
    zero = torch.zeros(1, 4, 3, 3)
    assert g.off_axis_angle(zero).abs().max() == 0
    assert g.image_moment(g.energy(zero)).abs().max() == 0
    assert g.angle(torch.zeros(2)) == 0
    assert g.to_unit(torch.zeros(2)).abs().max() == 0
    assert g.safe_norm(torch.zeros(3), 0) == 0


def test_safe_norm_is_the_norm():
    x = sample(4, 3, low=-1)
    torch.testing.assert_close(g.safe_norm(x, 0), x.norm(dim=0))
    zero = torch.zeros(3, requires_grad=True)
    g.safe_norm(zero, 0).backward()
    assert zero.grad.abs().max() == 0


def test_unit_moment_fades_below_eps():
    direction = torch.tensor([0.6, 0.8], dtype=torch.float64)
    for length, modulus in ((1e3, 1.0), (1e-3, 0.5**0.5), (1e-9, 1e-6)):
        unit = g.to_unit(length * direction, eps=1e-3)
        torch.testing.assert_close(unit, modulus * direction, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    'rho, expected',
    [
        ('relu', [0.0, 0.0, 3.0]),
        ('abs', [2.0, 0.0, 3.0]),
        ('softplus', [0.126928, 0.693147, 3.048587]),
        ('identity', [-2.0, 0.0, 3.0]),
    ],
)
def test_orthant_maps(rho, expected):
    got = g.to_positive_orthant(torch.tensor([-2.0, 0.0, 3.0]), rho)
    torch.testing.assert_close(got, torch.tensor(expected))


PRECISE = {
    'energy': g.energy,
    'off_axis_angle': g.off_axis_angle,
    'pooled_vector': g.pooled_vector,
    'feature_moment': lambda x: g.feature_moment(x, g.fourier_basis(5), 1),
    'image_moment': lambda x: g.image_moment(x[:, 0]),
}


@pytest.mark.parametrize('dtype', HALF)
@pytest.mark.parametrize('name', PRECISE)
def test_half_precision_is_computed_in_float32(name, dtype):
    # 300^2 overflows float16, and so does a sum of 90 such entries.
    x = (300 * sample(2, 5, 9, 10)).to(dtype)
    got, expected = PRECISE[name](x), PRECISE[name](x.float())
    assert got.dtype == torch.float32
    # Not just the type: nothing may be rounded to half on the way.
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize('name', PRECISE)
def test_double_precision_is_kept(name):
    assert PRECISE[name](sample(2, 5, 3, 3)).dtype == torch.float64


CASES = [(rho, 'fourier') for rho in RHOS] + [('relu', 'learned')]


@pytest.mark.parametrize('rho, plane', CASES)
def test_compiles_to_one_graph(rho, plane):
    model, x = Geometry(rho, plane=plane), sample(2, 5, 3, 4, low=-1)
    compiled = torch.compile(model, fullgraph=True, backend='eager')
    torch.testing.assert_close(compiled(x), model(x), rtol=0, atol=0)


@pytest.mark.parametrize('rho, plane', CASES)
def test_exports(rho, plane):
    model, x = Geometry(rho, plane=plane), sample(2, 5, 3, 4, low=-1)
    exported = torch.export.export(model, (x,)).module()
    other = sample(2, 5, 3, 4, low=-0.7)
    # Other input than the traced one: no value may have become a constant.
    torch.testing.assert_close(exported(other), model(other), rtol=0, atol=0)


ERRORS = {
    # Each must name the field, the value and a way out.
    'rho': (
        lambda: g.to_positive_orthant(torch.ones(2), 'sigmoid'),
        ["rho='sigmoid'", *RHOS],
    ),
    'feature_moment': (
        lambda: g.feature_moment(torch.ones(4, 7), g.fourier_basis(5)),
        ['7 channels', '(4, 7)', 'dim=-1', '5', 'use a plane'],
    ),
    'fourier': (
        lambda: g.fourier_basis(2),
        ['channels=2', 'at least 3', 'choose a layer'],
    ),
    'winding': (
        lambda: g.fourier_basis(8, winding=4),
        ['winding=4', '8 channels', '1..3', 'choose'],
    ),
    'random': (
        lambda: g.random_basis(2),
        ['channels=2', 'at least 3', 'choose a layer'],
    ),
    'pca, channels': (
        lambda: g.pca_basis(torch.ones(9, 2)),
        ['channels=2', 'at least 3', 'choose a layer'],
    ),
    'pca, vectors': (
        lambda: g.pca_basis(torch.ones(2, 9)),
        ['vectors.shape=(2, 9)', 'at least 3 vectors', '(N, C)'],
    ),
    'rows': (
        lambda: g.orthonormal_basis(torch.ones(3, 9)),
        ['rows.shape=(3, 9)', 'two rows', '(2, C)'],
    ),
    'rows, channels': (
        lambda: g.orthonormal_basis(torch.ones(2, 2)),
        ['channels=2', 'at least 3'],
    ),
}


@pytest.mark.parametrize('name', ERRORS)
def test_errors_name_field_value_and_remedy(name):
    call, parts = ERRORS[name]
    with pytest.raises(ValueError) as error:
        call()
    missing = [part for part in parts if part not in str(error.value)]
    assert not missing, str(error.value)
