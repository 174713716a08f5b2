"""Small runners for hooks and metrics, and what they write."""

import json
import logging
from pathlib import Path

from helpers import Pictures, u1_config
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer


class Spy(Hook):
    """Counts the forward hooks that a training step and the end find."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.counts: list = []

    def _count(self, runner) -> None:
        self.counts.append(
            sum(len(m._forward_hooks) for m in runner.model.modules())
        )

    def after_train_iter(self, runner, *args, **kwargs) -> None:
        self._count(runner)

    def before_val_iter(self, runner, *args, **kwargs) -> None:
        self._count(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._count(runner)


def loader(count: int, batch: int, size: int = 32) -> dict:
    return dict(
        dataset=Pictures(count, size),
        batch_size=batch,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'),
    )


def make_runner(
    folder,
    hooks,
    metrics=(),
    epochs=1,
    neck=None,
    model=None,
    size=32,
    **settings,
) -> Runner:
    model = Config(model or u1_config(neck=neck))._cfg_dict
    model.data_preprocessor = dict(
        type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3
    )
    runner = Runner(
        model=model,
        work_dir=str(folder),
        experiment_name=f'{Path(folder).name}-{len(Visualizer._instance_dict)}',
        train_dataloader=loader(12, 12, size),
        train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        val_dataloader=loader(23, 5, size),
        val_cfg=dict(),
        val_evaluator=[dict(type='Accuracy'), *metrics],
        test_dataloader=loader(23, 5, size),
        test_cfg=dict(),
        test_evaluator=[dict(type='Accuracy'), *metrics],
        custom_hooks=list(hooks),
        default_scope='mmpretrain',
        log_level='ERROR',
        randomness=dict(seed=0),
        **settings,
    )
    runner.logger.setLevel(logging.ERROR)
    return runner


def summary_file(runner: Runner, name: str) -> dict:
    file = Path(runner.log_dir) / 'u1' / name / 'summary.json'
    return json.loads(file.read_text())
