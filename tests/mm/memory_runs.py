"""Pictures, a config of a memory of them, and the hook that fills it."""

import copy
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from helpers import memory_config
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS
from PIL import Image

import u1_plugin  # noqa: F401  (registers the components)
from u1_plugin.memory import MemoryBank

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')
TEST = [LOAD, dict(type='Resize', scale=16), PACK]
TRAIN = [LOAD, dict(type='RandomFlip', prob=1.0), PACK]


def pictures(root: Path, seed: int = 0) -> Path:
    """Three classes of three pictures each."""
    rng = np.random.default_rng(seed)
    for name in 'abc':
        (root / name).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f'{number}.png')
    return root


def config_of(folder, **changes) -> Config:
    """A memory of the pictures, and the same pictures as queries."""
    data = dict(
        type='CustomDataset', data_root=str(folder), serialize_data=False
    )
    loader = dict(
        batch_size=4,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    test = dict(loader, dataset=dict(data, pipeline=TEST))
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=memory_config(num_classes=3, k=1),
            data_preprocessor=dict(
                num_classes=3, mean=[127.0] * 3, std=[60.0] * 3, to_rgb=False
            ),
            train_dataloader=dict(
                loader, drop_last=True, dataset=dict(data, pipeline=TRAIN)
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            val_dataloader=test,
            val_evaluator=dict(type='Accuracy'),
            val_cfg=dict(),
            test_dataloader=test,
            test_evaluator=dict(type='Accuracy'),
            test_cfg=dict(),
            custom_hooks=[dict(type='MemoryBankHook')],
            log_level='ERROR',
        )
    )
    config.merge_from_dict(copy.deepcopy(changes))
    return config


def runner_of(config: Config, folder) -> Runner:
    config = copy.deepcopy(config)
    config.work_dir = str(Path(folder).parent / 'work')
    config.experiment_name = os.urandom(8).hex()
    torch.manual_seed(0)
    runner = Runner.from_cfg(config)
    torch.manual_seed(0)
    runner.model.init_weights()
    return runner


class Quick:
    """Model, config and log of a runner, which takes longer to make."""

    def __init__(self, config: Config) -> None:
        self.cfg = config
        self.logger = MMLogger.get_current_instance()
        self.hooks = [HOOKS.build(hook) for hook in config.custom_hooks]
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = dict(
                config.model, data_preprocessor=config.data_preprocessor
            )
            self.model = MODELS.build(model)
        torch.manual_seed(0)
        self.model.init_weights()

    @property
    def test_loop(self):
        return SimpleNamespace(**(self.cfg.test_cfg or {}))

    @property
    def val_loop(self):
        return SimpleNamespace(**(self.cfg.val_cfg or {}))

    @property
    def test_dataloader(self):
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return Runner.build_dataloader(self.cfg.test_dataloader)

    def call_hook(self, name: str, **kwargs) -> None:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            for hook in self.hooks:
                getattr(hook, name)(self, **kwargs)


def filled(folder, changes=None) -> MemoryBank:
    """The bank that the hook makes or reads."""
    runner = Quick(config_of(folder, **(changes or {})))
    runner.call_hook('before_test')
    return runner.model.head.bank


def rows(bank: MemoryBank) -> torch.Tensor:
    return torch.cat(list(bank.blocks()))
