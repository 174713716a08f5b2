"""A coreset is greedy, and keeps as many as it is asked to."""

import pytest
import torch
from bank_files import fill
from nearest import bank_of
from sklearn.metrics import pairwise_distances

from u1_plugin.memory import MemoryBank, coreset


def test_a_sample_of_all_is_no_sample():
    bank = fill(MemoryBank())
    for seed in range(3):
        every = coreset(bank, 0.3, seed=seed)
        assert torch.equal(coreset(bank, 0.3, seed=seed, sample=1.0), every)
        few = coreset(bank, 0.3, seed=seed, sample=0.4)
        assert len(few) == len(every) and not torch.equal(few, every)
        # As many are left as are drawn: the draw itself.
        drawn = coreset(bank, 0.4, seed=seed, sample=0.4)
        assert set(few.tolist()) < set(drawn.tolist())
    with pytest.raises(ValueError, match='sample=0.1'):
        coreset(bank, 0.3, sample=0.1)


@pytest.mark.parametrize('metric', ['cosine', 'l2'])
@pytest.mark.parametrize('width', [1, 3, 5, 6, None])
def test_a_coreset_is_greedy_after_a_random_projection(width, metric):
    """Step by step, on Gaussian projections of the (unit) vectors."""
    generator = torch.Generator().manual_seed(2)
    channels = 6 if width else 200
    vectors = torch.rand(50, channels, generator=generator) * 9
    options = {} if width is None else dict(width=width, seed=7)
    chosen = coreset(bank_of(vectors), 0.2, metric=metric, **options)
    seed, width = options.get('seed', 0), width or 128
    units = vectors.double()
    if metric == 'cosine':
        units = units / units.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    if width < channels:
        units = (
            units @ torch.randn(channels, width, generator=generator).double()
        )
    apart = pairwise_distances(units.numpy())
    generator = torch.Generator().manual_seed(seed)
    taken = [int(torch.randint(50, (1,), generator=generator))]
    while len(taken) < 10:
        taken.append(int(apart[:, taken].min(1).argmax()))
    assert chosen.tolist() == sorted(taken)


@pytest.mark.parametrize('scale', [1.0, 1e36])
def test_lengths_count_where_they_will_be_searched_by(scale):
    """Two classes of one direction differ by their lengths alone."""
    noise = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([1.0, 3.0]).repeat_interleave(200)[:, None]
    bank = bank_of((torch.ones(4) * lengths + 0.01 * noise) * scale)
    kept = coreset(bank, 0.1, metric='l2')
    assert 10 < (kept < 200).sum() < 30


def test_a_coreset_keeps_at_least_one():
    bank = bank_of(torch.rand(20, 4))
    first = torch.randint(20, (1,), generator=torch.Generator().manual_seed(3))
    assert coreset(bank, 1e-9, seed=3).tolist() == first.tolist()
    assert len(coreset(bank, 0.124)) == 2  # of 2.48
    assert coreset(bank, 1.0).tolist() == list(range(20))
