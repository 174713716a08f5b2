"""Shares of the votes equal numbers computed by hand."""

import math

import pytest
import torch
from votes import shares_of

from u1_plugin.memory import (
    Kernel,
    LabelledNeighbours,
    Pixels,
    PlaneCoordinates,
    class_shares,
)
from u1_plugin.memory.priors import log_prior

NAN, INF = float('nan'), float('inf')


def numbers(*rows, dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(rows, dtype=dtype)


def gaussian(width: float) -> Kernel:
    return Kernel('gaussian', width)


def normalised(votes: torch.Tensor) -> torch.Tensor:
    return votes / votes.sum(1, keepdim=True)


LABELS = torch.tensor([[0, 2], [2, 2], [1, 0]])
IMAGES = torch.tensor([0, 0, 1])


def test_every_neighbour_counts_one():
    shares = shares_of(torch.rand(3, 2), LABELS, IMAGES, 4, 3)
    expected = [[0.25, 0, 0.75, 0], [0.5, 0.5, 0, 0], [0.25] * 4]
    assert shares.tolist() == expected and shares.dtype == torch.float64


def test_distances_weigh_by_their_kernel():
    """``exp(-d^2 / 2 h^2)``: of d = h, e^-1/2; of d = 2 h, e^-2."""
    distances = numbers([0.0, 0.5], [1.0, 0.25], [0.5, 1.5])
    shares = shares_of(distances, LABELS, IMAGES, 3, 2, gaussian(0.5))
    votes = numbers(
        [1, 0, math.exp(-0.5) + math.exp(-2) + math.exp(-0.125)],
        [math.exp(-4.5), math.exp(-0.5), 0],
    )
    torch.testing.assert_close(shares, normalised(votes), rtol=1e-14, atol=0)


def test_weights_multiply():
    logs = numbers([0.5, 0.25], [1.0, 0.0], [0.125, 1e-300]).log()
    votes = numbers([0.5, 0, 1.25], [1e-300, 0.125, 0])
    shares = shares_of(torch.zeros(3, 2), LABELS, IMAGES, 3, 2, Kernel(), logs)
    torch.testing.assert_close(shares, normalised(votes), rtol=1e-12, atol=0)
    distances = numbers([0.0, 1.0], [1.0, 1.0], [1.0, 0.0])
    near = shares_of(distances, LABELS, IMAGES, 3, 2, gaussian(1.0), logs)
    far = math.exp(-0.5)
    votes = numbers([0.5, 0, 1.25 * far], [1e-300, 0.125 * far, 0])
    torch.testing.assert_close(near, normalised(votes), rtol=1e-12, atol=0)


def test_nobody_is_no_neighbour():
    distances = numbers([0.0, INF], [INF, INF], [INF, 1.0])
    labels = torch.tensor([[1, -1], [-1, 77], [-1, 0]])
    for kernel in (Kernel(), gaussian(0.5)):
        shares = shares_of(distances, labels, IMAGES, 2, 2, kernel)
        assert shares.tolist() == [[0, 1], [1, 0]]
    for there in (LABELS[:0], torch.zeros(0, 0).long()):
        nothing = torch.zeros(there.shape), there, IMAGES[:0]
        assert shares_of(*nothing, 2, 2).tolist() == [[0.5, 0.5]] * 2
        assert shares_of(*nothing, 2, 0).shape == (0, 2)


@pytest.mark.parametrize('width', [1e-300, 1e-30, 1e30, 1e300])
def test_widths_may_be_extreme(width):
    near = numbers([0.0, 1e-3]), torch.tensor([[0, 1]]), IMAGES[:1]
    shares = shares_of(*near, 2, 1, gaussian(width))
    assert shares.tolist() == [[0.5, 0.5] if width > 1 else [1, 0]]


@pytest.mark.parametrize('kernel', [Kernel(), gaussian(0.3)], ids=str)
def test_an_images_shares_do_not_depend_on_the_batch(kernel):
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(40).repeat_interleave(37)
    distances = torch.rand(40 * 37, 9, generator=generator).double()
    labels = torch.randint(5, distances.shape, generator=generator)
    logs = torch.rand(distances.shape, generator=generator).double().log()
    whole = shares_of(distances, labels, images, 5, 40, kernel, logs)
    for size in (1, 3, 11):
        parts = []
        for first in range(0, 40, size):
            own = (images >= first) & (images < first + size)
            chosen = distances[own], labels[own], images[own] - first
            count = min(size, 40 - first)
            parts.append(shares_of(*chosen, 5, count, kernel, logs[own]))
        assert torch.equal(torch.cat(parts), whole)


def test_integers_may_be_narrow():
    shares = shares_of(torch.rand(3, 2), LABELS.int(), IMAGES.int(), 4, 3)
    wide = shares_of(torch.rand(3, 2), LABELS, IMAGES, 4, 3)
    assert torch.equal(shares, wide)


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(num_classes=0), 'num_classes=0'),
        (dict(num_classes=2.0), 'num_classes=2.0'),
        (dict(num_classes=2), 'labels hold 2, but num_classes=2 allows'),
        (dict(num_images=-1), 'num_images=-1'),
        (dict(num_images=1), 'images hold 1, but num_images=1 allows 0'),
        (dict(labels=LABELS - 1), 'labels hold -1'),
        (dict(labels=LABELS.float()), 'labels of dtype'),
        (dict(labels=LABELS.bool()), 'labels of dtype'),
        (dict(labels=LABELS[:, :1]), 'labels (3, 1) must be (3, 2)'),
        (dict(labels=LABELS[:2]), 'labels (2, 2) must be (3, 2)'),
        (dict(images=IMAGES - 1), 'images hold -1'),
        (dict(images=IMAGES.float()), 'images of dtype'),
        (dict(images=IMAGES[:2]), 'fit each other'),
        (dict(images=IMAGES[:, None]), 'images (3, 1) (Q,)'),
        (dict(distances=numbers([0, NAN], [0, 0], [0, 0])), 'distances must'),
        (dict(distances=numbers([0, -1], [0, 0], [0, 0])), 'distances must'),
        (dict(distances=LABELS), 'distances must'),
        (dict(log_weights=torch.zeros(3, 1)), 'must be (3, 2)'),
        (dict(log_weights=torch.full((3, 2), NAN)), 'positions and hues must'),
        (dict(kernel=Kernel('gaussian', NAN)), 'Kernel.scale=nan'),
        (dict(kernel='uniform'), "rule.kernel='uniform' must be a Kernel"),
    ],
)
def test_bad_votes_are_refused(changes, words):
    given = dict(
        distances=torch.zeros(3, 2),
        labels=LABELS,
        images=IMAGES,
        num_classes=3,
        num_images=2,
    )
    shares_of(**given)
    with pytest.raises(ValueError) as caught:
        shares_of(**given | changes)
    assert words in str(caught.value)


def test_matches_are_tables():
    axis, hues = torch.zeros(3, 2), torch.zeros(3)
    query = Pixels(axis, IMAGES, IMAGES, axis, hues)
    matches = LabelledNeighbours(*(6 * [hues]))
    with pytest.raises(ValueError, match=r'matches .*\(3,\).* must be \(Q, n'):
        class_shares(matches, query, 3, 2)


@pytest.mark.parametrize(
    'memory',
    [
        PlaneCoordinates(torch.ones(3, 3), torch.ones(3)),
        PlaneCoordinates(torch.ones(3, 2), torch.ones(2)),
        PlaneCoordinates(torch.ones(2, 2), torch.ones(2)),
    ],
    ids=lambda coordinates: str([tuple(field.shape) for field in coordinates]),
)
def test_coordinates_fit_each_other(memory):
    query = PlaneCoordinates(torch.ones(3, 2), torch.ones(3))
    with pytest.raises(ValueError, match=r'query.*\(3, 2\).*memory.*fit each'):
        log_prior(query, memory, 'image', 1.0)


def test_without_neighbours_all_classes_are_equal():
    nothing = torch.full((3, 2), INF)
    shares = shares_of(nothing, LABELS, IMAGES, 3, 2)
    assert shares.tolist() == [[1 / 3] * 3] * 2


@pytest.mark.parametrize('far', [1.0, 1e3, 1e30])
def test_votes_too_small_for_a_number_have_their_shares(far):
    """Of two at d and one at d + ln 2 / d, all 1 wide, the last is half."""
    distances = numbers([far, far, (far**2 + 2 * math.log(2)) ** 0.5, INF])
    labels = torch.tensor([[1, 2, 2, 0]])
    shares = shares_of(distances, labels, IMAGES[:1], 4, 1, gaussian(1.0))
    last = 0.5 if far < 1e6 else 1.0  # the same number
    expected = numbers([0, 1, 1 + last, 0]) / (2 + last)
    torch.testing.assert_close(shares, expected, rtol=1e-8, atol=0)
    logs = numbers([-5e3, -5e3, -5e3 - math.log(2), 0.0])
    near = numbers([0, 0, 0, INF])
    shares = shares_of(near, labels, IMAGES[:1], 4, 1, log_weights=logs)
    expected = numbers([0, 1, 1.5, 0]) / 2.5
    torch.testing.assert_close(shares, expected, rtol=1e-8, atol=0)


def test_votes_beyond_logs_are_still_of_their_classes():
    labels = torch.tensor([[1, 1]])
    for far in (numbers([1.0, 2.0]), numbers([1.0, INF])):
        shares = shares_of(far, labels, IMAGES[:1], 3, 1, gaussian(1e-300))
        assert shares.tolist() == [[0, 1, 0]]
