"""Kernels, protocols and engines as options of the head."""

import logging

import numpy as np
import pytest
import torch
from helpers import images, memory_classifier, samples
from hypothesis import given
from hypothesis import strategies as st
from mmengine.config import Config

from u1_plugin.memory import FaissEngine, Kernel, VotingRule
from u1_plugin.mm.memory_bank_head import MemoryBankHead

CLASSES = 10
PRESET = dict(
    mode='pooled',
    k=20,
    metric='cosine',
    kernel='softmax',
    temperature=0.07,
    kappa=0.0,
)


def weighted_knn(features, labels, queries, k, temperature) -> np.ndarray:
    """Scores of DINO's k-NN (arXiv 2104.14294, appendix F.1), by NumPy.

    Of each query the k features with the greatest cosines vote for their
    classes with ``exp(cosine / T)``.
    """
    features, queries = (
        part / np.linalg.norm(part, axis=1, keepdims=True)
        for part in (features.astype(float), queries.astype(float))
    )
    scores = np.zeros((len(queries), CLASSES))
    for row, cosines in enumerate(queries @ features.T):
        for index in np.argsort(-cosines, kind='stable')[:k]:
            scores[row, labels[index]] += np.exp(cosines[index] / temperature)
    return scores


def small_head(**options) -> MemoryBankHead:
    return MemoryBankHead(**dict(num_classes=CLASSES, in_channels=6) | options)


def filled(head, features, labels) -> MemoryBankHead:
    """Maps of one pixel: the features themselves."""
    maps = torch.from_numpy(features)[..., None, None]
    head.fill((maps,), torch.from_numpy(labels), torch.arange(len(labels)))
    return head


def drawn(seed: int, count=90, asked=25):
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(count, 6)).astype(np.float32)
    queries = generator.normal(size=(asked, 6)).astype(np.float32)
    return features, generator.integers(0, CLASSES, count), queries


def test_the_protocols_own_numbers_may_be_numpys():
    head = small_head(protocol='dino', k=np.int64(20))
    assert head.k == 20
    with pytest.raises(ValueError, match='has k=20; take that'):
        small_head(protocol='dino', k=np.int64(10))


@given(st.integers(0, 2**32 - 1))
def test_dino_is_an_independent_weighted_knn(seed):
    features, labels, queries = drawn(seed)
    head = small_head(protocol='dino', orthant='identity')
    filled(head, features, labels)
    found = head((torch.from_numpy(queries)[..., None, None],))
    wanted = weighted_knn(features, labels, queries, 20, 0.07)
    assert (found.argmax(1).numpy() == wanted.argmax(1)).all()
    shares = wanted / wanted.sum(1, keepdims=True)
    np.testing.assert_allclose(found.exp().numpy(), shares, atol=2e-6)


def test_dino_is_the_knn_of_lightly():
    knn = pytest.importorskip('lightly.utils.benchmarking.knn')
    for seed in range(5):
        features, labels, queries = drawn(seed)
        head = small_head(protocol='dino', orthant='identity')
        filled(head, features, labels)
        found = head((torch.from_numpy(queries)[..., None, None],))
        one, two = (
            torch.nn.functional.normalize(torch.from_numpy(part), dim=1)
            for part in (features, queries)
        )
        classes = torch.from_numpy(labels)
        wanted = knn.knn_predict(two, one.T, classes, CLASSES, 20, 0.07)
        assert torch.equal(found.argmax(1), wanted[:, 0])


def test_dino_of_a_network_s_maps():
    """The mean over a map's pixels, of real images' features."""
    model = memory_classifier(protocol='dino')
    (feats,) = model.extract_feat(images(40), stage='backbone')
    labels = torch.arange(40) % CLASSES
    model.head.fill((feats,), labels, torch.arange(40))
    queries = images(6, seed=5)
    (asked,) = model.extract_feat(queries, stage='backbone')
    pooled = [m.detach().relu().mean((2, 3)).numpy() for m in (feats, asked)]
    wanted = weighted_knn(pooled[0], labels.numpy(), pooled[1], 20, 0.07)
    found = model.predict(queries, samples(6))
    assert [int(s.pred_label) for s in found] == wanted.argmax(1).tolist()


def test_a_protocol_is_its_options():
    head = small_head(protocol='dino')
    assert (head.k, head.mode, head.metric) == (20, 'pooled', 'cosine')
    assert head.rule == VotingRule('image', 0.0, 0.5, Kernel('softmax', 0.07))
    same = small_head(protocol='dino', **PRESET)
    spelled = small_head(**PRESET)
    assert same.rule == spelled.rule == head.rule
    assert head.protocol == 'dino' and spelled.protocol is None
    engine = dict(type='exact', dtype='float16')
    free = small_head(protocol='dino', engine=engine, dtype='uint8', seed=3)
    assert free.rule == head.rule and free.engine.dtype == 'float16'
    # By position, as Python allows.
    assert MemoryBankHead(CLASSES, 6, 20, protocol='dino').k == 20
    with pytest.raises(ValueError, match='head.k=10: model.head.protocol'):
        MemoryBankHead(CLASSES, 6, 10, protocol='dino')


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(k=10), "head.k=10: model.head.protocol='dino' has k=20; "),
        (dict(mode='pixel'), "head.mode='pixel': model.head.protocol="),
        (dict(metric='l2'), "head.metric='l2': model.head.protocol="),
        (dict(kernel='uniform'), "head.kernel='uniform': model.head.protocol="),
        (dict(temperature=0.1), 'head.temperature=0.1: model.head.protocol='),
        (dict(kappa=2.0), 'head.kappa=2.0: model.head.protocol='),
        (dict(plane='position'), "head.plane='position': model.head.protocol="),
        (
            dict(prior_in='search'),
            "head.prior_in='search': model.head.protocol=",
        ),
        (dict(k='20'), "head.k='20'"),
        (dict(k=None), 'head.k=None'),
        (dict(k=np.arange(2)), 'head.k='),
        (dict(kappa=False), 'head.kappa=False must be'),
        (dict(width=0.3), 'head.width=0.3 is not read by model.head.kernel'),
        (
            dict(k=5, kappa=1.0),
            'head.k=5, model.head.kappa=1.0: model.head.protocol=',
        ),
        (dict(protocol='moco'), "head.protocol='moco' must be 'dino' or None"),
        (dict(protocol=3), 'head.protocol=3'),
    ],
)
def test_what_contradicts_a_protocol_is_named(options, words):
    with pytest.raises(ValueError) as caught:
        small_head(**dict(protocol='dino') | options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(kernel='box'), "head.kernel='box'"),
        (dict(kernel='gaussian'), 'head.width=None, but model.head.kernel='),
        (dict(kernel='softmax'), 'head.temperature=None, but model.head.ker'),
        (dict(kernel='uniform', width=1.0), 'head.width=1.0 is not read by'),
        (dict(width=1.0, temperature=0.1), 'head.temperature=0.1 is not read'),
        (dict(temperature=0.0), 'head.temperature=0.0 must be'),
        (dict(temperature=0.1, metric='l2'), "head.metric='l2' has no cosine"),
        (dict(prior_in='search'), 'a temperature (is None)'),
        (
            dict(engine=dict(type='faiss', factory='IVF4,Flat', nprobe=0)),
            'model.head.engine.nprobe=0 must be an integer >= 1',
        ),
        (
            dict(engine=dict(type='faiss', factory='HNSW8', nprobe=16)),
            "model.head.engine.nprobe=16 is not read by factory='HNSW8'",
        ),
        (
            dict(engine=dict(type='exact', nprobe=16)),
            'model.head.engine.nprobe=16 is no option of',
        ),
        (dict(engine=dict(nprobe=16)), 'model.head.engine.type must be'),
    ],
)
def test_options_that_do_not_fit_are_refused_when_built(options, words):
    if 'faiss' in str(options):
        pytest.importorskip('faiss')
    with pytest.raises(ValueError) as caught:
        small_head(**options)
    assert words in str(caught.value)


def test_the_temperature_sharpens_the_vote():
    """The nearest of 40 wins at a low one, the many at a high one."""
    features, labels, queries = drawn(0)
    maps = torch.from_numpy(queries)[..., None, None]
    options = dict(mode='pooled', k=40, orthant='identity')
    guess = {}
    for name, more in dict(
        one=dict(k=1),
        cold=dict(temperature=1e-4),
        hot=dict(temperature=1e4),
        plain=dict(kernel='uniform'),
    ).items():
        head = filled(small_head(**options | more), features, labels)
        guess[name] = head((maps,))
    assert torch.equal(guess['one'].argmax(1), guess['cold'].argmax(1))
    torch.testing.assert_close(guess['hot'], guess['plain'], atol=1e-3, rtol=0)
    assert not torch.equal(guess['hot'].argmax(1), guess['cold'].argmax(1))


def test_a_softmax_vote_may_be_searched_for():
    model = memory_classifier(prior_in='search', temperature=0.1, kappa=2.0)
    (feats,) = model.extract_feat(images(20), stage='backbone')
    model.head.k = 20 * 16  # all pixels: both ways count every vote
    model.head.fill((feats,), torch.arange(20) % CLASSES, torch.arange(20))
    early = model(images(6, seed=5))
    model.head.prior_in = 'vote'
    torch.testing.assert_close(model(images(6, seed=5)), early)


@pytest.fixture
def records():
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logging.getLogger('u1_plugin').addHandler(handler)
    yield kept
    logging.getLogger('u1_plugin').removeHandler(handler)


def test_the_log_says_who_votes_and_how(records):
    features, labels, queries = drawn(0)
    maps = torch.from_numpy(queries)[..., None, None]
    head = filled(small_head(protocol='dino'), features, labels)
    head((maps,)), head((maps,))
    (record,) = records
    assert record.getMessage() == (
        'memory: 90 pixels, exact; k 20, metric cosine, kernel softmax, '
        'T 0.07, plane image, kappa 0'
    )


def test_nprobe_of_a_config(records):
    """Reached by ``--cfg-options``, and chosen for the head's own k."""
    pytest.importorskip('faiss')
    features, labels, queries = drawn(0)
    maps = torch.from_numpy(queries)[..., None, None]
    engine = dict(type='faiss', factory='IVF8,Flat')
    config = Config(dict(model=dict(head=dict(engine=engine))))
    config.merge_from_dict({'model.head.engine.nprobe': 3})
    head = small_head(**config.model.head)
    assert head.engine == FaissEngine('IVF8,Flat', 3)
    tuned = small_head(engine=dict(engine, recall=0.9), k=4)
    for one in (head, tuned):
        filled(one, features, labels)((maps,))
    first, last = (r for r in map(str, map(_text, records)) if '; k' in r)
    assert 'nprobe 3 of 8 cells, recall@10' in first
    assert 'recall@4' in last and tuned._memory.k == 4
    memory = tuned._memory
    tuned((maps,))
    assert tuned._memory is memory
    tuned.k = 7  # another recall is asked for
    tuned((maps,))
    assert tuned._memory.k == 7


def _text(record: logging.LogRecord) -> str:
    return record.getMessage()


def test_an_engine_that_does_not_fit_the_bank_is_named():
    pytest.importorskip('faiss')
    features, labels, queries = drawn(0)
    head = filled(small_head(engine='faiss:IVF91,Flat'), features, labels)
    with pytest.raises(ValueError, match='model.head.engine.*fit 90 vectors'):
        head((torch.from_numpy(queries)[..., None, None],))
