"""Maps of a memory's config, and options that go unread there."""

import pytest
import torch
from helpers import build, memory_classifier, memory_config, plain_config
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from u1_plugin.lab.memory_maps import (
    check_count,
    check_unread,
    memory_head,
    read_maps,
)


def test_maps_of_a_config(tmp_path):
    """Each data set once, from any hook; a map of huge numbers stays finite."""
    model = memory_classifier()
    with torch.no_grad():
        model.backbone.layer4[1].bn2.weight.fill_(1e9)
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), weights)
    data = {n: dict(type='Pictures', count=n) for n in (12, 13)}
    loader = dict(batch_size=8, num_workers=0)
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=memory_config(),
            data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
            val_dataloader=dict(loader, dataset=data[13]),
            test_dataloader=dict(loader, dataset=data[13]),
            custom_hooks=[
                dict(type='EMAHook'),
                dict(
                    type='MemoryBankHook',
                    dataloader=dict(loader, dataset=data[12]),
                ),
            ],
        )
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        maps, labels, plane, parts = read_maps(config, str(weights))
    assert parts == dict(
        memory=range(12), val=range(12, 25), test=range(12, 25)
    )
    assert labels.tolist() == [*(i % 10 for i in range(12))] + [
        i % 10 for i in range(13)
    ]
    assert maps.shape == (25, 64, 4, 4) and maps.isfinite().all()
    assert maps.max() > 65504
    torch.testing.assert_close(maps[:12], maps[12:24])
    assert plane.in_channels == 64


def test_an_image_of_two_splits_is_refused(tmp_path):
    """By another spelling of its folder; it would find itself."""
    for label in 'ab':
        folder = tmp_path / 'data' / label
        folder.mkdir(parents=True)
        Image.new('RGB', (32, 32)).save(folder / 'x.png')
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=memory_classifier().state_dict()), weights)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    folders = dict(type='CustomDataset', pipeline=pipeline)
    loader = dict(batch_size=2, num_workers=0)
    first, second = (
        dict(loader, dataset=dict(folders, data_root=f'{tmp_path}/data{end}'))
        for end in ('', '/')
    )
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=memory_config(),
            val_dataloader=first,
            test_dataloader=second,
            custom_hooks=[dict(type='MemoryBankHook', dataloader=first)],
        )
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        with pytest.raises(
            ValueError, match=r"a/x.png' is .* of memory and .* test"
        ):
            read_maps(config, str(weights))
        config.test_dataloader = first
        assert read_maps(config, str(weights))[1].tolist() == [0, 1]


@pytest.mark.parametrize(
    'head, field',
    [
        (dict(mode='pooled'), "mode='pooled'"),
        (dict(width=0.5), 'width=0.5'),
        (dict(kernel='softmax', temperature=0.1), "kernel='softmax'"),
        (dict(protocol='dino'), "protocol='dino'"),
        (dict(engine='faiss:Flat'), "engine='faiss:Flat'"),
        (dict(width=0.5, prior_in='search'), "prior_in='search'"),
    ],
)
def test_another_vote_is_refused(head, field):
    config = dict(model=dict(head=head))
    with pytest.raises(ValueError, match=f'model.head.{field}.* a tool does'):
        check_unread(config, 'a tool')
    plain = dict(
        engine=dict(type='exact'), kernel='uniform', k=3, keep=None, kappa=2.0
    )
    check_unread(dict(model=dict(head=plain)), 'a tool')


def test_a_head_without_a_memory_is_named():
    with pytest.raises(ValueError, match='model.head is LinearClsHead.*must'):
        memory_head(build(plain_config()))
    model = memory_classifier()
    assert memory_head(model) is model.head


def test_as_many_neighbours_as_vectors_are_enough():
    check_count('--k 5', 5, 5)
    with pytest.raises(ValueError, match='--k 6 is more than the 5 vectors'):
        check_count('--k 6', 6, 5)
