"""Options and misuse of the memory head are named."""

import pytest
import torch
from helpers import images, samples
from memory_heads import classifier, fill, small_head, unit_maps

from u1_plugin.memory import MemoryBank

NAN, INF = float('nan'), float('inf')


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(k=0), 'head.k=0'),
        (dict(k='3'), "head.k='3'"),
        (dict(k=True), 'head.k=True'),
        (dict(k=2.0), 'head.k=2.0'),
        (dict(num_classes=0), 'head.num_classes=0'),
        (dict(in_channels=None), 'head.in_channels=None'),
        (dict(kappa=-1.0), 'head.kappa=-1'),
        (dict(kappa=NAN), 'head.kappa=nan'),
        (dict(kappa=INF), 'head.kappa=inf'),
        (dict(kappa='2'), "head.kappa='2'"),
        (dict(sigma=NAN), 'head.sigma=nan'),
        (dict(sigma=0), 'head.sigma=0'),
        (dict(width=NAN), 'head.width=nan'),
        (dict(width=INF), 'head.width=inf'),
        (dict(width=0.0), 'head.width=0.0'),
        (dict(keep=0), 'head.keep=0'),
        (dict(keep=1.5), 'head.keep=1.5'),
        (dict(plane='hue'), "head.plane='hue'"),
        (dict(mode='image'), "head.mode='image'"),
        (dict(metric='l1'), "head.metric='l1'"),
        (dict(orthant='sigmoid'), "head.orthant='sigmoid'"),
        (dict(dtype='int4'), "head.dtype='int4'"),
        (dict(coreset=0.0), 'head.coreset=0.0'),
        (dict(coreset=1.01), 'head.coreset=1.01'),
        (dict(mode='pooled', keep=3), 'head.keep=3'),
        (dict(protocol='dino', k=20, keep=3), 'head.keep=3'),
        (dict(coreset=0.1, coreset_sample=1.5), 'head.coreset_sample=1.5'),
        (dict(coreset=0.2, coreset_sample=0.1), 'head.coreset_sample=0.1'),
        (dict(coreset_sample=0.1), 'head.coreset=None'),
        (dict(seed=-1), 'head.seed=-1'),
        (dict(in_checkpoint='yes'), "head.in_checkpoint='yes'"),
        (dict(engine='exakt'), "head.engine='exakt'"),
        (dict(engine=3), 'head.engine=3'),
        (dict(prior_in='bank'), "head.prior_in='bank'"),
        (dict(prior_in='search'), 'width (is None)'),
        (dict(prior_in='search', width=1.0, engine='faiss:Flat'), 'exact'),
        (dict(feature_plane=3), 'head.feature_plane=3'),
        (
            dict(feature_plane=dict(basis='fourrier')),
            'head.feature_plane.basis',
        ),
        (dict(feature_plane=dict(windings=(1, 2))), 'head.feature_plane.win'),
        (dict(feature_plane=dict(type='Plain')), 'head.feature_plane.type'),
        (
            dict(feature_plane=dict(basis='pca', file='none.npz')),
            'head.feature_plane.file',
        ),
    ],
)
def test_bad_options_are_refused_when_built(options, words):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        small_head(**options)
    assert words in str(caught.value)


def test_an_unknown_factory_is_refused_when_built():
    pytest.importorskip('faiss')
    with pytest.raises(ValueError, match="head.engine='faiss:Nonsense'"):
        small_head(engine='faiss:Nonsense')


def test_misuse_is_named():
    model = classifier()
    with pytest.raises(ValueError, match='head.bank is empty.*MemoryBankHook'):
        model(images())
    with pytest.raises(RuntimeError, match='nothing to train'):
        model.loss(images(), samples())
    with pytest.raises(ValueError, match=r'model.neck=None'):
        model.head((torch.rand(2, 64),))
    feats = model.extract_feat(images(20), stage='backbone')
    with pytest.raises(ValueError, match='labels 0..19'):
        model.head.fill(feats, torch.arange(20), torch.arange(20))
    for labels in (torch.arange(7), torch.rand(20)):
        with pytest.raises(ValueError, match='labels'):
            model.head.fill(feats, labels, torch.arange(20))
    with pytest.raises(ValueError, match=r'labels=\[0, 1\] must be a Tensor'):
        model.head.fill(feats, [0, 1], torch.arange(2))
    for wrong in (None, [], [3], (torch.ones(2, 64, 4, 4).cfloat(),)):
        with pytest.raises(ValueError, match='feats must be a tensor of real'):
            model.head.fill(wrong, torch.arange(2), torch.arange(2))
    assert not len(model.head.bank)
    other = fill(classifier()).head.bank
    small = small_head(num_classes=10, in_channels=32)
    with pytest.raises(ValueError, match='64 channels.*32'):
        small.set_bank(other)
    small.set_bank(MemoryBank())


@pytest.mark.parametrize('bank', [None, 'bank.safetensors'])
def test_what_is_no_bank_is_refused_by_name(bank):
    with pytest.raises(ValueError, match=r'model\.head\.bank='):
        small_head().set_bank(bank)


@pytest.mark.parametrize(
    'labels, words',
    [
        (torch.tensor(1), r'labels \(\) of torch.int64 must be'),
        (torch.tensor([float('nan')]), r'labels \(1,\) of torch.float32 must'),
        (torch.tensor([True]), 'of torch.bool must be'),
        (torch.tensor([8]), r'labels 8\.\.8 do not fit'),
    ],
)
def test_labels_of_a_batch_are_checked(labels, words):
    with pytest.raises(ValueError, match=words):
        small_head().fill(unit_maps(0), labels, torch.tensor([0]))


def test_a_batch_of_other_options_does_not_join_a_bank():
    head, zero = small_head(), torch.tensor([0])
    head.fill(unit_maps(0), zero, zero)
    other = small_head(orthant='abs')
    other.bank = head.bank
    with pytest.raises(ValueError, match='head.orthant=abs .*relu'):
        other.fill(unit_maps(1), zero, zero)
    assert len(head.bank) == 1


@pytest.mark.parametrize(
    'options, field',
    [
        (dict(sigma=0.3), 'model.head.sigma=0.3'),
        (dict(plane='position', kappa=2.0), 'model.head.kappa=2.0'),
        (dict(seed=4), 'model.head.seed=4'),
        (dict(plane='radius', sigma=0.3), None),
        (dict(plane='shuffled', kappa=2.0, seed=4), None),
        (dict(coreset=0.5, seed=4), None),
    ],
)
def test_an_option_that_is_not_read_is_spoken_of(options, field, messages):
    classifier(**options)
    assert [message.partition(' ')[0] for message in messages] == (
        [field] if field else []
    )
