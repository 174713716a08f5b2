"""A head answers the same of a changed bank, batch or precision."""

import copy
import pickle
import threading

import pytest
import torch
from memory_heads import EVERY, small_head, unit_maps

from u1_plugin.memory import Memory, MemoryBank, Queries


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat'])
@pytest.mark.parametrize('way', ['remove', 'keep', 'append', 'fill'])
def test_a_bank_changed_after_use_answers_as_a_fresh_one(engine, way):
    if engine != 'exact':
        pytest.importorskip('faiss')
    head, numbers = small_head(engine=engine), torch.arange(8)
    head.fill(unit_maps(*EVERY), numbers, numbers)
    head(unit_maps(*EVERY))
    if way == 'remove':
        head.bank.remove(labels=[0])
    elif way == 'keep':
        head.bank.keep(torch.arange(2, 8))
    elif way == 'append':
        pixels = head._pixels(unit_maps(3), numbers[:1], numbers[:1], None)
        head.bank.append(pixels._replace(vectors=2 * pixels.vectors))
        head.bank.remove(labels=[3])
    else:
        head.bank.remove(labels=[5])
        head.fill(unit_maps(5), torch.tensor([2]), torch.tensor([9]))
    fresh = small_head(engine=engine)
    fresh.set_bank(head.bank)
    assert torch.equal(head(unit_maps(*EVERY)), fresh(unit_maps(*EVERY)))
    if way == 'fill':
        assert head(unit_maps(5)).argmax() == 2
    if way == 'remove':
        assert head(unit_maps(1)).argmax() == 1


def test_options_changed_after_use_count():
    """Nothing found by other options is kept; other pixels are refused."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(12, 8, 2, 2, generator=generator)
    scale = torch.linspace(0.1, 9, 12)[:, None, None, None]
    queries = (torch.rand(5, 8, 2, 2, generator=generator),)
    head = small_head(k=3, width=0.5)
    head.fill((maps * scale,), torch.arange(12) % 8, torch.arange(12))
    for change in (dict(metric='l2'), dict(plane='shuffled', kappa=2.0)):
        head(queries)
        for name, value in change.items():
            setattr(head, name, value)
        fresh = small_head(k=3, width=0.5, **{'metric': 'l2', **change})
        fresh.set_bank(head.bank)
        assert torch.equal(head(queries), fresh(queries))
    head.orthant = 'softplus'
    with pytest.raises(ValueError, match='head.orthant=softplus.*relu'):
        head(queries)


def test_labels_outside_the_heads_classes_are_refused():
    big = small_head(num_classes=10, in_checkpoint=True)
    labels = torch.tensor([0, 1, 2, 3, 4, 5, 6, 9])
    big.fill(unit_maps(*EVERY), labels, torch.arange(8))
    small = small_head(num_classes=5)
    with pytest.raises(ValueError, match='num_classes=5|0..4'):
        small.set_bank(big.bank)
    with pytest.raises(ValueError, match='num_classes=5|0..4'):
        small.load_state_dict(big.state_dict())
    assert not len(small.bank)
    # Behind the head's back: noticed before the answer.
    small.fill(unit_maps(0), torch.tensor([0]), torch.tensor([0]))
    small(unit_maps(0))
    pixels = big._pixels(unit_maps(6), labels[6:7], labels[6:7], None)
    small.bank.append(pixels)
    with pytest.raises(ValueError, match='num_classes=5|0..4'):
        small(unit_maps(6, 0))


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_has_no_neighbours_is_named(value):
    head, numbers = small_head(), torch.arange(8)
    maps = unit_maps(*EVERY)[0].clone()
    maps[3, 2] = value
    with pytest.raises(ValueError, match='model.backbone gave NaN'):
        head.fill((maps,), numbers, numbers)
    assert not len(head.bank)
    head.fill(unit_maps(*EVERY), numbers, numbers)
    for wrong in (maps, -maps):  # relu would hide minus infinity
        with pytest.raises(ValueError, match='model.backbone gave NaN'):
            head((wrong,))


@pytest.mark.parametrize('mode', ['pixel', 'pooled'])
def test_one_of_everything(mode):
    """One image, class, channel and pixel; two of each to ask."""
    head = small_head(num_classes=1, in_channels=1, mode=mode, k=3)
    one = torch.full((1, 1, 1, 1), 0.5)
    head.fill((one,), torch.tensor([0]), torch.tensor([0]))
    assert head((one,)).exp().tolist() == [[1.0]]
    assert head((torch.rand(2, 1, 2, 3),)).exp().tolist() == [[1.0]] * 2
    with pytest.raises(ValueError, match='head.feature_plane.in_channels=1'):
        small_head(in_channels=1, plane='both')


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_compared_in_full(dtype):
    """Under AMP the maps are rounded; the search is not."""
    head = small_head(in_channels=64, metric='l2', k=5, width=0.5)
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(8, 64, 3, 3, generator=generator).to(dtype)
    head.fill((maps.float(),), torch.arange(8), torch.arange(8))
    queries = torch.rand(5, 64, 3, 3, generator=generator).to(dtype)
    expected = head((queries.float(),))
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = head((queries,))
    assert found.dtype == torch.float32 and torch.equal(found, expected)


@pytest.mark.parametrize('metric', ['cosine', 'l2'])
def test_an_images_answer_is_that_of_any_batch(metric):
    """With many equal vectors, of which the first memorised count."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 2, (24, 8, 3, 3), generator=generator).float()
    head = small_head(metric=metric, k=4)
    head.fill((maps,), torch.arange(24) % 8, torch.arange(24))
    queries = torch.randint(0, 2, (7, 8, 3, 3), generator=generator).float()
    together = head((queries,))
    parts = [head((queries[i : i + 1],)) for i in range(7)]
    assert torch.equal(together, torch.cat(parts))
    assert torch.equal(together[2:5], head((queries[2:5],)))


NARROW = [
    dict(width=1e-3),
    dict(width=1e-3, metric='l2'),
    dict(width=1e-3, prior_in='search', kappa=1.0),
    dict(plane='position', sigma=1e-3),
    dict(plane='radius', sigma=1e-3),
    dict(kappa=1e4),
]


@pytest.mark.parametrize('options', NARROW, ids=str)
def test_narrow_kernels_vote_for_a_class_that_is_there(options):
    """Their votes are too small for a number, but of one class alone."""
    head = small_head(mode='pixel', **options)
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 8, 3, 3, generator=generator)
    head.fill((maps[..., 1:],), torch.full((5,), 2), torch.arange(5))
    asked = torch.rand(4, 8, 3, 3, generator=generator)
    assert head((asked,)).softmax(1)[:, 2].allclose(torch.ones(4))


def test_a_bank_put_in_the_place_of_another_answers():
    heads = [small_head(), small_head()]
    for label, head in enumerate(heads):
        head.fill(unit_maps(*EVERY), torch.full((8,), label), torch.arange(8))
    one, two = heads
    assert (one(unit_maps(3)).argmax(1) == 0).all()
    one.bank = two.bank
    assert (one(unit_maps(3)).argmax(1) == 1).all()
    search = Memory(two.bank)
    search.bank = MemoryBank()
    asked = Queries(torch.ones(1, 8), torch.zeros(1, 2), torch.zeros(1))
    with pytest.raises(ValueError, match='the bank is empty'):
        search.search(asked, 1)


def test_a_copy_answers_without_what_is_on_a_device():
    """A search may hold streams and memory of a GPU."""
    head, numbers = small_head(), torch.arange(8)
    head.fill(unit_maps(*EVERY), numbers, numbers)
    expected = head(unit_maps(*EVERY))
    head._memory.stream = threading.Lock()  # not to be copied either
    for twin in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert torch.equal(twin(unit_maps(*EVERY)), expected)
    assert head._memory is not None
