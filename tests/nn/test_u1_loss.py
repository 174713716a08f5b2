"""U1Loss against its closed forms."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmpretrain.registry import MODELS
from scipy import integrate

from u1_plugin.nn import ClassTarget, U1Loss
from u1_plugin.nn.targets import as_table

MODES = ('cosine', 'von_mises', 'mse')
ANGLES = torch.tensor([0.3, 2.0, 4.0, 5.5], dtype=torch.float64)
POINTS = torch.stack([ANGLES.cos(), ANGLES.sin()], -1)
every_mode = pytest.mark.parametrize('mode', MODES)


def moments(n: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator, dtype=torch.float64) * 3


def closed_form(mode: str, theta, theta_c, kappa: float):
    delta = theta - theta_c
    if mode == 'cosine':
        return 1 - delta.cos()
    if mode == 'von_mises':
        log_norm = math.log(2 * math.pi * torch.special.i0(kappa).item())
        return -kappa * delta.cos() + log_norm
    return 2 - 2 * delta.cos()


@every_mode
def test_hard_labels_give_the_closed_form(mode):
    z, target = moments(4), torch.tensor([2, 0, 1, 3])
    loss = U1Loss(mode, loss_weight=0.3, kappa=2.5, eps=1e-9, reduction='none')
    theta = torch.atan2(z[:, 1], z[:, 0])
    expected = closed_form(mode, theta, ANGLES[target], torch.tensor(2.5))
    torch.testing.assert_close(loss(z, target, POINTS), 0.3 * expected)


def test_the_defaults():
    loss = U1Loss()
    found = (loss.mode, loss.loss_weight, loss.kappa, loss.eps, loss.reduction)
    assert found == ('cosine', 0.1, 1.0, 1e-3, 'mean')
    assert loss.ignore_index == -100


@every_mode
@given(p=st.lists(st.floats(0, 1), min_size=4, max_size=4), seed=st.integers(0))
def test_soft_targets_are_exact(mode, p, seed):
    z, p = moments(1, seed % 2**31), torch.tensor(p, dtype=torch.float64)
    loss = U1Loss(mode, reduction='none')
    each = [loss(z, torch.tensor([c]), POINTS).item() for c in range(4)]
    soft = loss(z, p[None], POINTS).item()
    assert soft == pytest.approx(
        (p * torch.tensor(each)).sum().item(), abs=1e-6
    )


SHAPES = {
    'image': ((6, 2), None),
    'windings': ((6, 3, 2), None),
    'pixel': ((6, 5, 2), (6, 5)),
    'pixel, windings': ((6, 5, 3, 2), (6, 5)),
}
every_shape = pytest.mark.parametrize('shape', SHAPES)


def case(shape: str, seed: int = 0) -> tuple:
    """Moments, class points and shares of pixels."""
    size, pixels = SHAPES[shape]
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(*size, generator=generator).double()
    points = POINTS
    if 'windings' in shape:
        points = torch.stack([POINTS, POINTS.flip(0), POINTS.roll(1, 0)], 1)
    share = None
    if pixels:
        share = torch.rand(*pixels, generator=generator).double()
        share = share / share.sum(1, keepdim=True)
    return z, points, share


@every_shape
@every_mode
def test_pixels_and_windings_are_means_of_plain_losses(mode, shape):
    z, points, share = case(shape)
    loss = U1Loss(mode, kappa=2.0, reduction='none')
    target = torch.tensor([2, 0, 1, 3, 3, 0])
    found = loss(z, target, points, pixel_share=share)
    # (B, P, N, 2), one plain loss at a time.
    z = z.view(6, -1, 3 if 'windings' in shape else 1, 2)
    points = points.view(4, -1, 2)
    share = torch.ones(6, 1).double() if share is None else share
    for image in range(6):
        label, expected = target[image : image + 1], 0.0
        for pixel in range(z.size(1)):
            for n in range(z.size(2)):
                one = loss(z[image, pixel, n][None], label, points[:, n])
                expected += one.item() * share[image, pixel] / z.size(2)
        torch.testing.assert_close(found[image], expected)


@every_shape
@every_mode
def test_the_mean_is_the_mean_of_each(mode, shape):
    z, points, share = case(shape)
    hard = torch.tensor([2, -100, 1, 3, -100, 0])
    soft = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) * 2
    smoothed = ClassTarget(hard, smoothing=(0.9, 0.025))
    for target, count in ((hard, 4), (soft, 6), (smoothed, 4)):
        loss = U1Loss(mode, loss_weight=0.3, kappa=2.0)
        mean = loss(z, target, points, pixel_share=share)
        each = loss(
            z, target, points, pixel_share=share, reduction_override='none'
        )
        torch.testing.assert_close(mean, each.sum() / count)


@pytest.mark.parametrize('reduction', ['none', 'mean', 'sum'])
@pytest.mark.parametrize('avg_factor', [None, 11.0])
@pytest.mark.parametrize('weighted', [False, True])
def test_reduction_is_that_of_mmpretrain(reduction, avg_factor, weighted):
    z, target = moments(), torch.tensor([0, 1, 2, 3, 0, 1])
    weight = torch.arange(6.0) if weighted else None
    loss = U1Loss(reduction=reduction)
    each = loss(z, target, POINTS, reduction_override='none')
    if reduction == 'sum' and avg_factor:
        with pytest.raises(ValueError, match='avg_factor'):
            loss(z, target, POINTS, weight, avg_factor)
        return
    # What MMPretrain's own loss does to six losses, done to ours.
    reference = MODELS.build(dict(type='CrossEntropyLoss', reduction=reduction))
    logits = torch.tensor([[0.0, 1.0]] * 6)
    label = torch.zeros(6, dtype=torch.long)
    ce = (
        reference(logits, label, weight, avg_factor, reduction_override='none')
        if reduction == 'none'
        else reference(logits, label, weight, avg_factor)
    )
    ours = loss(z, target, POINTS, weight, avg_factor)
    one = torch.nn.functional.cross_entropy(logits[:1], label[:1])
    w = torch.ones(6) if weight is None else weight
    scale = ce / one if reduction == 'none' else ce / (one * w.sum())
    expected = each * scale if reduction == 'none' else (each * w).sum() * scale
    torch.testing.assert_close(ours, expected, check_dtype=False)


def test_ignored_samples_count_nothing():
    z, target = moments(4), torch.tensor([2, -100, 1, -100])
    loss = U1Loss()
    kept = loss(z[[0, 2]], target[[0, 2]], POINTS)
    torch.testing.assert_close(loss(z, target, POINTS), kept)
    z.requires_grad_()
    loss(z, target, POINTS).backward()
    assert (z.grad[[1, 3]] == 0).all() and (z.grad[[0, 2]] != 0).any()
    everything = torch.full((4,), -100)
    assert loss(z, everything, POINTS) == 0


@pytest.mark.parametrize('kappa', [0.1, 3.0, 200.0])
def test_von_mises_is_a_density(kappa):
    loss = U1Loss('von_mises', loss_weight=1.0, kappa=kappa, eps=1e-12)

    def density(theta: float) -> float:
        z = torch.tensor([[math.cos(theta), math.sin(theta)]]).double()
        return math.exp(-loss(z, torch.tensor([0]), POINTS).item())

    peak = ANGLES[0].item()
    area, _ = integrate.quad(
        density, peak - math.pi, peak + math.pi, points=[peak]
    )
    assert area == pytest.approx(1, abs=1e-4)


@every_shape
@every_mode
def test_gradcheck(mode, shape):
    z, points, share = case(shape)
    inputs = [z.requires_grad_()]
    if share is not None:
        inputs.append(share.requires_grad_())
    loss = U1Loss(mode, eps=0.1)
    hard = torch.tensor([0, 3, 1, 2, -100, 1])
    soft = torch.rand(6, 4, generator=torch.Generator().manual_seed(1))
    for target in (hard, soft):
        for reduction in ('mean', 'none'):

            def function(z, share=None, target=target, reduction=reduction):
                return loss(
                    z,
                    target,
                    points,
                    pixel_share=share,
                    reduction_override=reduction,
                )

            assert torch.autograd.gradcheck(function, inputs)


@every_mode
def test_gradients_of_gradients_are_refused(mode):
    z = moments().requires_grad_()
    loss = U1Loss(mode)(z, torch.tensor([0, 3, 1, 2, 2, 1]), POINTS)
    (gradient,) = torch.autograd.grad(loss, z, create_graph=True)
    with pytest.raises(RuntimeError, match='gradients of gradients'):
        gradient.sum().backward()


@every_mode
def test_autocast_changes_nothing(mode):
    z, target = moments().float(), torch.rand(6, 4)
    loss = U1Loss(mode)
    expected = loss(z, target, POINTS)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(loss(z, target, POINTS), expected)
    assert expected.dtype == torch.float32
    assert loss(z.bfloat16(), target, POINTS).dtype == torch.float32


@every_mode
def test_a_zero_moment_is_harmless(mode):
    z = torch.zeros(2, 2, requires_grad=True)
    loss = U1Loss(mode)(z, torch.tensor([0, 1]), POINTS)
    loss.backward()
    assert loss.isfinite() and z.grad.isfinite().all()


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(loss_weight=-0.1), ('loss.loss_weight=-0.1', '>= 0')),
        (dict(loss_weight=math.nan), ('loss_weight=nan', '>= 0')),
        (dict(kappa=0), ('kappa=0', '> 0')),
        (dict(eps=0), ('eps=0', '>= 1e-30')),
        (dict(eps=math.inf), ('eps=inf', 'finite')),
        (dict(eps=1e31), ('eps=1e+31', '<= 1e+30')),
        (dict(kappa=1e308), ('kappa=1e+308', '<= 1e+30')),
        (dict(loss_weight=10**300), ('loss_weight=1', '<= 1e+30')),
        (dict(eps='1'), ("eps='1'", 'a finite number')),
        (dict(loss_weight=True), ('loss_weight=True', 'a finite number')),
        (dict(ignore_index=1.5), ('ignore_index=1.5', 'an integer')),
        (dict(mode='l1'), ("mode='l1'", 'cosine')),
        (dict(reduction='max'), ("reduction='max'", 'mean')),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises(ValueError) as caught:
        MODELS.build(dict(type='U1Loss', **options))
    assert all(word in str(caught.value) for word in words)


HARD = torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize(
    'target, words',
    [
        (torch.rand(6, 3), ('3 classes', 'num_classes=4')),
        (torch.full((6, 4), math.nan), ('scores', 'not finite')),
        (torch.full((6, 4), math.inf), ('scores', 'not finite')),
        (torch.full((6, 4), -0.5), ('scores', '-0.5', 'negative')),
        (torch.full((6, 4), -0.5).bfloat16(), ('-0.5', 'negative')),
        (torch.eye(6, 4).cfloat(), ('[6, 4]', '(N, K)')),
        (HARD.cfloat(), ('[6]', '(N,)')),
        (HARD - 1, ('labels -1..2', 'num_classes=4', '0..3')),
        (HARD + 1, ('labels 1..4', 'num_classes=4', '0..3')),
        (HARD[:5], ('5 images', 'maps of 6')),
        (HARD[:1], ('1 images', 'maps of 6')),
        (HARD.float(), ('torch.float32', 'whole numbers')),
        (HARD > 1, ('torch.bool', 'whole numbers')),
        (HARD.view(6, 1, 1), ('[6, 1, 1]', '(N,)')),
        ([0, 1], ('list', '(N,)')),
    ],
)
def test_targets_that_do_not_fit_are_refused(target, words):
    with pytest.raises(ValueError) as caught:
        U1Loss()(moments(), target, POINTS)
    assert all(word in str(caught.value) for word in words), caught.value


def test_classes_need_points():
    with pytest.raises(ValueError, match='class_points=None'):
        U1Loss()(moments(), HARD)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(moment=moments(6)[:, :1]), ('moment', '(6, 1)', '(N, 2)')),
        (dict(moment=moments(6)[0]), ('moment', '(2,)', '(N, 2)')),
        (dict(moment=moments(1)), ('6 images', 'maps of 1')),
        (dict(moment=moments(6)[:, None]), ('(6, 2)', '(6, 1, 2)')),
        (dict(class_points=POINTS.T), ('class_points', '(2, 4)', '(K, 2)')),
        (dict(weight=torch.ones(1)), ('weight', '(1,)', '6 moments')),
        (dict(weight=torch.ones(6, 1)), ('weight', '(6, 1)', '(N,)')),
        (dict(pixel_share=torch.ones(6, 2)), ('moment', '(6, 2)', 'pixel')),
        (dict(avg_factor=0), ('avg_factor=0', '> 0')),
        (dict(avg_factor=math.nan), ('avg_factor=nan', '> 0')),
        (dict(avg_factor=np.float32('nan')), ('avg_factor', 'nan', '> 0')),
        (dict(avg_factor='6'), ("avg_factor='6'", 'a Tensor')),
        (dict(avg_factor=True), ('avg_factor=True', 'a finite number > 0')),
        (dict(moment=None), ('moment', 'tensor', 'None')),
        (dict(moment=moments().cfloat()), ('moment', 'real', 'complex64')),
        (dict(weight=[1.0] * 6), ('weight', 'tensor', '[1.0, ')),
        (dict(weight=torch.ones(6).cfloat()), ('weight', 'complex64')),
        (dict(pixel_share=[1]), ('pixel_share', 'tensor', '[1]')),
        (dict(class_points=[[1, 0]]), ('class_points', 'tensor', '[[1, 0]]')),
        (dict(reduction_override=''), ("reduction_override=''", 'mean')),
    ],
)
def test_nothing_broadcasts(options, words):
    given_options = dict(moment=moments(), target=HARD, class_points=POINTS)
    with pytest.raises(ValueError) as caught:
        U1Loss()(**{**given_options, **options})
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize('images', [1, 5])
def test_a_pull_of_other_images_is_refused(images):
    pull = ClassTarget(HARD[:images]).pull(as_table(POINTS))
    with pytest.raises(ValueError, match=rf'\({images}, 2\).*\(6, 2\)'):
        U1Loss()(moments(), pull)
    pixels, share = torch.randn(6, 3, 2).double(), torch.ones(6, 2).double()
    with pytest.raises(ValueError, match=r'pixel_share.*\(6, 2\)'):
        U1Loss()(pixels, HARD, POINTS, pixel_share=share)


@pytest.mark.parametrize('dtype', [torch.uint8, torch.int8, torch.int32])
def test_labels_of_any_whole_type(dtype):
    expected = U1Loss()(moments(), HARD, POINTS)
    assert U1Loss()(moments(), HARD.to(dtype), POINTS) == expected


@every_mode
@pytest.mark.parametrize('scale', [1e-38, 1e-25, 1e19, 1e30, 1e38])
def test_moments_of_any_size_have_their_direction(mode, scale):
    z = moments().float() / 10
    z.requires_grad_()
    # Where the modulus is far from eps either way.
    loss = U1Loss(mode, eps=max(1e-30, 1e-8 * scale))
    value = loss((z * scale), HARD, POINTS)
    unit = torch.nn.functional.normalize(z.detach())
    expected = U1Loss(mode, eps=1e-8)(unit, HARD, POINTS)
    if scale > 1e-30:
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(value, z)
    assert slope.isfinite().all() and value.isfinite()


@every_mode
def test_numbers_of_numpy_are_numbers(mode):
    options = dict(loss_weight=0.5, kappa=2, eps=0.25, ignore_index=-1)
    kinds = (np.float32, np.int64, np.float64, np.int16)
    given_options = {
        name: kind(value) for (name, value), kind in zip(options.items(), kinds)
    }
    expected = U1Loss(mode, **options)(moments(), HARD, POINTS, avg_factor=4)
    found = U1Loss(mode, **given_options)(
        moments(), HARD, POINTS, avg_factor=np.int64(4)
    )
    assert torch.equal(found, expected)


@every_mode
@pytest.mark.parametrize('large', [2**64, 1e30])
def test_the_largest_weights_are_numbers_of_torch(mode, large):
    loss = U1Loss(mode, loss_weight=large, kappa=large, eps=large)
    assert not loss(moments().float(), HARD, POINTS.float()).isnan()
