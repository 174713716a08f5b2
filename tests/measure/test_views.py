"""What the probe takes from outside: views, labels and names of options."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from u1_plugin.measure.probe_options import class_labels, written_as
from u1_plugin.measure.views import PlainView, is_augmented


class Views(nn.Module):
    """A network that is asked for a view at a time, and tells which."""

    def __init__(self):
        super().__init__()
        self.latest = 0

    def forward(self, view, data_samples=None):
        self.latest = view

    def maps(self):
        return {'layer': self.latest}


def mirrored(*flips):
    """Samples of views; of an image that nothing flips, none says so."""
    infos = [dict(flip=True) if flip else {} for flip in flips]
    return [SimpleNamespace(metainfo=info) for info in infos]


def test_of_several_views_the_first_plain_one_is_kept():
    network = Views()
    view = PlainView(network)
    PlainView(network).detach()  # of nothing
    view.attach(network)
    for batch in (10, 20):
        network(batch + 1, data_samples=mirrored(False, True))
        network(batch + 2, data_samples=mirrored(False, False))
        network(batch + 3, data_samples=mirrored(False, False))
        assert view.maps() == view.maps() == {'layer': batch + 2}
    network(31, data_samples=mirrored(True, False))
    with pytest.raises(ValueError, match='mirrors an image'):
        view.maps()
    network(41)  # without samples nothing is mirrored
    assert view.maps() == {'layer': 41}
    network(51)
    view.end_batch()  # nobody read it
    network(61)
    assert view.maps() == {'layer': 61}
    network(71)
    view.detach()
    assert not network._forward_hooks
    view.attach(network)
    network(81)
    assert view.maps() == {'layer': 81}  # and no view of before
    view.detach()
    network(91)
    with pytest.raises(ValueError, match='mirrors an image'):
        view.maps()


def test_views_are_those_of_a_wrapper():
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    class Augmented(Wrapper):
        def merge_preds(self):
            pass

    network = nn.Sequential(Augmented(nn.Identity()), nn.Identity())
    assert is_augmented(network) is is_augmented(Wrapper(network)) is False
    assert is_augmented(Augmented(network)) is True
    assert is_augmented(Wrapper(Augmented(Wrapper(network)))) is True


def test_labels_of_samples_are_one_each():
    assert class_labels([]).shape == (0,)
    found = class_labels(
        [dict(gt_label=torch.tensor([3])), dict(gt_label=torch.tensor(1).int())]
    )
    assert found.tolist() == [3, 1]
    assert found.dtype == class_labels([]).dtype == torch.int64


def test_errors_name_what_was_written():
    with pytest.raises(ValueError, match='^--layers and --x$') as caught:
        with written_as({'u1.layers': '--layers', 'u1.x': '--x'}):
            raise ValueError('u1.layers and u1.x')
    assert str(caught.value.__cause__) == 'u1.layers and u1.x'
    other = ValueError('another')
    with pytest.raises(ValueError) as caught, written_as({'u1': '--'}):
        raise other
    assert caught.value is other
