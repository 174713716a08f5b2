"""How the branch reads a network that goes on with its map."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from u1_plugin.geometry import direction, weighted_mean
from u1_plugin.nn import BottleneckAngleNeck, MapReader, U1Branch


class Overwriting(nn.Module):
    """Changes its map in place after the layer, as torchvision's DenseNet."""

    overwrites = True

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.features(images)
        maps = F.relu(maps, inplace=self.overwrites)
        return self.head(maps.mean((2, 3)))


def images(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 8, 8, generator=generator)


def network(seed: int = 0) -> Overwriting:
    torch.manual_seed(seed)
    return Overwriting()


LABELS = torch.tensor([0, 4, 2, 1])


def step(model: nn.Module, branch: U1Branch) -> torch.Tensor:
    with branch.reading():
        model(images())
    return branch(LABELS)['loss_u1']


def test_a_map_changed_in_place_is_read_as_it_was():
    """In the first pass and in later ones, with its gradient."""
    found = []
    for overwrites in (False, True):
        model = network()
        model.overwrites = overwrites
        branch = U1Branch(model, 5, neck=dict(orthant='identity'))
        for _ in range(3):
            loss = step(model, branch)
            (gradient,) = torch.autograd.grad(loss, model.features.weight)
            found.append((loss, gradient))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0])
        torch.testing.assert_close(gradient, found[0][1])


def test_a_map_changed_in_place_later_on_is_refused():
    model = network()
    model.overwrites = False
    branch = U1Branch(model, 5)
    step(model, branch)
    model.overwrites = True
    with pytest.raises(ValueError, match="'features' was changed in place"):
        step(model, branch)


def hooks_of(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def test_a_refused_branch_leaves_no_hook():
    model = network()
    for options in (
        dict(neck=dict(plane='none')),
        dict(loss=dict(mode='none')),
        dict(class_angles=dict(num_classes=3)),
    ):
        with pytest.raises(ValueError):
            U1Branch(model, 5, **options)
    assert hooks_of(model) == 0


def test_a_detached_network_is_as_before():
    model = network()
    branch = U1Branch(model, 5)
    assert hooks_of(model) == 1
    before = step(model, branch)
    branch.detach()
    assert hooks_of(model) == 0
    model.overwrites = False
    torch.jit.script(model.features)
    pickle.loads(pickle.dumps(model.features))
    model.overwrites = True
    assert torch.equal(step(model, branch), before)  # reading hooks it again


def test_a_network_is_copied_between_its_pass_and_the_loss():
    model = network()
    branch = U1Branch(model, 5)
    with branch.reading():
        model(images())
    twin = copy.deepcopy(model)
    assert torch.isfinite(branch(LABELS)['loss_u1'])
    twin(images())


def test_a_fake_step_leaves_nothing_behind():
    maps = [torch.rand(4, 8, 8, 8)]
    options = dict(in_channels=8, plane='joint', layers=[-1])
    expected = [m.value for m in BottleneckAngleNeck(**options)(maps)]
    neck = BottleneckAngleNeck(**options)
    with FakeTensorMode() as mode:
        neck([mode.from_tensor(torch.zeros(4, 8, 8, 8))])
    for moment, value in zip(neck(maps), expected):
        assert torch.equal(moment.value, value)


@pytest.mark.parametrize('what', ['direction', 'weighted mean'])
def test_gradients_inside_autocast_are_those_outside(what):
    gradients = []
    for inside in (False, True):
        generator = torch.Generator().manual_seed(1)
        value = torch.rand(4, 49, generator=generator).requires_grad_()
        if what == 'direction':
            found = direction(value, 1e-3)
        else:
            points = torch.rand(
                49, 3, generator=torch.Generator().manual_seed(2)
            )
            found = weighted_mean(value, points)
        total = (found * torch.arange(found.numel()).view_as(found)).sum()
        with torch.autocast('cpu', torch.bfloat16, enabled=inside):
            total.backward()
        gradients.append(value.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize('overwrites', [False, True])
def test_every_pass_inside_a_block_is_read_anew(overwrites):
    model = network()
    model.overwrites = overwrites
    with torch.no_grad(), MapReader(model, ['features']) as reader:
        for seed in range(3):
            model(images(seed))
            (activation,) = reader.maps()
            assert torch.equal(activation, model.features(images(seed)))


def test_a_reader_without_hooks_hooks_itself():
    model = network()
    reader = MapReader(model, ['features'])
    assert hooks_of(model) == 0
    with reader:
        model(images())
    (activation,) = reader.maps()
    assert activation.shape == (4, 8, 8, 8) and activation.min() < 0


class Tokens(nn.Module):
    """Linear patches: nothing tells the grid of its tokens."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.img_size = (height, width)
        self.embed = nn.Linear(3 * 16 * 16, 12)
        self.norm = nn.LayerNorm(12)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = F.unfold(images, 16, stride=16).transpose(1, 2)
        return self.norm(self.embed(patches)).mean(1)


def test_tokens_of_no_known_grid_are_a_square_only_of_square_images():
    (source,) = MapReader(Tokens(64, 64)).sources
    assert source.shape == (12, 4, 4) and 'of a square' in str(source)
    with pytest.raises(ValueError, match='token_grid.*norm'):
        MapReader(Tokens(64, 256))
