"""Bounds of the quick scores hold the distances of float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest import METRICS, all_distances, bank_of, bias, searches

from u1_plugin.memory import ExactSearch
from u1_plugin.memory.scores import Scores


@settings(max_examples=40)
@given(searches(), st.sampled_from(METRICS))
def test_the_bounds_hold(case, metric):
    """Of each score, about the closeness that the distance defines."""
    vectors, asked, _ = case
    scores = Scores(bank_of(vectors), metric)
    question = scores.prepare(asked.double())
    found = torch.cat(
        [part.clone() for *_, part in scores.blocks(question, 9)], dim=1
    )
    far = all_distances(asked, vectors, metric)
    if metric == 'l2':
        far = (far * scores.scale).square() / 2
    closeness = question.base[:, None] - far
    rows = question.slack.isfinite()
    upper = found + question.slack[:, None]
    index = torch.arange(len(vectors)).expand(len(asked), -1)
    lower = found - question.slack[:, None]
    lower = lower - scores.span(index, vectors.size(1))
    assert (closeness <= upper)[rows].all()
    assert (closeness >= lower)[rows].all()


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0.0, 50.0])
@pytest.mark.parametrize('width', [None, 0.3, 1e9])
def test_what_ranks_a_pixel_lies_between_its_bounds(metric, offset, width):
    """Of pixels that are the query, and votes of nothing but the place too."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(120, 16, generator=generator) + offset
    asked = torch.cat([vectors[:9], vectors[9:17] + 0.01])
    vectors[20:24] = asked[-1] = 0
    search = ExactSearch(bank_of(vectors), metric)
    given = None if width is None else bias('image', width)
    question = search.scores.prepare(asked, given)
    # Of zeros, products of centred vectors say nothing.
    known = question.slack.isfinite()
    assert known[:-1].all()
    assert known[-1] == (metric == 'l2' or search.scores.plain)
    candidates = search._candidates(question, 120)
    assert (
        candidates.indices.sort(dim=1).values.tolist() == [[*range(120)]] * 17
    )
    far = all_distances(asked, vectors, metric).gather(1, candidates.indices)
    if given is None:
        scaled = far
        if metric == 'l2':
            scaled = (far * search.scores.scale).square() / 2
        truth = question.base[:, None] - scaled
    else:
        rows = torch.arange(17)[:, None]
        truth = given.of_pairs(rows, candidates.indices, far)
    assert (search._least(question, candidates) < truth)[known].all()
    assert (truth < candidates.most).all()
    assert (candidates.most.diff(dim=1) <= 0)[known].all()


@pytest.mark.parametrize('channels', [1, 16, 300])
@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('offset', [0.0, 50.0])
def test_bounds_are_no_narrower_than_the_law_and_hardly_wider(
    channels, metric, offset
):
    """Products of C terms are off by C u |q| |v| at most, u = 2^-24."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(120, channels, generator=generator) + offset
    scores = Scores(bank_of(vectors), metric)
    assert scores.plain == (offset == 0)
    asked = scores.prepare(vectors[:9].double())
    index = torch.arange(120)
    span = scores.span(index, channels)
    law, most = channels * 2.0**-24, (channels + 12) * 2.0**-24
    if scores.plain and metric == 'cosine':
        # Of unit vectors, whatever they are.
        assert (asked.slack >= law).all() and (span == 0).all()
        assert (asked.slack <= 2 * most).all() and (asked.base == 1).all()
        return
    # |q| |v| <= (|q|^2 + |v|^2) / 2, above and below the score.
    queries_, moved = asked.vectors.double(), scores.moved(vectors).double()
    squared = queries_.square().sum(1)
    torch.testing.assert_close(asked.base, squared / 2, rtol=1e-5, atol=1e-30)
    assert (asked.slack >= law * squared / 2).all()
    assert (asked.slack <= 2 * most * squared + 1e-12).all()
    squared = moved.square().sum(1)
    assert (span >= law * squared).all() and (span <= 2 * most * squared).all()
    # A score stands in the middle of its span, but for the rounding itself.
    found = torch.cat(
        [part.clone() for *_, part in scores.blocks(asked, 50)], dim=1
    )
    above = found.double() - (queries_ @ moved.T - squared / 2)
    if channels == 300:
        torch.testing.assert_close(
            (above / span).mean(), torch.tensor(0.5).double(), atol=0.1, rtol=0
        )


@pytest.mark.parametrize(
    'factor, cosine, l2',
    [
        (1.0, True, True),
        # Zeros have no direction, and small numbers do not matter beside 1.
        *((0.0, True, True), (1e-30, False, True), (0.9e-15, False, True)),
        *((1.1e-15, True, True), (0.9e15, True, True), (1.1e15, False, False)),
    ],
)
def test_products_of_what_float32_holds_are_plain(factor, cosine, l2):
    sides = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    bank = bank_of(torch.cat([sides, sides * factor]))
    assert Scores(bank, 'cosine').plain == cosine
    assert Scores(bank, 'l2').plain == l2
    # Of small numbers alone lengths may leave float32 as well.
    small = 0 < factor < 1e-15
    assert Scores(bank_of(sides * factor), 'l2').plain == (l2 and not small)


@pytest.mark.parametrize('offset, plain', [(2.6, True), (2.7, False)])
@pytest.mark.parametrize('count', [4, 400])
def test_an_offset_dwarfs_what_is_an_eighth_of_it(offset, plain, count):
    """The mean square of the numbers is their spread's 1 + offset^2 times."""
    turn = torch.arange(count) * 2 * torch.pi / count
    circle = torch.stack([turn.cos(), turn.sin()], 1)
    vectors = circle + torch.tensor([offset, 0.0])
    assert Scores(bank_of(vectors, 400), 'l2').plain == plain
