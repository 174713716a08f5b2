"""Which map is read of an output of several."""

import pytest
import torch
from helpers import images
from plain_network import network
from torch import nn

from u1_plugin.nn import MapReader


class Returning(nn.Module):
    """What a test asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.make = lambda x: (x, 2 * x)

    def forward(self, x):
        return self.make(x)


@pytest.mark.parametrize(
    'make, factor',
    [
        (lambda x: (x, 2 * x), 2),
        (lambda x: [x.mean((2, 3)), x, 3 * x], 3),
        (lambda x: 5 * x, 5),
        (lambda x: (7 * x, x.mean((2, 3))), 7),
        (lambda x: (x, 8 * x, x.mean((2, 3)), None), 8),
    ],
)
def test_the_last_map_of_an_output_is_read(make, factor):
    model = network(Returning()).eval()
    model.extra.make = make
    reader = MapReader(model, ['extra'])
    with reader:
        model(images())
    (found,) = reader.maps()
    with torch.no_grad():
        expected = model.norm(model.stem(images())).relu()
    assert torch.equal(found, factor * expected)


@pytest.mark.parametrize(
    'tried, trained, wanted',
    [
        (lambda x: x, lambda x: (x, 2 * x), 'a tensor.*2 tensors, but 1'),
        (lambda x: (x, 2 * x), lambda x: (x, 2 * x, x), '3 tensors, but 2'),
        (lambda x: (x, 2 * x), lambda x: 5 * x, 5),
        (lambda x: 3 * x, lambda x: (3 * x, x.mean((2, 3))), 3),
        (lambda x: (x, 2 * x), lambda x: (4 * x, 7 * x), 7),
    ],
)
def test_more_maps_in_training_than_when_it_was_tried(tried, trained, wanted):
    model = network(Returning()).eval()
    model.extra.make = tried
    reader = MapReader(model, ['extra'])
    model.extra.make = trained
    with reader:
        model(images())
    if isinstance(wanted, str):
        with pytest.raises(ValueError, match=f"'extra' gives .*{wanted}"):
            reader.maps()
        return
    with torch.no_grad():
        expected = model.norm(model.stem(images())).relu()
    assert torch.equal(reader.maps()[0], wanted * expected)


class Changing(nn.Module):
    """Changes one of a module's two maps in place, later on."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = Returning()
        self.maps.make = lambda x: (x + 1, 2 * x)
        self.place = None

    def forward(self, x):
        found = self.maps(x)
        if self.place is not None:
            found[self.place].add_(1)


@pytest.mark.parametrize('place', [None, 0, 1])
def test_only_a_change_of_the_map_that_is_read_matters(place):
    model = network(Changing()).eval()
    reader = MapReader(model, ['extra.maps'])
    found = []
    for own in (None, None, place):  # a copy is read in the first pass alone
        model.extra.place = own
        with reader:
            model(images())
        if own != 1:
            found.append(reader.maps()[0])
    if place == 1:
        with pytest.raises(ValueError, match="'extra.maps' was changed in pl"):
            reader.maps()
    assert all(torch.equal(a, found[0]) for a in found)


def test_hooks_of_others_stay():
    model, calls = network().eval(), []
    reader = MapReader(model, ['last'])
    first, second = model.last, nn.Conv2d(8, 12, 3)
    for module in (first, second):
        module.register_forward_hook(lambda *args: calls.append(args))
    reader.attach()
    model.last = second
    reader.attach()  # again, since a module has been replaced
    assert (len(first._forward_hooks), len(second._forward_hooks)) == (1, 2)
    reader.detach()
    model(images())
    assert len(calls) == 1 and not reader.outputs
