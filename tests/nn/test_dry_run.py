"""What a trial run on blank images sees, and that it leaves no trace."""

import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from u1_plugin.nn import find_maps
from u1_plugin.nn.dry_run import count_logits, dry_run, named_size

#: In the order in which they are tried.
SIDES = (224, 32, 28, 64, 96, 112, 128, 160, 192, 256, 299, 320, 384, 448, 512)


class Picky(nn.Module):
    """Takes images of one shape, and notes what it is given."""

    def __init__(self, *wanted: int, channels: int = 3) -> None:
        super().__init__()
        self.wanted, self.given = wanted, []
        self.conv = nn.Conv2d(channels, 4, 3, stride=4)
        self.fc = nn.Linear(4, 7)

    def forward(self, images):
        self.__dict__['given'].append(tuple(images.shape))
        if images.shape[1:] != self.wanted:
            raise RuntimeError(f'not {self.wanted}')
        return self.fc(
            self.conv(images[:, : self.conv.in_channels]).mean((2, 3))
        )


def given_to(model: nn.Module, **options) -> list:
    """Shapes of the images on which a network was tried."""
    given = model.given
    try:
        dry_run(model, **options)
    except ValueError:
        pass
    return given


def test_sides_are_tried_in_turn():
    model = Picky()
    given = given_to(model)
    assert given == [(2, 3, side, side) for side in SIDES]
    with pytest.raises(ValueError, match=r'Picky cannot.*RuntimeError: not \('):
        dry_run(model)
    assert given_to(Picky(), sides=(5, 6)) == [(2, 3, 5, 5), (2, 3, 6, 6)]


@pytest.mark.parametrize('side', [224, 28, 512])
def test_the_first_size_that_it_takes_is_the_trials(side):
    assert dry_run(Picky(3, side, side)).size == (side, side)


def test_images_have_the_stems_channels_or_three():
    model = Picky(channels=12)
    assert given_to(model)[:4] == [
        (2, channels, side, side) for side in (224, 32) for channels in (12, 3)
    ]
    model.conv = nn.Flatten()
    model.given.clear()
    assert {shape[1] for shape in given_to(model)} == {3}


@pytest.mark.parametrize(
    'attributes',
    [
        dict(img_size=(40, 48)),
        dict(img_size=[40, 48]),
        dict(input_size=(40, 48)),
        dict(
            input_size=(3, 9, 9), patch_embed=SimpleNamespace(img_size=(40, 48))
        ),
        dict(
            img_size=(0, 9),
            patch_embed=SimpleNamespace(init_input_size=(40, 48)),
        ),
        dict(config=SimpleNamespace(image_size=(40, 48))),
        dict(default_cfg=dict(fixed_input_size=True, input_size=(3, 40, 48))),
    ],
)
def test_a_network_may_name_its_size(attributes):
    model = Picky(3, 40, 48)
    for name, value in attributes.items():
        setattr(model, name, value)
    assert named_size(model)
    assert given_to(model) == [(2, 3, 40, 48)]
    for name in ('backbone', 'model'):  # or the network inside of it does
        parent = nn.Module()
        parent.add_module(name, model)
        parent.forward = model.forward
        assert named_size(parent) and dry_run(parent).size == (40, 48)


def test_a_number_is_the_side_of_a_square():
    model = Picky()
    model.img_size = 40
    assert given_to(model) == [(2, 3, 40, 40)]
    del model.img_size
    model.input_size = 3  # of channels, as some networks say
    assert named_size(model) is None


def test_a_size_that_is_not_fixed_is_none():
    model = Picky(3, 224, 224)
    assert not named_size(model)
    model.default_cfg = dict(fixed_input_size=False, input_size=(3, 40, 48))
    model.input_size = (3, 40, 48)
    assert not named_size(model)
    assert dry_run(model).size == (224, 224)


class ClassAttention(nn.Identity):
    """As in CaiT: tokens are no map from there on."""


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 8, stride=8)
        self.inner = nn.ModuleDict(dict(linear=nn.Linear(28, 28)))
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(4)
        self.pool = ClassAttention()
        self.late = nn.ReLU()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        self.kept = images
        x = self.norm(self.drop(self.inner['linear'](self.stem(images))))
        return self.late(self.pool(x * torch.rand(())))


def test_what_a_trial_sees():
    trial = dry_run(Blocks())
    found = {one.name: one.automatic for one in trial.outputs}
    assert found == {
        'stem': True,
        'inner.linear': False,
        'drop': False,
        'norm': True,
        'pool': False,
        'late': False,
    }
    assert [one.name for one in trial.outputs] == list(found)
    for one in trial.outputs:
        (part,) = one.parts
        assert part.value.shape == (2, 4, 28, 28)
        assert part.value.device.type == 'meta'


def test_a_trial_that_failed_before_leaves_nothing():
    class Late(Blocks):
        def forward(self, images):
            x = super().forward(images)
            if images.shape[-1] != 32:
                raise RuntimeError('too late')
            return x

    model = Late()
    model.inner['linear'] = nn.Identity()
    trial = dry_run(model)
    assert trial.size == (32, 32)
    names = [one.name for one in trial.outputs]
    assert len(names) == len(set(names)) == 6
    assert trial.outputs[0].automatic  # the pool of the first try is forgotten


@pytest.mark.parametrize('call', [dry_run, count_logits])
def test_a_trial_leaves_no_trace(call):
    model = Blocks()
    model.late.eval()
    state = torch.get_rng_state()
    before = copy.deepcopy(model.state_dict())
    call(model)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.calls == 0 and not hasattr(model, 'kept')
    assert [m.training for m in model.children()] == [True] * 5 + [False]
    assert model.training and torch.is_grad_enabled()
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_pre_hooks for module in model.modules())


class Logits(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, images):
        assert not (self.training or torch.is_grad_enabled())
        return self.make(len(images))


@pytest.mark.parametrize(
    'make, count',
    [
        (lambda n: torch.rand(n, 7), 7),
        (lambda n: (torch.rand(n, 7), torch.rand(n, 7)), 7),
        (lambda n: (torch.rand(n, 7), torch.rand(n, 6)), None),
        (lambda n: (torch.rand(n, 7), torch.rand(n, 7, 1)), None),
        (lambda n: torch.rand(n, 7, 1, 1), None),
        (lambda n: torch.rand(n), None),
        (lambda n: torch.rand(n + 1, 7), None),
        (lambda n: None, None),
        (lambda n: 1 / 0, None),
    ],
)
def test_logits_are_counted(make, count):
    assert count_logits(Logits(make)) == count


class Extracting(nn.Module):
    """Its head does not run in a trial."""

    def __init__(self, name: str, extracts: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.head = nn.Flatten()
        self.extracts = extracts
        setattr(self, name, self.extract)

    def extract(self, images):
        if not self.extracts:
            raise NotImplementedError
        return self.conv(images)

    def forward(self, images):
        return self.head(self.conv(images))


@pytest.mark.parametrize('extracts', [True, False])
@pytest.mark.parametrize('name', ['extract_feat', 'forward_features'])
def test_of_the_head_as_little_as_can_be(name, extracts):
    seen = [one.name for one in dry_run(Extracting(name, extracts)).outputs]
    assert seen == (['conv'] if extracts else ['conv', 'head'])


class Masked(nn.Module):
    """Its feature extractor takes more than images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 10)

    def forward_features(self, images, mask):
        return self.conv(images)

    def forward(self, images):
        return self.fc(self.forward_features(images, None).mean((2, 3)))


def test_a_feature_extractor_of_more_arguments_is_no_obstacle():
    (source,) = find_maps(Masked(), 'auto')
    assert source.module == 'conv'
