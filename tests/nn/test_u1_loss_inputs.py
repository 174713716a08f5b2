"""U1Loss names the options and targets that it refuses."""

import math

import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from u1_losses import POINTS, every_mode, moments

from u1_plugin.nn import ClassTarget, U1Loss
from u1_plugin.nn.targets import as_table


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
        (torch.eye(6, 4).cfloat(), ('[6, 4]', '(B, K)')),
        (HARD.cfloat(), ('[6]', '(B,)')),
        (HARD - 1, ('labels -1..2', 'num_classes=4', '0..3')),
        (HARD + 1, ('labels 1..4', 'num_classes=4', '0..3')),
        (HARD[:5], ('5 images', 'maps of 6')),
        (HARD[:1], ('1 images', 'maps of 6')),
        (HARD.float(), ('torch.float32', 'whole numbers')),
        (HARD > 1, ('torch.bool', 'whole numbers')),
        (HARD.view(6, 1, 1), ('[6, 1, 1]', '(B,)')),
        ([0, 1], ('list', '(B,)')),
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
        (dict(moment=moments(6)[:, :1]), ('moment', '(6, 1)', '(B, 2)')),
        (dict(moment=moments(6)[0]), ('moment', '(2,)', '(B, 2)')),
        (dict(moment=moments(1)), ('6 images', 'maps of 1')),
        (dict(moment=moments(6)[:, None]), ('(6, 2)', '(6, 1, 2)')),
        (dict(class_points=POINTS.T), ('class_points', '(2, 4)', '(K, 2)')),
        (dict(weight=torch.ones(1)), ('weight', '(1,)', '6 moments')),
        (dict(weight=torch.ones(6, 1)), ('weight', '(6, 1)', '(B,)')),
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
