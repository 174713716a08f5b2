"""How many tensor operations a training step spends on the branch."""

from collections import Counter

import pytest
import torch
from helpers import (
    CHANNELS,
    CLASSES,
    build,
    images,
    plain_config,
    samples,
    soft_samples,
    u1_config,
)
from plain_network import labels, network
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from u1_plugin.nn import ClassTarget, U1Branch

#: Operations that wait for a GPU, to read a value or to learn a shape.
WAITING = {
    'aten::_local_scalar_dense',
    'aten::equal',
    'aten::is_nonzero',
    'aten::item',
    'aten::masked_select',
    'aten::nonzero',
    'aten::unique_dim',
    'aten::_unique2',
}


class Recorder(TorchDispatchMode):
    """The operations that are no views, and the sizes of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter = Counter()
        self.sizes: list = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        if not func.is_view:
            name = func._schema.name
            self.counts[name] += 1
            for leaf in tree_leaves(output):
                if isinstance(leaf, torch.Tensor):
                    self.sizes.append((name, leaf.numel()))
        return output


def second_step(config, targets=None) -> Counter:
    """Operations of forward and backward pass, once all caches are filled."""
    model = build(config).train()
    inputs, targets = images(), targets or samples()
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        with Recorder() as recorder:
            total, _ = model.parse_losses(model.loss(inputs, targets))
            total.backward()
    return recorder.counts


@pytest.fixture(scope='module')
def stock() -> Counter:
    return second_step(plain_config())


@pytest.mark.parametrize(
    'neck, most',
    [
        (dict(plane='feature'), 40),
        (dict(plane='image'), 40),
        (dict(plane='joint'), 70),
        (dict(plane='feature', windings=(1, 2, 3, 4)), 45),
        (dict(plane='feature', feature_plane=dict(basis='random')), 40),
        (dict(plane='feature', of='pixel'), 65),
    ],
)
def test_a_step_takes_few_operations(stock, neck, most):
    twin = second_step(u1_config(neck=neck))
    more = twin.copy()
    more.subtract(stock)
    assert all(count >= 0 for count in more.values()), more
    assert 20 < sum(more.values()) <= most, more
    assert not [name for name in WAITING if more[name]]


SMOOTH = dict(
    type='LinearClsHead',
    num_classes=CLASSES,
    in_channels=CHANNELS,
    loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
)


@pytest.mark.parametrize('mixed', [False, True])
@pytest.mark.parametrize(
    'plane, most', [('feature', 40), ('image', 40), ('joint', 70)]
)
def test_smoothed_and_mixed_labels_take_no_more(plane, most, mixed):
    targets = None
    if mixed:
        generator = torch.Generator().manual_seed(0)
        targets = soft_samples(
            torch.rand(4, CLASSES, generator=generator).softmax(1)
        )
    stock = second_step(plain_config(SMOOTH), targets)
    twin = second_step(u1_config(SMOOTH, neck=dict(plane=plane)), targets)
    twin.subtract(stock)
    assert 20 < sum(twin.values()) <= most, twin


NECKS = [
    dict(plane='joint'),
    dict(plane='feature', of='pixel'),
    dict(plane='joint', windings=(1, 2, 3)),
    dict(plane='image', flip='follow'),
]


def of_branch(neck: dict, classes: int, target) -> Recorder:
    """The branch alone, in its second step."""
    model = network()
    branch = U1Branch(model, classes, neck)
    flips = torch.tensor([[True, False]] * 4)
    for _ in range(2):
        with branch.reading():
            model(images())
        maps = branch.reading().maps()
        with Recorder() as recorder:
            loss = branch(target, flips)['loss_u1']
            torch.autograd.grad(loss, maps)
    return recorder


SEVERAL = [torch.tensor([1, 2]), torch.tensor([3]), torch.tensor([0])]
TARGETS = {
    'hard': labels(),
    'several': ClassTarget.several([*SEVERAL, torch.tensor([])]),
}


@pytest.mark.parametrize('kind', TARGETS)
@pytest.mark.parametrize('neck', NECKS, ids=str)
def test_nothing_grows_with_the_number_of_classes(neck, kind):
    few, many = (of_branch(neck, k, TARGETS[kind]) for k in (10, 1000))
    assert few.sizes == many.sizes


@pytest.mark.parametrize('kind', [*TARGETS, 'soft'])
@pytest.mark.parametrize('neck', NECKS, ids=str)
def test_no_step_after_the_first_waits_for_the_device(neck, kind):
    target = TARGETS.get(kind)
    if target is None:
        target = torch.full((4, 10), 0.1)
    counts = of_branch(neck, 10, target).counts
    assert counts and not WAITING & set(counts)


def test_the_recorder_sees_what_waits():
    with Recorder() as recorder:
        torch.ones(2)[torch.ones(2) > 0].sum().item()
    assert WAITING & set(recorder.counts)
