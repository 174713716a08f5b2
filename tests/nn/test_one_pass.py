"""A block is of one forward pass, in training and in evaluation."""

import copy
import pickle

import pytest
import torch
from torch import nn

from u1_plugin.nn import MapCollector, U1Branch


def network(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        *more,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 4),
    )


def branch_of(net: nn.Module, layer: str = '1') -> U1Branch:
    return U1Branch(net, 4, neck=dict(layers=layer))


VIEWS = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(5) % 4


def test_a_second_pass_is_refused():
    """Of two views the first would have no U(1) loss, without a word."""
    net = network()
    branch = branch_of(net)
    for copied in (lambda pair: pair, copy.deepcopy, _pickled):
        net, branch = copied((net, branch))
        with branch.reading():
            net(VIEWS[0])
            with pytest.raises(ValueError, match='a second forward pass'):
                net(VIEWS[1])
    # Outside a block passes are free, and each block begins anew.
    net(VIEWS[0]), net(VIEWS[1])
    losses = []
    for view in VIEWS:
        with branch.reading():
            net(view)
        losses.append(branch(LABELS)['loss_u1'])
    assert losses[0] != losses[1]
    # Within one block the branch ends a pass as well.
    with branch.reading():
        for view, loss in zip(VIEWS, losses):
            net(view)
            assert torch.equal(branch(LABELS)['loss_u1'], loss)
    branch.detach()
    assert not net._forward_pre_hooks


def _pickled(pair):
    return pickle.loads(pickle.dumps(pair))


def test_analysis_reads_many_passes_in_a_block():
    net = network()
    with torch.no_grad(), MapCollector(net, ['1']) as collector:
        for view in VIEWS:
            net(view)
            (found,) = collector.maps().values()
            torch.testing.assert_close(found, net[:2](view))


@pytest.mark.parametrize('first', [True, False])
def test_what_changes_a_map_in_training_alone(first):
    """Dropout in place does nothing in evaluation, which may come first."""
    net = network(nn.Dropout2d(0.5, inplace=True))
    branch = branch_of(net)
    for training in (first, not first, first, not first):
        net.train(training), branch.train(training)
        torch.manual_seed(3)
        with branch.reading():
            net(VIEWS[0])
        found = branch(LABELS)['loss_u1']
        other = network()
        other.load_state_dict(
            {k.replace('5.', '4.'): v for k, v in net.state_dict().items()}
        )
        unchanged = branch_of(other)
        with unchanged.reading():
            other(VIEWS[0])
        torch.testing.assert_close(found, unchanged(LABELS)['loss_u1'])
