"""Configs, options and results of the command line that trains."""

import re
from pathlib import Path

from mmengine.runner.checkpoint import CheckpointLoader

BASELINE = 'configs/digits/resnet18-narrow_1xb64_digits.py'
U1 = 'configs/digits/resnet18-narrow_1xb64_digits_u1.py'


def options(epochs: int, *more: str) -> list:
    return [
        '--cfg-options',
        f'train_cfg.max_epochs={epochs}',
        'default_hooks.logger.interval=1',
        'default_hooks.checkpoint.interval=1',
        *more,
    ]


def load(folder: Path, epoch: int) -> dict:
    # MMEngine's own loader: forks of it manage torch's allow-list themselves.
    return CheckpointLoader.load_checkpoint(str(folder / f'epoch_{epoch}.pth'))


def losses(output: str) -> list:
    found = re.findall(r'loss: (\S+)  loss_u1: (\S+)', output)
    return [float(value) for pair in found for value in pair]
