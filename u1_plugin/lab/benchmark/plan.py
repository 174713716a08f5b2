"""Finds before the first run what would only show in it."""

import logging
import math
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Dict, List

import torch
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS

from ...mm.data import type_name
from ...mm.launch import die_with
from ..weights import model_config
from .expand import MEASURED
from .runs import Run

#: What must be counts, by part of a config.
_COUNTS = {
    'train_cfg': ('max_epochs', 'max_iters', 'val_interval'),
    'train_dataloader': ('batch_size',),
    'val_dataloader': ('batch_size',),
    'test_dataloader': ('batch_size',),
}
_PLUGIN_LOG = logging.getLogger('u1_plugin')


def check_plan(runs: List[Run]) -> None:
    """Build the model of every arm once, in a process of its own.

    Raises:
        ValueError: If a model cannot be built, a config holds what cannot be
            written, or its validation gives no accuracy.
    """
    first: Dict[tuple, Run] = {}
    for run in runs:
        first.setdefault((run.config, run.arm), run)
    # What a network leaves behind (threads, memory) would be forked with it.
    context = get_context('fork')
    with ProcessPoolExecutor(1, context, die_with, (os.getpid(),)) as pool:
        pool.submit(_check_runs, list(first.values())).result()


def _check_runs(runs: List[Run]) -> None:
    torch.set_num_threads(1)
    for logger in (MMLogger.get_current_instance(), _PLUGIN_LOG):
        logger.setLevel(logging.ERROR)
    lengths: Dict[str, Run] = {}
    for run in runs:
        where = f'suite: {run.config}/{run.arm}'
        _check_counts(where, run.values)
        _check_equal_length(where, run, lengths.setdefault(run.config, run))
        _check_writable(where, run.values)
        _check_accuracy(where, run.values)
        _check_length(where, run.values)
        _check_model(where, run.values)


def _check_writable(where: str, value: Any) -> None:
    """Whether Python reads a config back that is written as text."""
    if isinstance(value, dict):
        for key, part in value.items():
            _check_writable(f'{where}.{key}', part)
    elif isinstance(value, (list, tuple, set)):
        for part in value:
            _check_writable(where, part)
    elif not isinstance(value, (str, bytes, int, float, type(None))) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError(
            f'{where}={value!r} cannot be written into a config file; use '
            'numbers that are finite, strings, lists and mappings'
        )


def _check_accuracy(where: str, values: dict) -> None:
    if values.get('val_cfg') is None:
        return
    evaluators = values.get('val_evaluator') or []
    for evaluator in (
        evaluators if isinstance(evaluators, list) else [evaluators]
    ):
        if type_name(evaluator) == 'Accuracy':
            topk = evaluator.get('topk', (1,))
            if 1 in ([topk] if isinstance(topk, int) else topk):
                return
    raise ValueError(
        f'{where}: val_evaluator={evaluators!r} has no Accuracy with topk=1, '
        'which the table shows'
    )


def _check_length(where: str, values: dict) -> None:
    for hook in values.get('custom_hooks') or []:
        if type_name(hook) == 'EarlyStoppingHook':
            raise ValueError(
                f'{where}: custom_hooks has EarlyStoppingHook, by which arms '
                'end at different epochs and are no pairs; leave it out, and '
                'set train_cfg.max_epochs for all'
            )


def _check_counts(where: str, values: dict) -> None:
    """What MMEngine counts with is whole, and at least 1."""
    for part, names in _COUNTS.items():
        for name in names:
            value = (values.get(part) or {}).get(name, 1)
            if type(value) is not int or value < 1:
                raise ValueError(
                    f'{where}: {part}.{name}={value!r} must be a whole number '
                    'of at least 1'
                )


def _check_equal_length(where: str, run: Run, first: Run) -> None:
    for name in ('by_epoch', 'max_epochs', 'max_iters'):
        value, other = (
            (one.values.get('train_cfg') or {}).get(name)
            for one in (run, first)
        )
        if value != other:
            raise ValueError(
                f'{where}: train_cfg.{name}={value!r}, but {first.arm} has '
                f'{other!r}: arms of different lengths are no pairs; set it '
                'for the whole entry in suite.configs'
            )


def _check_model(where: str, values: dict) -> None:
    model = model_config(values)
    angles = (model.get('u1') or {}).get('class_angles') or {}
    if angles.get('file') == MEASURED:  # by a run that is still to come
        model['u1']['class_angles'] = dict(mode='uniform')
    try:
        MODELS.build(model)
    except Exception as error:
        raise ValueError(
            f'{where}: the model cannot be built: '
            f'{type(error).__name__}: {error}'
        ) from error
