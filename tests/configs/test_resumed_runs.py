"""What a run that goes on from a checkpoint takes from it, and what not."""

import copy
import pathlib

import numpy as np
import pytest
from digit_runs import build
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from u1_plugin.mm.hooks.whole_checkpoint_hook import plain

FLIP = dict(type='RandomFlip', prob=0.5, direction='horizontal')


def flipping(config: Config, count: int, flip: str, epochs: int) -> Config:
    config = copy.deepcopy(config)
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[-1:-1] = [dict(FLIP) for _ in range(count)]
    config.model.u1 = dict(neck=dict(plane='image', flip=flip))
    config.train_cfg.max_epochs = epochs
    config.resume = epochs > 1
    return config


def test_flips_are_those_of_the_run_and_not_of_its_checkpoint(config, tmp_path):
    build(flipping(config, 1, 'follow', 1)).train()
    again = build(flipping(config, 2, 'follow', 2))
    with pytest.raises(ValueError, match='RandomFlip 2 times'):
        again.train()
    config.work_dir = str(tmp_path / 'other')
    build(flipping(config, 2, 'ignore', 1)).train()
    runner = build(flipping(config, 1, 'follow', 2))
    runner.train()
    assert runner.epoch == 2


def test_metainfo_is_stored_in_plain_types(config):
    names = [f'digit {number}' for number in range(10)]
    config.train_dataloader.dataset.metainfo = dict(
        classes=names, colour=dict(a=[1, 2], b=dict(c=None))
    )
    config.default_hooks.checkpoint.type = 'WholeCheckpointHook'
    build(config).train()
    # A reader that trusts no file, as every tool here is.
    file = f'{config.work_dir}/epoch_1.pth'
    content = load_checkpoint(build(config).model, file)
    for holder in (content['meta'], content['message_hub']['runtime_info']):
        meta = holder['dataset_meta']
        assert type(meta) is dict and list(meta['classes']) == names
        assert type(meta['colour']) is dict
        assert meta['colour'] == dict(a=[1, 2], b=dict(c=None))
    config.resume = True
    config.train_cfg.max_epochs = 2
    runner = build(config)
    runner.train()
    assert runner.epoch == 2


def test_plain_types():
    given = dict(
        classes=np.array(['a', 'b']),
        numbers=np.arange(2),
        name=np.str_('c'),
        file=pathlib.Path('d/e'),
        some=(frozenset({1}), range(2)),
        more=[{2}, None, 1.5, True],
    )
    found = plain(given)
    assert found.pop('numbers') is given['numbers']
    assert found == dict(
        classes=['a', 'b'],
        name='c',
        file='d/e',
        some=([1], [0, 1]),
        more=[[2], None, 1.5, True],
    )
    assert type(found['name']) is type(found['classes'][0]) is str
