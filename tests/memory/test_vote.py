"""Votes and their shares equal numbers computed by hand."""

import math

import pytest
import torch

from u1_plugin.memory import PlaneCoordinates, prior, vote
from u1_plugin.memory.vote import vote_shares

NAN, INF = float('nan'), float('inf')


def numbers(*rows, dtype=torch.float64) -> torch.Tensor:
    return torch.tensor(rows, dtype=dtype)


LABELS = torch.tensor([[0, 2], [2, 2], [1, 0]])
IMAGES = torch.tensor([0, 0, 1])


def test_every_neighbour_counts_one():
    scores = vote(torch.rand(3, 2), LABELS, IMAGES, 4, 3)
    expected = [[1, 0, 3, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert scores.tolist() == expected and scores.dtype == torch.float32


def test_distances_weigh_by_their_kernel():
    """``exp(-d^2 / 2 h^2)``: of d = h, e^-1/2; of d = 2 h, e^-2."""
    distances = numbers([0.0, 0.5], [1.0, 0.25], [0.5, 1.5])
    scores = vote(distances, LABELS, IMAGES, 3, 2, width=0.5)
    expected = numbers(
        [1, 0, math.exp(-0.5) + math.exp(-2) + math.exp(-0.125)],
        [math.exp(-4.5), math.exp(-0.5), 0],
    )
    torch.testing.assert_close(scores, expected, rtol=1e-14, atol=0)


def test_weights_multiply():
    weights = numbers([0.5, 0.25], [1.0, 0.0], [0.125, 1e-300])
    scores = vote(torch.zeros(3, 2).double(), LABELS, IMAGES, 3, 2, weights)
    assert scores.tolist() == [[0.5, 0, 1.25], [1e-300, 0.125, 0]]
    distances = torch.ones(3, 2).double()
    halved = vote(distances, LABELS, IMAGES, 3, 2, weights, width=1.0)
    torch.testing.assert_close(
        halved, scores * math.exp(-0.5), rtol=1e-14, atol=0
    )


def test_nobody_is_no_neighbour():
    distances = numbers([0.0, INF], [INF, INF], [INF, 1.0])
    labels = torch.tensor([[1, -1], [-1, 77], [-1, 0]])
    for width in (None, 0.5):
        scores = vote(distances, labels, IMAGES, 2, 2, width=width)
        far = 1 if width is None else math.exp(-2)
        assert scores.tolist() == [[0, 1], [far, 0]]
    nothing = vote(torch.zeros(0, 2), LABELS[:0], IMAGES[:0], 2, 2)
    assert nothing.tolist() == [[0, 0], [0, 0]]
    assert vote(torch.zeros(0, 2), LABELS[:0], IMAGES[:0], 2, 0).shape == (0, 2)


@pytest.mark.parametrize('width', [1e-300, 1e-30, 1e30, 1e300])
def test_widths_may_be_extreme(width):
    scores = vote(
        numbers([0.0, 1e-3]),
        torch.tensor([[0, 1]]),
        IMAGES[:1],
        2,
        1,
        None,
        width,
    )
    assert scores.tolist() == [[1, 1 if width > 1 else 0]]


@pytest.mark.parametrize('width', [None, 0.3])
def test_an_images_scores_do_not_depend_on_the_batch(width):
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(40).repeat_interleave(37)
    distances = torch.rand(40 * 37, 9, generator=generator).double()
    labels = torch.randint(5, distances.shape, generator=generator)
    weights = torch.rand(distances.shape, generator=generator).double()
    whole = vote(distances, labels, images, 5, 40, weights, width)
    for size in (1, 3, 11):
        parts = []
        for first in range(0, 40, size):
            own = (images >= first) & (images < first + size)
            chosen = distances[own], labels[own], images[own] - first
            count = min(size, 40 - first)
            parts.append(vote(*chosen, 5, count, weights[own], width))
        assert torch.equal(torch.cat(parts), whole)


def test_integers_may_be_narrow():
    scores = vote(torch.rand(3, 2), LABELS.int(), IMAGES.int(), 4, 3)
    assert torch.equal(scores, vote(torch.rand(3, 2), LABELS, IMAGES, 4, 3))


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(width=0), 'width=0'),
        (dict(width=0.0), 'width=0.0'),
        (dict(width=-1.0), 'width=-1.0'),
        (dict(width=NAN), 'width=nan'),
        (dict(width=INF), 'width=inf'),
        (dict(width=True), 'width=True'),
        (dict(width='1'), "width='1'"),
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
        (dict(images=IMAGES[:2]), 'images (2,) (Q,)'),
        (dict(images=IMAGES[:, None]), 'images (3, 1) (Q,)'),
        (dict(distances=numbers([0, NAN], [0, 0], [0, 0])), 'distances must'),
        (dict(distances=numbers([0, -1], [0, 0], [0, 0])), 'distances must'),
        (dict(distances=LABELS), 'distances must'),
        (dict(distances=torch.zeros(3)), 'must be (3,)'),
        (dict(weights=torch.ones(3, 1)), 'weights (3, 1) must be (3, 2)'),
        (dict(weights=torch.full((3, 2), NAN)), 'weights must'),
        (dict(weights=torch.full((3, 2), -0.1)), 'weights must'),
        (
            dict(weights=torch.full((3, 2), INF)),
            'weights hold an infinite number',
        ),
        (dict(weights=LABELS), 'weights must'),
        (dict(weights=1.0), 'weights=1.0'),
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
    vote(**given)
    with pytest.raises(ValueError) as caught:
        vote(**given | changes)
    assert words in str(caught.value)


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
        prior(query, memory, 'image', 1.0)


def test_shares_are_those_of_the_votes():
    generator = torch.Generator().manual_seed(1)
    distances = torch.rand(3, 2, generator=generator).double()
    weights = torch.rand(3, 2, generator=generator).double()
    scores = vote(distances, LABELS, IMAGES, 4, 3, weights, width=0.4)
    shares = vote_shares(distances, LABELS, IMAGES, 4, 3, weights.log(), 0.4)
    expected = scores[:2] / scores[:2].sum(1, keepdim=True)
    torch.testing.assert_close(shares[:2], expected, rtol=1e-12, atol=0)
    assert shares[2].tolist() == [0.25] * 4  # of an image without pixels
    nothing = torch.full((3, 2), INF)
    shares = vote_shares(nothing, LABELS, IMAGES, 3, 2)
    assert shares.tolist() == [[1 / 3] * 3] * 2


@pytest.mark.parametrize('far', [1.0, 1e3, 1e30])
def test_votes_too_small_for_a_number_have_their_shares(far):
    """Of two at d and one at d + ln 2 / d, all 1 wide, the last is half."""
    distances = numbers([far, far, (far**2 + 2 * math.log(2)) ** 0.5, INF])
    labels = torch.tensor([[1, 2, 2, 0]])
    shares = vote_shares(distances, labels, IMAGES[:1], 4, 1, width=1.0)
    last = 0.5 if far < 1e6 else 1.0  # the same number
    expected = numbers([0, 1, 1 + last, 0]) / (2 + last)
    torch.testing.assert_close(shares, expected, rtol=1e-8, atol=0)
    logs = numbers([-5e3, -5e3, -5e3 - math.log(2), 0.0])
    near = numbers([0, 0, 0, INF])
    shares = vote_shares(near, labels, IMAGES[:1], 4, 1, logs)
    expected = numbers([0, 1, 1.5, 0]) / 2.5
    torch.testing.assert_close(shares, expected, rtol=1e-8, atol=0)


def test_votes_beyond_logs_are_still_of_their_classes():
    labels = torch.tensor([[1, 1]])
    for far in (numbers([1.0, 2.0]), numbers([1.0, INF])):
        shares = vote_shares(far, labels, IMAGES[:1], 3, 1, width=1e-300)
        assert shares.tolist() == [[0, 1, 0]]


def test_bad_log_weights_are_refused():
    for value in (NAN, 0.1):
        logs = torch.full((3, 2), value)
        with pytest.raises(ValueError, match='log_weights must be'):
            vote_shares(torch.zeros(3, 2), LABELS, IMAGES, 3, 2, logs)
    with pytest.raises(ValueError, match='images hold 1'):
        vote_shares(torch.zeros(3, 2), LABELS, IMAGES, 3, 1)
