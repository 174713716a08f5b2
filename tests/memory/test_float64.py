"""Roots, unit vectors, sums and distances do not depend on neighbours."""

import itertools
import math

import pytest
import torch
from nearest import METRICS

from u1_plugin.memory.float64 import (
    distances,
    prepared,
    square_root,
    total,
    unit,
)


def test_roots_are_rounded_as_pythons():
    values = torch.rand(
        500, generator=torch.Generator().manual_seed(0)
    ).double()
    expected = [math.sqrt(value) for value in values.tolist()]
    assert square_root(values).tolist() == expected
    assert square_root(torch.ones(2, 3, device='meta')).shape == (2, 3)


def test_unit_vectors_by_hand():
    vectors = torch.tensor([[3.0, -4.0], [0, 0], [0, -1e-45], [3e38, 3e38]])
    root = 0.5**0.5
    expected = torch.tensor([[0.6, -0.8], [0, 0], [0, -1], [root, root]])
    torch.testing.assert_close(
        unit(vectors), expected.double(), atol=1e-7, rtol=0
    )
    length = unit(vectors).norm(dim=1)[[0, 2, 3]]
    torch.testing.assert_close(
        length, torch.ones(3).double(), atol=1e-15, rtol=0
    )


def test_distances_depend_on_their_vectors_alone():
    generator = torch.Generator().manual_seed(0)
    for channels, metric in itertools.product((1, 2, 7, 64, 513), METRICS):
        first = torch.randn(100, channels, generator=generator)
        second = torch.randn(100, channels, generator=generator)
        first, second = prepared(first, metric), prepared(second, metric)
        whole = distances(first, second, metric)
        parts = [
            distances(a[None], b[None], metric) for a, b in zip(first, second)
        ]
        assert torch.equal(whole, torch.cat(parts))
        assert torch.equal(whole, distances(second, first, metric))


@pytest.mark.parametrize('channels', [1, 2, 3, 5, 8, 31, 512])
def test_the_total_is_the_sum(channels):
    values = torch.arange(3.0 * channels).reshape(3, channels)
    assert torch.equal(total(values), values.sum(1))
