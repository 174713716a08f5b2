"""The memory as a head of MMPretrain votes, and travels in checkpoints."""

import numpy as np
import pytest
import torch
from helpers import images, samples
from memory_heads import classifier, fill, small_head
from sklearn.neighbors import KNeighborsClassifier

from u1_plugin.memory import PRIORS, MemoryBank


def pooled(model, inputs) -> np.ndarray:
    (feats,) = model.extract_feat(inputs, stage='backbone')
    return feats.relu().mean((2, 3)).detach().numpy()


def test_pooled_votes_are_scikit_learns():
    model = fill(classifier(mode='pooled'))
    neighbours = KNeighborsClassifier(3, metric='cosine', algorithm='brute')
    neighbours.fit(pooled(model, images(20)), np.arange(20) % 10)
    queries = images(6, seed=5)
    expected = neighbours.predict_proba(pooled(model, queries))
    found = model.predict(queries, samples(6))
    scores = np.stack([s.pred_score.numpy() for s in found])
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize('engine', ['exact', 'faiss:Flat'])
@pytest.mark.parametrize('plane', ['image', 'feature', 'both', 'position'])
def test_a_memorised_image_is_recognised(plane, engine):
    if engine != 'exact':
        pytest.importorskip('faiss')
    model = fill(classifier(plane=plane, kappa=2.0, k=1, engine=engine))
    labels = model(images(20)).argmax(1)
    assert torch.equal(labels, torch.arange(20) % 10)


def test_the_prior_may_enter_the_search():
    options = dict(plane='image', kappa=8.0, width=0.05)
    queries = images(6, seed=5)
    late = fill(classifier(**options))(queries)
    early = fill(classifier(prior_in='search', **options))(queries)
    assert early.isfinite().all() and not torch.allclose(early, late)
    # With as many neighbours as pixels, both count every vote.
    everything = dict(options, k=20 * 16)
    late = fill(classifier(**everything))(queries)
    early = fill(classifier(prior_in='search', **everything))(queries)
    torch.testing.assert_close(early, late)


@pytest.mark.parametrize('products', ['float32', 'bfloat16'])
def test_opposite_vectors_have_their_place_in_the_search(products):
    """Bounds of their distance, 2, may exceed it."""
    head = small_head(
        num_classes=4,
        in_channels=16,
        k=2,
        mode='pooled',
        orthant='identity',
        kernel='softmax',
        temperature=0.07,
        prior_in='search',
        engine=dict(type='exact', dtype=products),
    )
    feats = torch.randn(4, 16, 3, 3, generator=torch.Generator().manual_seed(0))
    feats[2] = -feats[0]
    head.fill((feats,), torch.arange(4), torch.arange(4))
    assert head((feats,)).argmax(1).tolist() == [0, 1, 2, 3]


def test_a_bank_of_ones_own_is_the_one_that_is_filled():
    head = small_head(num_classes=4, in_channels=16, dtype='float32')
    bank = MemoryBank('uint8')
    head.set_bank(bank, sharded=True)
    feats = torch.rand(4, 16, 3, 3)
    head.fill((feats,), torch.arange(4), torch.arange(4))
    assert head.bank is bank and len(bank) and head._sharded
    assert bank.identity['dtype'] == 'uint8'


def test_a_running_centre_is_refused():
    """A memory would vote by hues that nothing has ever centred."""
    with pytest.raises(ValueError, match="plane.center='running' is fitted"):
        small_head(
            plane='feature', kappa=2.0, feature_plane=dict(center='running')
        )


def test_coreset_of_a_filled_head():
    model = fill(classifier(coreset=0.25))
    before = len(model.head.bank)
    model.head.condense()
    assert len(model.head.bank) == before // 4
    assert model(images(6, seed=5)).isfinite().all()


def test_kappa_changes_the_vote_and_zero_does_not():
    plain = fill(classifier())(images(6, seed=5))
    zero = fill(classifier(plane='both'))(images(6, seed=5))
    biased = fill(classifier(plane='both', kappa=4.0))(images(6, seed=5))
    assert torch.equal(plain, zero)
    assert not torch.allclose(plain, biased)


def test_shuffled_positions_are_the_same_each_time():
    scores = [
        fill(classifier(plane='shuffled', kappa=4.0))(images(6, seed=5))
        for _ in range(2)
    ]
    assert torch.equal(*scores)
    image = fill(classifier(plane='image', kappa=4.0))(images(6, seed=5))
    assert not torch.allclose(scores[0], image)


def test_a_checkpoint_holds_the_bank_if_asked():
    model = fill(classifier(in_checkpoint=True))
    twin = classifier(in_checkpoint=True)
    twin.load_state_dict(model.state_dict(), strict=True)
    queries = images(6, seed=5)
    assert torch.equal(twin(queries), model(queries))
    assert not any('bank' in n for n in fill(classifier()).state_dict())


DTYPES = ('float32', 'float16', 'uint8')


@pytest.mark.parametrize('stored', DTYPES)
@pytest.mark.parametrize('read', DTYPES)
def test_a_checkpoint_says_how_its_numbers_are_stored(stored, read):
    options = dict(metric='l2', width=0.3, in_checkpoint=True)
    model = fill(classifier(dtype=stored, **options))
    twin = classifier(dtype=read, **options)
    twin.load_state_dict(model.state_dict())
    queries = images(6, seed=5)
    assert torch.equal(twin(queries), model(queries))
    # A second journey changes nothing.
    again = classifier(dtype=read, **options)
    again.load_state_dict(twin.state_dict())
    assert torch.equal(again(queries), model(queries))


@pytest.mark.parametrize(
    'option',
    [
        dict(mode='pooled'),
        dict(orthant='abs'),
        dict(num_classes=12),
        dict(feature_plane=dict(basis='random')),
        dict(feature_plane=dict(basis='random', seed=4)),
    ],
)
def test_a_bank_of_another_heads_making_is_refused(option):
    state = fill(classifier(in_checkpoint=True)).state_dict()
    if 'seed' in option.get('feature_plane', {}):
        first = classifier(
            in_checkpoint=True, feature_plane=dict(basis='random')
        )
        state = fill(first).state_dict()
    twin = classifier(**option)
    (name,) = option
    with pytest.raises(ValueError, match=f'head.{name}'):
        twin.load_state_dict(state)
        twin(images(1))  # a plane's own state comes after the bank's


def test_a_learned_plane_travels_with_its_bank():
    plane = dict(basis='learned', seed=1)
    options = dict(plane='feature', kappa=3.0, in_checkpoint=True)
    model = classifier(feature_plane=plane, **options)
    with torch.no_grad():
        model.head.feature_plane.rows += torch.rand(2, 64)
    fill(model)
    twin = classifier(feature_plane=plane, **options)
    twin.load_state_dict(model.state_dict())
    queries = images(6, seed=5)
    assert torch.equal(twin(queries), model(queries))
    with torch.no_grad():
        twin.head.feature_plane.rows += 1
    twin.head.set_bank(MemoryBank())
    with pytest.raises(ValueError, match='head.feature_plane'):
        twin.head.set_bank(model.head.bank)


def test_classes_come_and_go():
    model = fill(classifier())
    queries = images(6, seed=5)
    before = model(queries)
    feats = model.extract_feat(images(2, seed=8), stage='backbone')
    model.head.fill(feats, torch.tensor([4, 4]), torch.tensor([20, 21]))
    assert not torch.equal(model(queries), before)
    model.head.bank.remove(images=[20, 21])
    assert torch.equal(model(queries), before)


@pytest.mark.parametrize('plane', PRIORS)
def test_every_prior_can_be_asked_for(plane):
    assert fill(classifier(plane=plane, kappa=1.0))(images(2)).isfinite().all()
