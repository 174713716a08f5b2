"""The greatest scores, and those above a bound, are found in any row."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.memory.selection import above, greatest


@pytest.mark.parametrize('k', [1, 3, 10])
@pytest.mark.parametrize('more', [-1, 0, 1, 63, 64, 700])
def test_the_greatest_of_a_long_row(k, more):
    """About the length from which groups of 64 are compared first."""
    count = 64 * 4 * k + more
    generator = torch.Generator().manual_seed(more)
    rows = [torch.randperm(count, generator=generator) for _ in range(3)]
    # The greatest side by side at either end, and one in each group.
    rows += [torch.arange(count), torch.arange(count).flip(0)]
    rows.append((torch.arange(count) % 64) * count + torch.arange(count) // 64)
    scores = torch.stack(rows).double()
    values, at = greatest(scores, k)
    expected = scores.topk(k, dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(at, expected.indices)


@given(
    st.integers(1, 5),
    st.integers(1, 200),
    st.integers(-1, 40),
    st.integers(0, 9),
)
def test_what_is_above_a_bound_is_found(rows, count, least, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 40, (rows, count), generator=generator).float()
    bounds = (least + torch.arange(float(rows)))[:, None]
    values, at = above(scores, bounds)
    for row, wanted in enumerate(scores > bounds):
        kept = ~values[row].isneginf()
        columns, order = at[row][kept].sort()
        assert torch.equal(columns, wanted.nonzero()[:, 0])
        assert torch.equal(values[row][kept][order], scores[row][wanted])
