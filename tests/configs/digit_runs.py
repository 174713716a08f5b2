"""Runners of the digits config, and what their hooks write."""

import json
import logging
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

import u1_plugin.lab  # noqa: F401  (registers SubsetDataset)

COUNTS = dict(train=4, val=3, test=3)
HOOKS = [dict(type='EnergyMapHook'), dict(type='AngleStatsHook')]
HOOKS[1]['permutations'] = 9


def build(config: Config, hooks=()) -> Runner:
    config.custom_hooks = list(hooks)
    evaluator = [dict(type='Accuracy')]
    if any(hook['type'] == 'AngleStatsHook' for hook in hooks):
        evaluator.append(dict(type='SymmetryBreaking'))
    for loop in ('val', 'test'):
        if config.get(f'{loop}_dataloader'):
            config[f'{loop}_evaluator'] = evaluator
    # Runners of one name share what they log.
    config.experiment_name = f'run{len(Visualizer._instance_dict)}'
    runner = Runner.from_cfg(config)
    runner.logger.setLevel(logging.ERROR)
    return runner


def summaries(runner: Runner) -> dict:
    files = sorted(Path(runner.log_dir).glob('u1/*/summary.json'))
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def class_angles(runner: Runner) -> dict:
    return json.loads((Path(runner.work_dir) / 'class_angles.json').read_text())
