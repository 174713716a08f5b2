"""U1Loss equals its closed forms, in value and in gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmpretrain.registry import MODELS
from scipy import integrate
from u1_losses import ANGLES, POINTS, every_mode, moments

from u1_plugin.nn import ClassTarget, U1Loss


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
