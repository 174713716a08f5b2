"""The parts of a memory answer together as the whole does; what it keeps."""

import pickle
import re
import sys

import numpy as np
import pytest
import torch
from commands import printed
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from u1_plugin.memory import (
    ExactSearch,
    FaissSearch,
    MemoryBank,
    Pixels,
    PlaneCoordinates,
    PriorBias,
    coreset,
    few_shot,
)
from u1_plugin.memory.priors import log_prior

# On a port that is free: tests run side by side.
TORCHRUN = ('-m', 'torch.distributed.run', '--nproc_per_node=2', '--standalone')


def run(folder, environment, *command) -> str:
    return printed([sys.executable, *command], cwd=folder, env=environment)


def pixels_of(vectors: torch.Tensor, seed: int = 0) -> Pixels:
    count = len(vectors)
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(count, 2, generator=generator) * 2 - 1
    hues = torch.rand(count, generator=generator) * 6 - 3
    numbers = torch.arange(count)
    return Pixels(vectors, numbers % 3, numbers, places, hues)


def bank_of(vectors: torch.Tensor) -> MemoryBank:
    bank = MemoryBank()
    for part in vectors.split(40):
        bank.append(pixels_of(part))
    return bank


def test_two_ranks_answer_as_one(root, environment, tmp_path):
    script = str(root / 'tests/memory/sharded_memory.py')
    run(tmp_path, environment, script, 'one.pt')
    run(tmp_path, environment, *TORCHRUN, script, 'two')
    one, two = (torch.load(tmp_path / name) for name in ('one.pt', 'two'))
    assert one.keys() == two.keys() and len(one) == 21
    for name in one:
        for first, second in zip(one[name], two[name]):
            assert torch.equal(first, second), name
    for name in ('refused', 'refused index', 'emptied'):
        assert one[name][0].all(), name
    # The cases ask for different things.
    assert not torch.equal(one['biased'][1], one['cosine'][1])
    assert not torch.equal(one['shuffled'][4], one['cosine'][4])
    assert one['three'][1].shape == (23, 3)
    images = one['one rank changed'][3]
    assert not torch.isin(images, torch.tensor([1, 2])).any()
    labels = one['all changed'][2]
    assert set(labels.unique().tolist()) == {1, 2, 4, 5, 6}
    # There are ties, also between the last that is found and the next.
    far = one['cosine of doubles'][0]
    assert (far.diff(dim=1) == 0).any(1).all()


@pytest.mark.slow
def test_two_ranks_predict_as_one_through_the_tool(root, environment, tmp_path):
    """67 and 33 images are odd: no rank may see one twice."""
    tool = str(root / 'tools/dataset_converters/digits.py')
    run(tmp_path, environment, tool)
    config = tmp_path / 'config.py'
    base = root / 'configs/memory_bank/efficientnet-lite0_memory_digits.py'
    config.write_text(
        f'_base_ = [{str(base)!r}]\n'
        "model = dict(backbone=dict(_delete_=True, type='ResNet_CIFAR', "
        'depth=18, base_channels=8, stem_channels=8, out_indices=(3,), '
        "init_cfg=dict(type='Kaiming', layer='Conv2d')), "
        'head=dict(in_channels=64, kappa=2.0, coreset=0.5))\n'
        "small = [dict(type='LoadImageFromFile'), dict(type='Resize', "
        "scale=32), dict(type='PackInputs')]\n"
        'test_dataloader = dict(dataset=dict(pipeline=small, indices=33))\n'
        "custom_hooks = [dict(type='MemoryBankHook', file='bank.safetensors', "
        'dataloader=dict(batch_size=16, num_workers=0, dataset=dict('
        "type='CustomDataset', data_root='data/digits', data_prefix='train', "
        'indices=67, pipeline=small)))]\n'
    )
    test = [str(root / 'tools/test.py'), str(config)]
    weights = tmp_path / 'weights.pth'
    make = (
        'import torch, mmpretrain, u1_plugin\n'
        'torch.manual_seed(0)\n'
        f'model = mmpretrain.get_model({str(config)!r})\n'
        f'torch.save(dict(state_dict=model.state_dict()), {str(weights)!r})\n'
    )
    run(tmp_path, environment, '-c', make)
    test.append(str(weights))
    one = run(tmp_path, environment, *test, '--out', 'one.pkl')
    two = run(
        tmp_path,
        environment,
        *TORCHRUN,
        *(*test, '--launcher', 'pytorch', '--out', 'two.pkl'),
    )
    assert 'on each of 2 ranks' in two
    names = sorted(f.name for f in tmp_path.glob('bank*.safetensors'))
    parts = ['bank.0-of-2.safetensors', 'bank.1-of-2.safetensors']
    assert names == [*parts, 'bank.safetensors']
    whole, *banks = (
        MemoryBank.load(tmp_path / n) for n in ('bank.safetensors', *parts)
    )
    for name in ('images', 'labels', 'positions', 'hues'):
        # Batches of another size round another way.
        joined = torch.cat([bank.field(name) for bank in banks])
        torch.testing.assert_close(joined, whole.field(name))
    first, second = (
        torch.stack(
            [s['pred_score'] for s in pickle.loads((tmp_path / f).read_bytes())]
        )
        for f in ('one.pkl', 'two.pkl')
    )
    torch.testing.assert_close(first, second)
    pattern = r'accuracy/top1: (\S+)'
    assert re.search(pattern, one)[1] == re.search(pattern, two)[1]


@given(st.integers(1, 4), st.integers(0, 100))
def test_few_shot_draws_n_of_each_class(shots, seed):
    labels = np.array([0, 1, 2, 1, 0, 2, 2, 1, 0, 0, 1, 2, 2])
    chosen = few_shot(labels, shots, seed)
    assert np.array_equal(np.bincount(labels[chosen]), [shots] * 3)
    assert np.array_equal(chosen, np.unique(chosen))
    assert np.array_equal(chosen, few_shot(labels, shots, seed))


def test_few_shot_seeds_differ_and_too_many_are_refused():
    labels = np.arange(100) % 4
    draws = {tuple(few_shot(labels, 3, seed)) for seed in range(5)}
    assert len(draws) == 5
    with pytest.raises(ValueError, match='shots=26.*class 0 has 25'):
        few_shot(labels, 26, 0)
    for shots in (0, -1, 1.0, True, '2', None, float('nan')):
        with pytest.raises(ValueError, match='shots='):
            few_shot(labels, shots, 0)
    for seed in (-1, 2**32, 0.5, False):
        with pytest.raises(ValueError, match='seed='):
            few_shot(labels, 1, seed)
    for wrong in (labels[:0], labels / 2, labels[:, None], labels > 1):
        with pytest.raises(ValueError, match='must be integers'):
            few_shot(wrong, 1, 0)
    with pytest.raises(ValueError, match='labels='):
        few_shot([0, 1], 1, 0)


def _radius(vectors: torch.Tensor, chosen: torch.Tensor) -> float:
    unit = torch.nn.functional.normalize(vectors, dim=1).numpy()
    return pairwise_distances(unit, unit[chosen]).min(1).max()


def test_coreset_covers_the_clusters():
    """Nine rare clusters beside a common one: a random 5 % misses some."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(10, 16)
    sizes = torch.tensor([400] + [5] * 9)
    cluster = torch.arange(10).repeat_interleave(sizes)
    vectors = centres[cluster]
    vectors = vectors + 0.02 * torch.rand(vectors.shape, generator=generator)
    chosen = coreset(bank_of(vectors), 0.05)
    assert len(chosen) == round(0.05 * len(vectors))
    assert set(cluster[chosen].tolist()) == set(range(10))
    random = torch.randperm(len(vectors), generator=generator)[: len(chosen)]
    assert _radius(vectors, chosen) < 0.2 * _radius(vectors, random)


def test_coreset_is_greedy_k_centre():
    """Step by step against pairwise distances, without a projection."""
    generator = torch.Generator().manual_seed(2)
    vectors = torch.rand(60, 6, generator=generator)
    chosen = set(coreset(bank_of(vectors), 0.2, seed=4).tolist())
    unit = torch.nn.functional.normalize(vectors, dim=1).numpy()
    distances = pairwise_distances(unit)
    first = torch.randint(60, (1,), generator=torch.Generator().manual_seed(4))
    taken = [int(first)]
    while len(taken) < 12:
        taken.append(int(distances[:, taken].min(1).argmax()))
    assert chosen == set(taken)


def test_coreset_of_doubles_and_of_nothing():
    same = bank_of(torch.ones(10, 4))
    assert len(coreset(same, 1.0)) == 10
    for share in (0, -0.1, 1.5, float('nan'), True, '0.5', None):
        with pytest.raises(ValueError, match='coreset.share='):
            coreset(same, share)
    for width in (0, 2.5, True):
        with pytest.raises(ValueError, match='coreset.width='):
            coreset(same, 0.5, width=width)
    with pytest.raises(ValueError, match='empty'):
        coreset(MemoryBank(), 0.5)


@pytest.mark.parametrize('width', [4, 128])
@pytest.mark.parametrize('scale', [1e-30, 1.0, 1e30])
def test_a_coreset_does_not_depend_on_blocks_or_scales(width, scale):
    """Of doubles the first is taken; powers of ten but round in float32."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(1, 9, (30, 12), generator=generator).float()
    vectors = kinds[torch.randint(30, (200,), generator=generator)]
    found = []
    for size in (1, 7, 200):
        bank = MemoryBank()
        for part in vectors.split(size):
            bank.append(pixels_of(part * scale))
        found.append(coreset(bank, 0.1, width=width))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    if width == 128 and scale == 1:  # without a projection
        taken = vectors[found[0]].unique(dim=0)
        assert len(taken) == len(found[0]) == 20
        first = {
            tuple(v): i for i, v in reversed([*enumerate(vectors.tolist())])
        }
        start = torch.Generator().manual_seed(0)
        start = int(torch.randint(200, (1,), generator=start))
        for index in found[0].tolist():
            assert index in (start, first[tuple(vectors[index].tolist())])


def test_keep_forgets_the_rest():
    bank = bank_of(torch.rand(100, 4))
    images = bank.field('images')
    bank.keep(torch.tensor([3, 50, 99]))
    assert torch.equal(bank.field('images'), images[[3, 50, 99]])
    assert len(bank) == 3 == sum(len(block) for block in bank.blocks())


@pytest.mark.parametrize('plane', ['image', 'feature', 'position', 'radius'])
@pytest.mark.parametrize('metric', ['cosine', 'l2'])
def test_the_prior_in_the_search_finds_the_greatest_votes(plane, metric):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(200, 8, generator=generator)
    asked = pixels_of(torch.rand(30, 8, generator=generator), seed=9)
    bank = MemoryBank()
    own = pixels_of(vectors)
    bank.append(own.select(slice(0, 90)))
    bank.append(own.select(slice(90, 200)))
    query = PlaneCoordinates(asked.positions, asked.hues)
    memory = PlaneCoordinates(own.positions, own.hues)
    bias = PriorBias(query, memory, plane, 4.0, 0.3, 0.2)
    search = ExactSearch(bank, metric, chunk=7, block=32)
    found = search.search(asked.vectors, 6, bias)
    name = dict(cosine='cosine', l2='euclidean')[metric]
    distances = pairwise_distances(asked.vectors, vectors, metric=name)
    votes = torch.exp(-(torch.from_numpy(distances) ** 2) / (2 * 0.2**2))
    place = log_prior(
        PlaneCoordinates(query.positions[:, None], query.hues[:, None]),
        PlaneCoordinates(memory.positions[None], memory.hues[None]),
        *(plane, 4.0, 0.3),
    )
    votes = votes * place.exp()
    expected = votes.topk(6, dim=1)
    assert torch.equal(found.indices, expected.indices)
    np.testing.assert_allclose(
        found.distances,
        np.take_along_axis(distances, expected.indices.numpy(), 1),
        atol=1e-3,
    )
    plain = search.search(asked.vectors, 6)
    assert not torch.equal(plain.indices, found.indices)
    with pytest.raises(ValueError, match="engine='exact'"):
        FaissSearch(bank).search(asked.vectors, 6, bias)
