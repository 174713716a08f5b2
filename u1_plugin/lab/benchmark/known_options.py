"""Finds options of a suite that no part of a config knows."""

import inspect
import re
from functools import cache
from typing import Any, FrozenSet, Iterator, List, Optional

import mmpretrain.registry
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.registry import Registry
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
    TestLoop,
    ValLoop,
)
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

_DATALOADER = {
    'dataset',
    'num_batch_per_epoch',
    'disable_subprocess_warning',
    *inspect.signature(DataLoader.__init__).parameters,
} - {'self'}


def _parameters(*functions: Any) -> FrozenSet[str]:
    names = {n for f in functions for n in inspect.signature(f).parameters}
    return frozenset(names - {'self', 'runner', 'dataloader', 'evaluator'})


#: What MMEngine and MMPretrain's tools read of a config, and of its parts that
#: have no ``type``.
_TOP = _parameters(Runner.__init__) | {
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
}
#: What the benchmark itself decides.
_SET_BY_BENCHMARK = {'work_dir', 'launcher', 'resume', 'experiment_name', 'cfg'}
_READ = _TOP - _SET_BY_BENCHMARK
#: What is taken out of a part before it is built, by the part's place.
_TAKEN = {
    'optim_wrapper': {'constructor', 'paramwise_cfg'},
    'train_cfg': {'by_epoch'},
    'param_scheduler': {'convert_to_iter_based', 'epoch_length', 'verbose'},
    'default_hooks': {'priority'},
    'custom_hooks': {'priority'},
}
_UNTYPED = {
    'optim_wrapper': _parameters(OptimWrapper.__init__)
    | _TAKEN['optim_wrapper'],
    'train_cfg': {'type', 'by_epoch'}
    | _parameters(EpochBasedTrainLoop.__init__, IterBasedTrainLoop.__init__),
    'val_cfg': {'type'} | _parameters(ValLoop.__init__),
    'test_cfg': {'type'} | _parameters(TestLoop.__init__),
    'train_dataloader': _DATALOADER,
    'val_dataloader': _DATALOADER,
    'test_dataloader': _DATALOADER,
    'auto_scale_lr': {'enable', 'base_batch_size'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'optim_wrapper.clip_grad': {'type'}
    | (_parameters(clip_grad_norm_, clip_grad_value_) - {'parameters'}),
    # Of MMEngine's constructor, and of MMPretrain's, which has decay by layer.
    'optim_wrapper.paramwise_cfg': {
        'custom_keys',
        'bias_lr_mult',
        'bias_decay_mult',
        'norm_decay_mult',
        'flat_decay_mult',
        'dwconv_decay_mult',
        'dcn_offset_lr_mult',
        'bypass_duplicate',
        'layer_decay_rate',
    },
    # The seed is the run's.
    'randomness': {'deterministic', 'diff_rank_seed'},
}
#: Constructors of optimizers whose ``paramwise_cfg`` is known.
_DECAYS = (
    None,
    'DefaultOptimWrapperConstructor',
    'LearningRateDecayOptimWrapperConstructor',
)
#: Their parts are not MMEngine's.
_FOREIGN = {'Albu', 'Albumentations'}


def check_options(where: str, before: dict, after: dict) -> None:
    """Raise ValueError if options are none that the config knows.

    Args:
        where (str): The field that gave the options, for messages.
        before (dict): The config without them.
        after (dict): The config with them.
    """
    for name in sorted(after):
        if name == 'plain_model' or before.get(name) == after[name]:
            continue
        if name not in _READ:
            raise ValueError(
                f'{where}: {name!r} is nothing that training reads, or the '
                'benchmark decides it; name a part of the config, such as '
                'optim_wrapper.optimizer.lr'
            )
        if name != 'model':  # the model will be built
            _compare(where, name, before.get(name), after[name])


def _compare(where: str, path: str, before: Any, after: Any) -> None:
    """Check what ``after`` has and ``before`` has not."""
    if isinstance(after, (list, tuple)):
        olds = before if isinstance(before, (list, tuple)) else ()
        for i, part in enumerate(after):
            old = olds[i] if i < len(olds) else None
            _compare(where, f'{path}[{i}]', old, part)
    if not isinstance(after, dict):
        return
    old = before if isinstance(before, dict) else {}
    same = old.get('type') == after.get('type')
    valid_names = _known(where, path, after.get('type'))
    for key, value in after.items():
        name = f'{path}.{key}'
        _check_kind(where, name, old.get(key) if same else None, value)
        if valid_names is not None and key not in valid_names:
            # What the config has already must be right, but the seed is ours.
            ours = path == 'randomness' and old.get(key) != value
            if not same or key not in old or ours:
                raise ValueError(
                    f'{where}: the option {name}={value!r} is not known; '
                    f'use one of {", ".join(sorted(valid_names))}'
                )
        foreign = after.get('type') in _FOREIGN or (
            key == 'paramwise_cfg' and after.get('constructor') not in _DECAYS
        )
        if not foreign:
            _compare(where, name, old.get(key) if same else None, value)


def _check_kind(where: str, name: str, old: Any, value: Any) -> None:
    """Raise ValueError where a number becomes a truth value or text."""
    is_number = type(old) in (int, float)
    if is_number and isinstance(value, (bool, str)):
        raise ValueError(
            f'{where}: {name}={value!r} takes the place of the number {old!r}; '
            'give a number'
        )


def _known(where: str, path: str, kind: Any) -> Optional[FrozenSet[str]]:
    """Options of a part of a config; None if any may be."""
    # Of clip_grad the type is the kind of norm, and nothing registered.
    if not isinstance(kind, str) or path == 'optim_wrapper.clip_grad':
        return _UNTYPED.get(path)
    classes = _classes(kind)
    if not classes:
        raise ValueError(
            f'{where}: {path}.type={kind!r} is registered nowhere; correct '
            'the name, or import its module with custom_imports'
        )
    options = [_options(part) for part in classes]
    if None in options:
        return None
    taken = _TAKEN.get(re.split(r'[.[]', path)[0], set())
    return frozenset({'type', '_scope_'}).union(taken, *options)


@cache
def _classes(kind: str) -> tuple:
    """Whatever is registered under a name, in any registry."""
    registries = [
        value
        for value in vars(mmpretrain.registry).values()
        if isinstance(value, Registry)
    ]
    classes: List[Any] = []
    for registry in registries:
        part = registry.get(kind)
        if part is not None and part not in classes:
            classes.append(part)
    return tuple(classes)


@cache
def _options(part: Any) -> Optional[FrozenSet[str]]:
    """Names of a class's or function's options; None if it takes any."""
    names: set = set()
    for function in _signatures(part):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # written in C
            return None
        names |= {p.name for p in parameters}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return frozenset(names - {'self'})
    return None


def _signatures(part: Any) -> Iterator[Any]:
    """Where options may go: on to the next class, as long as any may be."""
    if not inspect.isclass(part):
        yield part
        return
    for base in part.__mro__[:-1]:
        if '__init__' in vars(base):
            yield base.__init__
    if issubclass(part, CheckpointHook):  # hands on what it does not know
        yield Runner.save_checkpoint
