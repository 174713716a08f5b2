"""Priors, kernels and votes agree with the formulas in float64."""

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    NON_NEGATIVE,
    POSITIVE,
    choice,
    close,
    optional,
    options,
    pixels_of,
    smooth,
    tensors,
)

from u1_plugin import memory
from u1_plugin.memory import (
    Kernel,
    LabelledNeighbours,
    PlaneCoordinates,
    VotingRule,
)
from u1_plugin.memory.priors import log_prior

PRIOR = dict(plane=choice(*memory.PRIORS), kappa=NON_NEGATIVE, sigma=POSITIVE)


@fuzz(
    'memory.log_prior',
    case=options(PRIOR, ('plane', 'kappa')),
    places=smooth(2, 3, 3),
)
def test_prior(case, places):
    given, wrong = case
    first, second = (
        PlaneCoordinates(part[..., :2].tanh(), part[..., 2]) for part in places
    )
    found = attempt(lambda: log_prior(first, second, **given), wrong)
    if found is REFUSED:
        return
    plane, kappa = given['plane'], float(given['kappa'])
    sigma = float(given.get('sigma', 0.5))
    a, b = first.positions.double(), second.positions.double()
    turn = torch.atan2(a[:, 1], a[:, 0]) - torch.atan2(b[:, 1], b[:, 0])
    turn, hue = turn.cos() - 1, (first.hues - second.hues).double().cos() - 1
    apart = dict(
        position=(a - b).norm(dim=1), radius=a.norm(dim=1) - b.norm(dim=1)
    )
    if plane in apart:
        wanted = -((apart[plane] / sigma) ** 2) / 2
    else:
        parts = dict(image=turn, shuffled=turn, feature=hue, both=turn + hue)
        wanted = kappa * parts[plane]
    assert close(found.exp(), wanted.exp())


KERNEL = dict(
    kernel=optional(choice('uniform', 'gaussian', 'softmax')),
    width=optional(POSITIVE),
    temperature=optional(POSITIVE),
)


def unread(given) -> list:
    """Options of which a kernel reads none, or that it lacks."""
    own = dict(gaussian='width', softmax='temperature')
    there = [n for n in ('width', 'temperature') if given.get(n) is not None]
    kernel = given.get('kernel')
    if kernel is None:
        return there if len(there) > 1 else []
    read = own.get(kernel)
    return [n for n in there if n != read] + [
        n for n in (read,) if n and n not in there
    ]


@fuzz('memory.kernel_of', case=options(KERNEL))
def test_kernel_of(case):
    given, wrong = case
    others = [] if wrong else unread(given)
    found = attempt(
        lambda: memory.kernel_of(**given),
        wrong or dict.fromkeys(others, None),
        also=[*others, 'width', 'temperature', 'kernel'],
    )
    if found is not REFUSED:
        assert not others
        assert given.get('kernel') in (None, found.name)
        assert memory.kernel_of(**found.options) == found


@fuzz(
    'memory.class_shares',
    distances=tensors(
        3,
        2,
        values=st.floats(0, 2, width=32)
        | st.sampled_from([np.inf] * 5 + [np.nan]),
    ),
    hues=tensors(3, 2, values=st.floats(-3, 3, width=32)),
    kappa=st.floats(0, 1e9),
    labels=st.lists(
        st.sampled_from([0, 1, 2] * 9 + [-1, 3]), min_size=6, max_size=6
    ),
    images=st.lists(
        st.sampled_from([0, 1] * 9 + [-1, 2]), min_size=3, max_size=3
    ),
    kernel=st.just(Kernel())
    | st.builds(
        Kernel, st.sampled_from(['gaussian', 'softmax']), st.floats(1e-3, 50)
    ),
)
def test_class_shares(distances, hues, kappa, labels, images, kernel):
    labels, images = torch.tensor(labels).reshape(3, 2), torch.tensor(images)
    near = labels[distances.isfinite()]
    wrong = {}
    if distances.isnan().any():
        wrong['distances'] = distances
    if ((near < 0) | (near > 2)).any():
        wrong['labels'] = labels
    if ((images < 0) | (images > 1)).any():
        wrong['images'] = images
    # The query's hue is 0.
    places = torch.zeros(3, 2, 2)
    matches = LabelledNeighbours(
        distances, labels, labels, labels, places, hues
    )
    asked = pixels_of(torch.zeros(3, 1))._replace(
        images=images, positions=places[:, 0], hues=torch.zeros(3)
    )
    rule = VotingRule('feature', kappa, kernel=kernel)
    found = attempt(
        lambda: memory.class_shares(matches, asked, 3, 2, rule), wrong
    )
    if found is REFUSED:
        return
    # By the formulas of docs/memory_bank.md, in float64.
    votes = kappa * (hues.double().cos() - 1)
    options = kernel.options
    if 'width' in options:
        votes -= (distances.double() / options['width']) ** 2 / 2
    if 'temperature' in options:
        votes += (1 - distances.double()) / options['temperature']
    votes[distances.isinf()] = -np.inf
    for image in range(2):
        own = votes[images == image].flatten()
        own = (own - own.max()).exp() if own.isfinite().any() else own.exp()
        near = labels[images == image].flatten()
        wanted = [float(own[near == c].sum()) for c in range(3)]
        total = sum(wanted)
        wanted = [w / total if total else 1 / 3 for w in wanted]
        assert close(found[image], wanted, 1e-5)
