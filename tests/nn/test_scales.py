"""Maps of any scale: what squares would overflow or vanish in."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from u1_plugin import geometry as g
from u1_plugin.nn import BottleneckAngleNeck, ClassAngles, ClassTarget, U1Loss

#: Of maps that reach to 1, so to the end of each type.
SCALES = {
    torch.float32: (1e-36, 1e-30, 1e-23, 1e19, 1e30, 3.4e38),
    torch.float64: (1e-305, 1e-300, 1e-160, 1e160, 1e300, 1.7e308),
}
NECKS = [
    dict(plane='joint'),
    dict(plane='joint', of='pixel', windings=(1, 2)),
    dict(plane='joint', orthant='abs'),
    dict(plane='joint', orthant='identity'),
]


def maps() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, 3, 4, generator=generator)


def loss_of(options: dict, activation: torch.Tensor) -> tuple:
    """The U(1) loss of a map, and its gradient."""
    neck = BottleneckAngleNeck(layers=[-1], in_channels=5, **options)
    angles = ClassAngles(3, seed=1, windings=len(neck.windings))
    activation = activation.clone().requires_grad_()
    moments = neck([activation])
    target = ClassTarget(torch.tensor([0, 2]))
    pull = target.pull(angles.table(moments[0].value))
    loss = sum(
        U1Loss()(m.value, pull, pixel_share=m.pixel_share) for m in moments
    )
    (gradient,) = torch.autograd.grad(loss, activation)
    return loss.detach(), gradient


@pytest.mark.parametrize('dtype', SCALES)
@pytest.mark.parametrize('options', NECKS, ids=str)
def test_the_scale_of_a_map_turns_no_angle(options, dtype):
    base = maps().to(dtype).clamp(-1, 1)
    base[1] /= 8  # each image has a scale of its own
    loss, gradient = loss_of(options, base)
    assert gradient.abs().amax((1, 2, 3)).min() > 0
    for scale in SCALES[dtype]:
        scaled, slope = loss_of(options, (base.double() * scale).to(dtype))
        torch.testing.assert_close(scaled, loss, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            slope.double() * scale,
            gradient.double(),
            rtol=2e-3,
            atol=1e-4 * gradient.abs().max().item(),
        )


@pytest.mark.parametrize('options', NECKS, ids=str)
def test_subnormal_maps_have_the_digits_they_have(options):
    base = maps().clamp(-1, 1)
    expected, _ = loss_of(options, base)
    # 2^-149 is the least number: 19 and 13 bits are left of 24.
    for scale, error in ((2.0**-130, 1e-4), (2.0**-136, 1e-2)):
        found, _ = loss_of(options, base * scale)
        torch.testing.assert_close(found, expected, rtol=0, atol=error)


@pytest.mark.parametrize('exponent', [-100, -3, 5, 90])
@pytest.mark.parametrize('options', NECKS, ids=str)
def test_a_power_of_two_changes_no_bit(options, exponent):
    base, scale = maps(), 2.0**exponent
    loss, gradient = loss_of(options, base)
    scaled, slope = loss_of(options, base * scale)
    assert torch.equal(scaled, loss)
    assert torch.equal(slope * scale, gradient)


@pytest.mark.parametrize('dtype', [*SCALES, torch.bfloat16, torch.float16])
@pytest.mark.parametrize('orthant', ['relu', 'abs', 'softplus', 'identity'])
@pytest.mark.parametrize('of', ['pooled', 'pixel'])
def test_zero_maps_are_harmless(orthant, dtype, of):
    base = maps().to(dtype)
    base[0] = -200 if orthant == 'softplus' else 0
    options = dict(plane='joint', orthant=orthant, of=of)
    loss, gradient = loss_of(options, base)
    assert loss.isfinite() and gradient.isfinite().all()
    assert gradient[1].abs().max() > 0
    # Not steeper than the bound of a moment's direction, 1 / eps.
    assert gradient[0].abs().max() <= 0.1 / 1e-3


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_maps_reach_their_limits(dtype):
    info = torch.finfo(dtype)
    base = maps().clamp(-1, 1).to(dtype)
    expected, _ = loss_of(dict(plane='joint'), base.float())
    top = (base.double() * info.max).to(dtype)
    found, gradient = loss_of(dict(plane='joint'), top)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-3)
    assert gradient.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('of', ['pooled', 'pixel'])
def test_a_softplus_of_half_precision_may_be_small(dtype, of):
    base = (maps() / 2 - 30).to(dtype)  # softplus is 1e-13
    options = dict(plane='joint', orthant='softplus', of=of)
    expected, slope = loss_of(options, base.float())
    found, gradient = loss_of(options, base)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert slope.abs().max() > 0.01
    torch.testing.assert_close(gradient.float(), slope, rtol=0.01, atol=1e-4)


@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('options', NECKS, ids=str)
def test_what_is_not_finite_stays_so(options, bad):
    base = maps()
    base[1, 2, 0, 0] = bad
    assert loss_of(options, base)[0].isnan()


def _points(x: torch.Tensor) -> torch.Tensor:
    return g.image_moment_basis(1, x.size(-1), x.dtype)


#: What no scale changes, and what it multiplies.
INVARIANT = {
    'theta_f': lambda x: g.angle(
        g.feature_moment(x, g.fourier_basis(6, x.dtype))
    ),
    'theta_f of a pooled map': lambda x: g.angle(
        g.feature_moment(
            g.pooled_vector(x[..., None, None].expand(-1, -1, 3, 5)),
            g.fourier_basis(6, x.dtype),
        )
    ),
    'direction': g.direction,
    'phi': lambda x: g.off_axis_angle(x, dim=1),
    'z_xy of energies': lambda x: g.image_moment(x.view(2, 2, 3)),
    'z_xy of a scaled map': lambda x: g.image_moment(
        g.energy((x / g.scale_of(x, 1)).view(2, 1, 2, 3))
    ),
    'weighted mean': lambda x: g.weighted_mean(x, _points(x)),
    'weighted resultant': lambda x: g.resultant_length(
        torch.arange(6).to(x).expand(2, 6), x
    ),
    'orthonormal basis': g.orthonormal_basis,
    'pca': lambda x: g.pca_basis(torch.cat([x, x.roll(1, 1), x.flip(1)])),
}
COVARIANT = {
    'safe norm': lambda x: g.safe_norm(x, 1),
    'feature moment': lambda x: g.feature_moment(
        x, g.fourier_basis(6, x.dtype)
    ),
    'pooled vector': lambda x: g.pooled_vector(x.view(2, 1, 2, 3)),
    'fading direction': lambda x: g.direction(x, x.detach().max()) * x.max(),
}
#: Powers of ten of which the vectors and their moments are normal numbers.
POWERS = {torch.float32: (-36.0, 38.0), torch.float64: (-300.0, 307.0)}


@pytest.mark.parametrize('dtype', POWERS)
@pytest.mark.parametrize('name', [*INVARIANT, *COVARIANT])
@settings(max_examples=25)
@given(data=st.data(), seed=st.integers(0, 99))
def test_laws_of_scale(name, dtype, data, seed):
    scale = 10 ** data.draw(st.floats(*POWERS[dtype]))
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(2, 6, generator=generator, dtype=torch.float64) + 0.01
    function = INVARIANT.get(name) or COVARIANT[name]
    expected = function(base)
    # A sum of two angles, or of several numbers, is kept in range as well.
    scale = scale / max(1, expected.abs().max().item(), base.max().item())
    factor = scale if name in COVARIANT else 1.0
    exact = dtype == torch.float64
    tolerance = dict(rtol=1e-9, atol=1e-9) if exact else dict(rtol=0, atol=2e-4)

    x = (base * scale).to(dtype).requires_grad_()
    found = function(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double() / factor, expected, **tolerance)
    if name == 'pca':  # of singular vectors, which no training needs
        return
    base.requires_grad_()
    (slope,) = torch.autograd.grad(function(base).sum(), base)
    (own,) = torch.autograd.grad((found / factor).sum(), x)
    torch.testing.assert_close(own.double() * scale, slope, **tolerance)
