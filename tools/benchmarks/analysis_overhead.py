"""What the hooks and the metric of the analysis cost a validation.

The same network validates on the same seeded images, plain and with each
addition; the arms take turns, so that a busy machine slows all alike. Seconds
are split into the loop over the images, where the additions read the maps,
and the report after it: statistics, pictures and files. Ratios are paired:
each turn's arm against the same turn's plain arm. Without a GPU, seconds are
the processor's, which other processes lengthen less than the clock's.
"""

import argparse
import json
import logging
import platform
import tempfile
from typing import Dict, List

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from rich.console import Console
from rich.table import Table
from torch.utils.data import Dataset

import u1_plugin  # noqa: F401  (registers the components)
from u1_plugin.files import new_file, new_path
from u1_plugin.lab.alternation import now
from u1_plugin.lab.command import at_least

#: Hooks and metrics of each arm.
ARMS = {
    'plain': ([], []),
    'EnergyMapHook': ([dict(type='EnergyMapHook')], []),
    'AngleStatsHook': ([dict(type='AngleStatsHook')], []),
    'with SymmetryBreaking': (
        [dict(type='AngleStatsHook')],
        [dict(type='SymmetryBreaking')],
    ),
    'all': (
        [
            dict(type='EnergyMapHook'),
            dict(type='AngleStatsHook'),
            dict(type='U1VisualizationHook', enable=True, interval=32),
        ],
        [dict(type='SymmetryBreaking')],
    ),
}


class Pictures(Dataset):
    """Seeded noise, held in memory, with labels in turn."""

    def __init__(self, count: int, size: int, classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (count, 3, size, size)
        self.inputs = torch.rand(shape, generator=generator) * 255
        self.classes = classes
        self.metainfo = dict(classes=[str(k) for k in range(classes)])

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict:
        sample = DataSample().set_gt_label(index % self.classes)
        return dict(inputs=self.inputs[index], data_samples=sample)


class Stopwatch(Hook):
    """Seconds of the loop over the images, and of what comes after it."""

    priority = 'VERY_LOW'

    def before_val_epoch(self, runner: Runner) -> None:
        self._start = self._last = now()

    def after_val_iter(self, runner: Runner, *args, **kwargs) -> None:
        self._last = now()

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        self.loop = self._last - self._start
        self.report = now() - self._last


def _runner(arm: str, options: argparse.Namespace, folder: str, data) -> Runner:
    hooks, metrics = ARMS[arm]
    backbone = dict(type='ResNet', depth=options.depth)
    head = dict(
        type='LinearClsHead',
        num_classes=options.classes,
        in_channels=512 if options.depth < 50 else 2048,
    )
    runner = Runner(
        model=dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=head,
            data_preprocessor=dict(
                type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3
            ),
        ),
        work_dir=f'{folder}/{arm}',
        experiment_name=f'overhead-{arm}',
        val_dataloader=dict(
            dataset=data,
            batch_size=options.batch,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        val_cfg=dict(),
        val_evaluator=[dict(type='Accuracy'), *metrics],
        custom_hooks=[*hooks, Stopwatch()],
        default_scope='mmpretrain',
        randomness=dict(seed=0),
        log_level='ERROR',
    )
    runner.logger.setLevel(logging.ERROR)
    return runner


def _stopwatch(runner: Runner) -> Stopwatch:
    (stopwatch,) = (
        hook for hook in runner.hooks if isinstance(hook, Stopwatch)
    )
    return stopwatch


def measure(options: argparse.Namespace) -> Dict[str, Dict[str, List[float]]]:
    """Seconds of each arm: ``loop`` and ``report``, one a turn."""
    data = Pictures(options.images, options.size, options.classes)
    with tempfile.TemporaryDirectory() as folder:
        runners = {arm: _runner(arm, options, folder, data) for arm in ARMS}
        seconds = {arm: dict(loop=[], report=[]) for arm in ARMS}
        for turn in range(-1, options.repeat):
            for arm, runner in runners.items():
                runner.val()
                if turn < 0:  # what is loaded or prepared once
                    continue
                watch = _stopwatch(runner)
                seconds[arm]['loop'].append(watch.loop)
                seconds[arm]['report'].append(watch.report)
    return seconds


def _spread(values: np.ndarray, digits: int) -> str:
    low, middle, high = (
        f'{value:.{digits}f}'
        for value in (values.min(), np.median(values), values.max())
    )
    return f'{middle} ({low}..{high})'


def show(seconds: Dict[str, Dict[str, List[float]]], console: Console) -> None:
    """Print each arm's seconds, and its loops' ratios to the plain ones."""
    table = Table('arm', 'loop (s)', 'report (s)', 'ratio of loops')
    plain = np.array(seconds['plain']['loop'])
    for arm, times in seconds.items():
        loop, report = np.array(times['loop']), np.array(times['report'])
        table.add_row(
            arm,
            _spread(loop, 2),
            _spread(report, 2),
            _spread(loop / plain, 2),
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Overhead of the analysis on a validation'
    )
    count = at_least(1)
    parser.add_argument('--depth', type=int, default=18, choices=[18, 34, 50])
    parser.add_argument('--images', type=count, default=128)
    parser.add_argument('--size', type=count, default=224)
    parser.add_argument('--batch', type=count, default=32)
    parser.add_argument('--classes', type=count, default=10)
    parser.add_argument('--repeat', type=count, default=5)
    parser.add_argument('--threads', type=count, default=2)
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds = measure(options)
    show(seconds, Console())
    if options.out:
        setting = {k: v for k, v in vars(options).items() if k != 'out'}
        content = dict(setting, machine=platform.processor(), seconds=seconds)
        with new_file(options.out, '--out') as part:
            part.write_text(json.dumps(content, indent=2))


if __name__ == '__main__':
    main()
