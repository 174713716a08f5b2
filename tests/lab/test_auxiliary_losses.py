"""The U(1) loss's relatives and controls against their formulas."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from helpers import build as build_model
from helpers import images, plain_config, samples, u1_config
from mmengine.logging import MessageHub
from mmpretrain.registry import HOOKS, MODELS
from torch.nn.functional import normalize

import u1_plugin.lab  # noqa: F401  (registers the losses)

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


def classifier(head=None, **auxiliary) -> torch.nn.Module:
    config = plain_config(head)
    config.update(type='AuxiliaryImageClassifier', auxiliary=auxiliary)
    return build_model(config)


@pytest.mark.parametrize('kind', LOSSES)
def test_classifier_adds_its_loss_and_changes_nothing_else(kind):
    model = classifier(type=kind, loss_weight=0.5)
    plain = build_model(plain_config())
    names = [name for name, _ in plain.named_parameters()]
    assert [name for name, _ in model.named_parameters()] == names
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    data_samples = samples(4)
    labels = torch.cat([s.gt_label for s in data_samples])
    reference = plain.loss(images(4), data_samples)
    losses = model.loss(images(4), data_samples)
    assert set(losses) == {'loss', 'loss_aux'}
    assert torch.equal(losses['loss'], reference['loss'])
    model.eval(), plain.eval()
    assert torch.equal(model(images(4)), plain(images(4)))
    vectors = model.extract_feat(images(4))[0]
    expected = model.auxiliary(vectors, labels)
    found = model.loss(images(4), data_samples)['loss_aux']
    torch.testing.assert_close(found, expected)
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(images(4)), plain(images(4)))


def test_classifier_needs_sizes():
    with pytest.raises(ValueError, match='model.head=ClsHead has no num_cl'):
        classifier(dict(type='ClsHead'), type='CenterLoss')


def runner(epoch=0, model=None):
    """With a hub of its own, as every run has."""
    hub = MessageHub.get_instance(f'run {len(MessageHub._instance_dict)}')
    model = build_model(u1_config()) if model is None else model
    return SimpleNamespace(
        model=model, epoch=epoch, message_hub=hub, train_loop=None
    )


def test_angles_are_dealt_anew_and_alike_everywhere():
    hook = HOOKS.build(dict(type='PermuteAnglesHook', seed=1))
    first, second = runner(), runner()
    start = first.model.u1.class_angles.angles.clone()
    seen = [start]
    for epoch in range(3):
        first.epoch = second.epoch = epoch
        hook.before_train_epoch(first)
        seen.append(first.model.u1.class_angles.angles.clone())
        assert torch.equal(seen[-1].sort().values, start.sort().values)
        # A run resumed here goes on as the other.
        HOOKS.build(dict(type='PermuteAnglesHook', seed=1)).before_train_epoch(
            second
        )
        assert torch.equal(second.model.u1.class_angles.angles, seen[-1])
        # One that went on within the epoch has been dealt its angles.
        hook.before_train_epoch(second)
        assert torch.equal(second.model.u1.class_angles.angles, seen[-1])
    hook.after_train(second)
    hook.before_train_epoch(second)
    assert not torch.equal(second.model.u1.class_angles.angles, seen[-1])
    assert all(not torch.equal(a, b) for a, b in zip(seen, seen[1:]))
    first.model = build_model(plain_config())
    with pytest.raises(ValueError, match="model.type='ImageClassifier' has no"):
        hook.before_train_epoch(first)


def test_a_permutation_moves_all_windings_of_a_class():
    model = build_model(u1_config(neck=dict(windings=(1, 2))))
    angles = model.u1.class_angles.angles
    rows = {tuple(row) for row in angles.tolist()}
    before = angles.clone()
    hook = HOOKS.build(dict(type='PermuteAnglesHook'))
    hook.before_train_epoch(runner(model=model))
    assert {tuple(row) for row in angles.tolist()} == rows
    assert not torch.equal(angles, before)


def test_sphere_targets_on_a_circle_are_a_u1_loss_with_a_random_plane():
    loss = build('SphereTargetLoss', dimension=2)
    vectors, labels = batch()
    moment = vectors @ loss.rows.T
    theta = torch.atan2(moment[:, 1], moment[:, 0])
    wanted = torch.atan2(loss.targets[:, 1], loss.targets[:, 0])[labels]
    expected = (1 - torch.cos(theta - wanted)).mean()
    torch.testing.assert_close(loss(vectors, labels), expected)


@pytest.mark.parametrize('dimension', [2, 3, K - 1, 8])
def test_sphere_targets_lie_off_the_medial_vector(dimension):
    loss = build('SphereTargetLoss', dimension=dimension)
    gram = loss.rows @ loss.rows.T
    torch.testing.assert_close(gram, torch.eye(dimension), atol=1e-6, rtol=0)
    assert loss.rows.sum(1).abs().max() < 1e-6
    assert loss.targets.shape == (K, dimension)
    torch.testing.assert_close(loss.targets.norm(dim=1), torch.ones(K))
    vectors, labels = batch()
    moved = 3 * vectors + 7
    torch.testing.assert_close(loss(vectors, labels), loss(moved, labels))
    reached = loss.targets @ loss.rows
    assert loss(reached, torch.arange(K)).abs() < 1e-6


def test_targets_of_k_less_one_dimensions_are_a_simplex():
    targets = build('SphereTargetLoss', dimension=None).targets
    same = build('SphereTargetLoss', dimension=K - 1).targets
    torch.testing.assert_close(targets, same, atol=0, rtol=0)
    cosine = (targets @ targets.T)[~torch.eye(K, dtype=bool)]
    torch.testing.assert_close(cosine, torch.full((K * (K - 1),), -1 / (K - 1)))


def test_superclasses_are_even_and_their_entropy_is_torchs():
    loss = build('SuperclassLoss', superclasses=3)
    assert sorted(torch.bincount(loss.group).tolist()) == [1, 2, 2]
    vectors, labels = batch()
    logits = vectors @ loss.weight.T + loss.bias
    expected = torch.nn.functional.cross_entropy(logits, loss.group[labels])
    torch.testing.assert_close(loss(vectors, labels), expected)
    assert [n for n, _ in loss.named_parameters()] == ['weight', 'bias']
    other = build('SuperclassLoss', superclasses=3, seed=1)
    assert not torch.equal(other.weight, loss.weight)


def test_orthogonal_projection_pair_by_pair():
    loss = build('OrthogonalProjectionLoss', gamma=0.7)
    vectors, labels = batch()
    unit = normalize(vectors, dim=1)
    same, other = [], []
    for i in range(B):
        for j in range(B):
            if i != j:
                pairs = same if labels[i] == labels[j] else other
                pairs.append(unit[i] @ unit[j])
    expected = 1 - sum(same) / len(same) + 0.7 * abs(sum(other) / len(other))
    torch.testing.assert_close(loss(vectors, labels), expected)
    scores = torch.nn.functional.one_hot(labels, K).float()
    torch.testing.assert_close(loss(vectors, scores), expected)
    alone = loss(vectors[:2], torch.tensor([0, 1]))  # no pair of a class
    torch.testing.assert_close(alone, 0.7 * (unit[0] @ unit[1]).abs())
    assert loss(vectors[:1], labels[:1]) == 0


def test_the_simplex_head_is_a_linear_layer_and_a_fixed_simplex():
    head = MODELS.build(
        dict(type='SimplexClsHead', num_classes=K, in_channels=C, radius=2.0)
    )
    gram = head.corners @ head.corners.T / 4
    expected = torch.full((K, K), -1 / (K - 1)).fill_diagonal_(1.0)
    torch.testing.assert_close(gram, expected)
    vectors, _ = batch()
    found = head((vectors,))
    torch.testing.assert_close(found, head.projection(vectors) @ head.corners.T)
    assert head.projection.weight.shape == (K - 1, C)
    assert 'corners' not in head.state_dict()


@pytest.mark.parametrize(
    'options',
    [
        dict(type='SphereTargetLoss', dimension=1),
        dict(type='SphereTargetLoss', dimension=C),
        dict(type='SuperclassLoss', superclasses=1),
        dict(type='SuperclassLoss', superclasses=K + 1),
        dict(type='OrthogonalProjectionLoss', gamma=-1),
        dict(type='SimplexClsHead', radius=0),
    ],
)
def test_controls_refuse_what_they_cannot_do(options):
    (field,) = set(options) - {'type'}
    config = dict(options, num_classes=K, in_channels=C)
    with pytest.raises(ValueError, match=f'{field}={options[field]}'):
        MODELS.build(config)
