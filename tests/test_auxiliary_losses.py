"""The U(1) loss's relatives and controls against their formulas."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from helpers import samples
from mmpretrain.registry import HOOKS, MODELS
from torch.nn.functional import cross_entropy, normalize

K, C, B = 5, 12, 8
LOSSES = ['CenterLoss', 'HypersphericalPrototypeLoss', 'RandomPlaneLoss']


def build(kind, **options) -> torch.nn.Module:
    config = dict(type=kind, num_classes=K, in_channels=C, loss_weight=1.0)
    return MODELS.build(dict(config, **options))


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(B, C, generator=generator)
    return vectors, torch.randint(K, (B,), generator=generator)


def test_center_loss_is_half_the_squared_distance():
    loss = build('CenterLoss').eval()
    vectors, labels = batch()
    loss.centers.copy_(torch.randn(K, C))
    expected = (vectors - loss.centers[labels]).square().sum(1).mean() / 2
    torch.testing.assert_close(loss(vectors, labels), expected)
    assert torch.equal(loss.centers, loss.centers.clone())


def test_centers_move_as_published():
    """Eq. 4, class by class."""
    loss = build('CenterLoss', rate=0.25)
    vectors, labels = batch()
    before = torch.randn(K, C)
    loss.centers.copy_(before)
    loss(vectors, labels)
    for label in range(K):
        own = vectors[labels == label]
        step = (own - before[label]).sum(0) / (1 + len(own))
        expected = before[label] + 0.25 * step
        torch.testing.assert_close(loss.centers[label], expected)


def test_prototypes_are_orthonormal_and_their_class_is_cheapest():
    loss = build('HypersphericalPrototypeLoss')
    gram = loss.prototypes @ loss.prototypes.T
    torch.testing.assert_close(gram, torch.eye(K), atol=1e-5, rtol=0)
    labels = torch.arange(K)
    assert loss(3 * loss.prototypes, labels) < 1e-10
    torch.testing.assert_close(
        loss(loss.prototypes, labels.roll(1)), torch.tensor(1.0)
    )
    crowded = build('HypersphericalPrototypeLoss', num_classes=40)
    assert torch.allclose(crowded.prototypes.norm(dim=1), torch.ones(40))


def test_random_plane_is_its_formula():
    loss = build('RandomPlaneLoss')
    vectors, labels = batch()
    found = normalize(vectors, dim=1) @ loss.rows.T
    expected = (found - loss.points[labels]).square().sum(1).mean()
    torch.testing.assert_close(loss(vectors, labels), expected)
    assert (loss.points.norm(dim=1) <= 1).all()
    # Not U(1)'s plane: more light changes it.
    assert loss.rows.sum(1).abs().min() > 1e-3


@pytest.mark.parametrize('kind', LOSSES)
def test_soft_targets_are_the_mean_over_classes(kind):
    loss = build(kind).eval()
    vectors, labels = batch()
    one_hot = torch.nn.functional.one_hot(labels, K)
    torch.testing.assert_close(loss(vectors, one_hot), loss(vectors, labels))
    mixed = 0.3 * one_hot + 0.7 * one_hot.roll(1, 1)
    expected = 0.3 * loss(vectors, labels)
    expected += 0.7 * loss(vectors, (labels + 1) % K)
    torch.testing.assert_close(loss(vectors, mixed), expected)


@pytest.mark.parametrize('kind', LOSSES)
def test_zero_vectors_have_finite_gradients(kind):
    vectors = torch.zeros(B, C, requires_grad=True)
    build(kind)(vectors, batch()[1]).backward()
    assert vectors.grad.isfinite().all()


@pytest.mark.parametrize('kind', LOSSES)
def test_global_random_state_is_left_alone(kind):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build(kind)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(loss_weight=-1.0), 'loss_weight=-1'),
        (dict(num_classes=0), 'num_classes=0'),
        (dict(rate=0.0), 'rate=0.0'),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build('CenterLoss', **options)
    with pytest.raises(ValueError, match=r'expected\s+\(B, 12\)'):
        build('CenterLoss')(torch.rand(B, 3), torch.zeros(B).long())


def head(**options) -> torch.nn.Module:
    torch.manual_seed(0)
    plain = dict(type='LinearClsHead', num_classes=10, in_channels=C)
    return MODELS.build(
        dict(type='AuxiliaryClsHead', cls_head=plain, **options)
    )


def test_head_adds_its_loss_and_changes_nothing_else():
    wrapped = head(loss_aux=dict(type='RandomPlaneLoss', loss_weight=0.5))
    assert [name for name, _ in wrapped.named_parameters()] == [
        'fc.weight',
        'fc.bias',
    ]
    feats = (torch.rand(4, C),)
    data_samples = samples(4)
    labels = torch.cat([s.gt_label for s in data_samples])
    losses = wrapped.loss(feats, data_samples)
    assert set(losses) == {'loss', 'loss_aux'}
    logits = wrapped.fc(feats[0])
    torch.testing.assert_close(losses['loss'], cross_entropy(logits, labels))
    expected = wrapped.loss_aux(feats[0], labels)
    torch.testing.assert_close(losses['loss_aux'], expected)
    assert torch.equal(wrapped(feats), logits)
    again = pickle.loads(pickle.dumps(wrapped))
    assert type(again) is type(wrapped) and torch.equal(again(feats), logits)


def test_head_needs_sizes_and_is_not_wrapped_twice():
    with pytest.raises(ValueError, match='no num_classes'):
        MODELS.build(
            dict(
                type='AuxiliaryClsHead',
                cls_head=dict(type='ClsHead'),
            )
        )
    with pytest.raises(TypeError, match='AuxiliaryClsHead already'):
        MODELS.build(
            dict(
                type='U1ClsHead',
                cls_head=dict(type='AuxiliaryClsHead', cls_head={}),
            )
        )


def runner(epoch=0):
    plain = dict(type='LinearClsHead', num_classes=10, in_channels=C)
    model = torch.nn.Module()
    model.head = MODELS.build(dict(type='U1ClsHead', cls_head=plain))
    return SimpleNamespace(model=model, epoch=epoch)


def test_angles_are_dealt_anew_and_alike_everywhere():
    hook = HOOKS.build(dict(type='PermuteAnglesHook', seed=1))
    first, second = runner(), runner()
    start = first.model.head.class_angles.angles.clone()
    seen = [start]
    for epoch in range(3):
        first.epoch = second.epoch = epoch
        hook.before_train_epoch(first)
        seen.append(first.model.head.class_angles.angles.clone())
        assert torch.equal(seen[-1].sort().values, start.sort().values)
        # A run resumed here goes on as the other.
        HOOKS.build(dict(type='PermuteAnglesHook', seed=1)).before_train_epoch(
            second
        )
        assert torch.equal(second.model.head.class_angles.angles, seen[-1])
    assert all(not torch.equal(a, b) for a, b in zip(seen, seen[1:]))
    first.model.head = torch.nn.Linear(2, 2)
    with pytest.raises(TypeError, match='model.head is Linear'):
        hook.before_train_epoch(first)
