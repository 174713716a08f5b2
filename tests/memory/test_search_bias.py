"""A prior in the search finds the greatest votes, and a bad one is named."""

import numpy as np
import pytest
import torch
from banks import filled, some_pixels
from nearest import METRICS, all_distances, bank_of, bias, queries

from u1_plugin.memory import ExactSearch, PlaneCoordinates, build_search

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'changes, words',
    [
        (dict(width=0), 'width=0'),
        (dict(width=NAN), 'width=nan'),
        (dict(width=INF), 'width=inf'),
        (dict(width=True), 'width=True'),
        (dict(width='1'), "width='1'"),
        (dict(width=None), 'width=None'),
        (
            dict(temperature=0.1),
            "temperature=0.1 is not read by kernel='gaussian'",
        ),
        (dict(width=None, temperature=0), 'temperature=0'),
        (dict(width=None, temperature=NAN), 'temperature=nan'),
        (dict(kappa=-1.0), 'kappa=-1'),
        (dict(kappa=NAN), 'kappa=nan'),
        (dict(sigma=0.0), 'sigma=0'),
        (dict(plane='hue'), "plane='hue'"),
        (
            dict(query=PlaneCoordinates(torch.zeros(3, 2), torch.zeros(3))),
            "bias' query",
        ),
        (
            dict(memory=PlaneCoordinates(torch.zeros(3, 2), torch.zeros(3))),
            "bias' memory",
        ),
        (
            dict(
                query=PlaneCoordinates(
                    torch.zeros(17, 2), torch.full((17,), NAN)
                )
            ),
            'NaN',
        ),
    ],
)
def test_a_bad_bias_is_refused(changes, words):
    with pytest.raises(ValueError) as caught:
        ExactSearch(filled()).search(queries(), 3, bias(**changes))
    assert words in str(caught.value)


@pytest.mark.parametrize('metric', METRICS)
@pytest.mark.parametrize('plane', ['image', 'feature', 'position', 'radius'])
@pytest.mark.parametrize('width', [1e-3, 0.3, 1e3])
def test_the_greatest_votes_are_found(metric, plane, width):
    """Also where most votes are as small as 0, and among doubles."""
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(9, (120,), generator=generator)
    places = some_pixels(120)
    memory = PlaneCoordinates(places.positions[which], places.hues[which])
    vectors = places.vectors[which.flip(0) % 5]
    given = bias(plane, width)._replace(memory=memory)
    expected = None
    for cut, block, chunk in ((120, 16384, 1024), (19, 16, 64), (120, 37, 40)):
        search = ExactSearch(bank_of(vectors, cut), metric, chunk, block)
        found = search.search(queries(), 11, given)
        if expected is None:
            expected = found
        for one, two in zip(found, expected):
            assert torch.equal(one, two)
    far = all_distances(queries(), vectors, metric)
    logs = given.of_pairs(
        torch.arange(17)[:, None], torch.arange(120)[None], far
    )
    best = (-logs).sort(dim=1, stable=True)
    close = dict(rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.costs, best.values[:, :11], **close)
    torch.testing.assert_close(
        -logs.gather(1, found.indices), found.costs, **close
    )
    torch.testing.assert_close(
        far.gather(1, found.indices), found.distances, **close
    )
    steps = found.costs.diff(dim=1)
    assert (found.indices.diff(dim=1)[steps == 0] > 0).all()


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat'])
def test_a_bias_is_one(engine):
    search = build_search(filled(), engine)
    with pytest.raises(ValueError, match='bias=3 must be a PriorBias or None'):
        search.search(queries(), 3, 3)


@pytest.mark.parametrize('kappa', [0.0, 1.0, 100.0])
def test_bounds_of_votes_hold_the_rounding_of_float64(kappa):
    logs = -torch.tensor([0.0, 1e-9, 0.3, 1.0, 700.0]).double() * (1 + kappa)
    given = bias(kappa=kappa)
    upper, lower = given.bounds(logs, 1), given.bounds(logs, -1)
    ulps = 4 * torch.from_numpy(np.spacing(logs.abs().numpy() + kappa))
    assert (upper >= logs + ulps)[1:].all()
    assert (lower <= logs - ulps)[1:].all()
    assert upper[0] >= 0 >= lower[0]
    narrow = 1e-11 * (logs.abs() + kappa)
    assert (upper - logs <= narrow).all() and (logs - lower <= narrow).all()


def test_a_query_of_zeros_has_its_greatest_votes():
    """All pixels are at the distance 1: places decide, early ones or late."""
    asked, given = torch.zeros(17, 6), bias('image', 1.0)
    search = ExactSearch(filled(), 'cosine', block=8)
    found = search.search(asked, 5, given)
    rows, columns = torch.arange(17)[:, None], torch.arange(120)[None]
    logs = given.of_pairs(rows, columns, torch.ones(17, 120).double())
    expected = logs.sort(dim=1, descending=True, stable=True)
    assert torch.equal(found.indices, expected.indices[:, :5])
    torch.testing.assert_close(found.costs, -expected.values[:, :5])
