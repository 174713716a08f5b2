"""U1Branch: its losses beside a plain network, and what it keeps."""

import copy
import pickle

import pytest
import torch
from helpers import build, images, samples, u1_config
from plain_network import K, labels, network, step
from torch import nn

from u1_plugin.nn import (
    BottleneckAngleNeck,
    ClassAngles,
    ClassTarget,
    U1Branch,
    U1Loss,
    base,
)
from u1_plugin.nn.base import ConstantCache


def test_the_loss_of_a_plain_network():
    model = network()
    branch = U1Branch(model, K)
    losses = step(model, branch)
    assert list(losses) == ['loss_u1']
    losses['loss_u1'].backward()
    assert (model.stem.weight.grad != 0).any()
    assert model.fc.weight.grad is None
    assert branch.sources[0].module == 'last'
    assert not list(branch.parameters())
    assert list(branch.state_dict()) == ['class_angles.angles']


def test_several_layers_and_planes_are_weighted():
    model = network()
    neck = dict(
        layers=['norm', 'last'], plane='joint', layer_weights=[0.3, 0.7]
    )
    losses = step(model, U1Branch(model, K, neck))
    parts = [
        losses[f'u1_{plane}_{layer}'] * weight / 2
        for layer, weight in (('norm', 0.3), ('last', 0.7))
        for plane in ('feature', 'image')
    ]
    assert len(losses) == 5
    torch.testing.assert_close(losses['loss_u1'], sum(parts))
    assert not any(part.requires_grad for part in parts)


def test_windings_are_the_mean_of_losses_of_one_winding():
    model = network()
    neck = dict(plane='joint', windings=(1, 3))
    branch = U1Branch(model, K, neck)
    losses, expected = step(model, branch), 0.0
    angles = branch.class_angles.angles
    for place, winding in enumerate((1, 3)):
        single = U1Branch(model, K, dict(plane='image', windings=(winding,)))
        single.class_angles.angles = angles[:, place].clone()
        expected += step(model, single)['loss_u1'] / 2
    torch.testing.assert_close(losses['u1_image_last'], expected)


@pytest.mark.parametrize('mode', ['cosine', 'von_mises', 'mse'])
def test_pixels_are_weighted_by_their_energy(mode):
    model, loss = network(), dict(mode=mode, loss_weight=0.3)
    branch = U1Branch(model, K, dict(of='pixel'), loss=loss)
    x = images(size=16)
    with torch.no_grad():
        a = model.last(model.norm(model.stem(x)).relu()).relu().double()
    model.norm.reset_running_stats()
    found = step(model, branch, x=x)['loss_u1']
    plain = U1Loss(reduction='none', **loss)
    neck = BottleneckAngleNeck()
    points = branch.class_angles()
    total = 0.0
    for image, label in enumerate(labels()):
        above = below = 0.0
        for row in a[image].flatten(1).T:  # a pixel as a map of its own
            (moment,) = neck((row.view(1, 12, 1, 1),))
            energy = row.square().sum()
            above += energy * plain(moment.value, label[None], points).item()
            below += energy
        total += above / below / 4
    torch.testing.assert_close(found.double(), total, atol=1e-6, rtol=1e-5)


def test_ignored_images_count_nothing():
    model = network().eval()
    branch = U1Branch(model, K)
    target = torch.tensor([3, -100, 4, -100])
    found = step(model, branch, target)['loss_u1']
    kept = step(model, branch, target[::2], images()[::2])['loss_u1']
    torch.testing.assert_close(found, kept)
    several = [torch.tensor([own]) for own in (3, 4)]
    none = torch.empty(0, dtype=torch.long)
    target = ClassTarget.several([several[0], none, several[1], none])
    torch.testing.assert_close(step(model, branch, target)['loss_u1'], kept)


def test_a_checkpointed_block_itself_trains():
    gradients = []
    for with_cp in (True, False):
        config = u1_config(neck=dict(layers='backbone.layer4'))
        config.backbone.with_cp = with_cp
        model = build(config).train()
        model.loss(images(), samples())['loss_u1'].backward()
        assert not model.u1.reading().outputs
        gradients.append(model.backbone.layer4[0].conv1.weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('windings', [(1,), (1, 2)])
@pytest.mark.parametrize('plane', ['feature', 'image', 'joint'])
def test_copies_and_inference_mode(plane, windings):
    model = network()
    neck = dict(plane=plane, windings=windings)
    both = nn.ModuleDict(dict(model=model, branch=U1Branch(model, K, neck)))
    with torch.inference_mode():  # fills every cache
        step(both.model, both.branch)
    both.model.norm.reset_running_stats()
    twins = [copy.deepcopy(both), pickle.loads(pickle.dumps(both))]
    expected = step(both.model, both.branch)['loss_u1']
    expected.backward()
    for twin in twins:
        assert twin.branch.reading() is not both.branch.reading()
        found = step(twin.model, twin.branch)['loss_u1']
        assert torch.equal(found, expected)
        found.backward()
        gradient = twin.model.stem.weight.grad
        assert torch.equal(gradient, both.model.stem.weight.grad)


def test_changed_class_angles_count_in_the_next_step():
    model = network().eval()
    branch, other = U1Branch(model, K), U1Branch(model, K)
    before = step(model, branch)['loss_u1']
    other.class_angles.angles.add_(1.0)
    branch.load_state_dict(other.state_dict())
    after = step(model, branch)['loss_u1']
    assert torch.equal(after, step(model, other)['loss_u1'])
    assert not torch.equal(after, before)


class Drawing(nn.Module):
    """Draws at random and counts, in evaluation too."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        return x + torch.rand_like(x)


def test_building_leaves_no_trace():
    model = network(Drawing())
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    U1Branch(model, K, dict(feature_plane=dict(basis='learned')))
    assert torch.equal(torch.get_rng_state(), state)
    assert model.extra.calls == 0
    assert all(module.training for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize('mode', [True, False])
def test_the_mode_of_the_branch_is_that_of_its_parts(mode):
    branch = U1Branch(network(), K)
    for module in (branch, branch.class_angles):
        assert module.train(mode) is module
        assert all(part.training == mode for part in module.modules())


def test_caches_are_no_part_of_pickles():
    model = network()
    branch = U1Branch(model, K, dict(plane='joint'))
    parts = (branch.neck, branch.class_angles, branch.loss)
    before = [len(pickle.dumps(part)) for part in parts]
    step(model, branch)
    for part, size in zip(parts, before):  # but for the digits of a number
        assert abs(len(pickle.dumps(part)) - size) < 16


def test_parts_may_be_modules_classes_and_names():
    parts = (ClassAngles(K, 'uniform'), U1Loss('mse'))
    branch = U1Branch(network(), None, None, *parts)
    assert (branch.class_angles, branch.loss) == parts
    for kind in (U1Loss, 'U1Loss'):
        built = U1Branch(network(), K, loss=dict(type=kind, mode='mse'))
        assert built.loss.mode == 'mse'


class Other(U1Loss):
    """What a registry may hold."""


def test_names_are_looked_up_in_every_registry(monkeypatch):
    def empty(name):
        return None

    def failing(name):
        raise KeyError(name)

    resolvers = [empty, failing, dict(Other=Other).get]
    for order in (resolvers, resolvers[::-1]):
        monkeypatch.setattr(base, 'RESOLVERS', order)
        found = base.build('u1.loss', dict(type='Other', kappa=3.0), U1Loss)
        assert type(found) is Other and found.kappa == 3
    with pytest.raises(ValueError, match="u1.loss.type='None'") as caught:
        base.build('u1.loss', dict(type='None'), U1Loss)
    assert isinstance(caught.value.__cause__, KeyError)
    # A registry is asked for names alone.
    monkeypatch.setattr(base, 'RESOLVERS', [lambda kind: Other])
    with pytest.raises(ValueError, match='u1.loss.type=3 is not known'):
        base.build('u1.loss', dict(type=3), U1Loss)


def test_the_default_needs_no_registry(monkeypatch):
    monkeypatch.setattr(base, 'RESOLVERS', [])
    for kind in (dict(), dict(type='U1Loss'), None):
        assert type(base.build('u1.loss', kind, U1Loss)) is U1Loss


def test_the_config_overrules_what_its_owner_says():
    found = base.build('loss', dict(kappa=3.0), U1Loss, kappa=2.0, eps=0.5)
    assert (found.kappa, found.eps) == (3.0, 0.5)


def test_a_cache_lets_the_oldest_go():
    cache, like = ConstantCache(), torch.zeros(1)
    made = []

    def get(key: int) -> torch.Tensor:
        def make(dtype, device):
            made.append(key)
            return torch.tensor(float(key), dtype=dtype, device=device)

        return cache.get(key, like, make)

    for key in range(32):
        assert get(key) == key
    assert get(0) is get(0) and made == list(range(32))
    get(32)  # takes the place of 0
    assert get(1) == 1 and made == list(range(33))
    assert get(0) == 0 and made == [*range(33), 0]
    assert get(2) == 2 and get(1) == 1 and made == [*range(33), 0, 1]


def test_angles_keep_32_bits_and_are_converted_above():
    branch = U1Branch(network(), K, dict(feature_plane=dict(basis='learned')))
    before = branch.class_angles.angles.clone()
    for convert in (nn.Module.half, nn.Module.bfloat16, nn.Module.float):
        convert(branch)
        assert torch.equal(branch.class_angles.angles, before)
        assert {p.dtype for p in branch.parameters()} == {torch.float32}
    assert branch.double().class_angles.angles.dtype == torch.float64
    assert torch.equal(branch.float().class_angles.angles, before)
    assert {p.dtype for p in branch.parameters()} == {torch.float32}


def test_the_loss_is_computed_in_float32_even_inside_autocast():
    model, found = network().eval(), []
    branch = U1Branch(model, K, dict(plane='joint'))
    shares = torch.rand(4, K).softmax(1)
    for inside in (False, True):
        with branch.reading():
            model(images())
        with torch.autocast('cpu', torch.bfloat16, enabled=inside):
            found.append(branch(shares)['loss_u1'])
    assert torch.equal(*found)


def test_angles_of_a_checkpoint_that_are_others_are_spoken_of(messages):
    angles = ClassAngles(5, seed=1)
    for same in (angles.state_dict(), {}):
        angles.load_state_dict(same)
        angles.double().load_state_dict(same)
    assert not messages
    angles.load_state_dict(ClassAngles(5, seed=2).state_dict())
    with pytest.raises(RuntimeError, match='size mismatch for angles'):
        angles.load_state_dict(ClassAngles(6).state_dict())
    first, second = messages
    assert 'The checkpoint wins' in first
    assert '(6,), this model (5,). They are not loaded' in second
