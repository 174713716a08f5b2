"""What the process remembers, put back after each test and each file."""

import logging
import multiprocessing
import os
import random
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List

import numpy as np
import torch
from mmengine.registry import Registry, root
from mmengine.utils import ManagerMixin

import u1_plugin.mm.registration  # noqa: F401  (before anything is noted)
from u1_plugin.mm.data import forget_copies


@contextmanager
def isolated(temporary: Path) -> Iterator[None]:
    """Starts from one seed and no instances; leaves nothing behind.

    pytest itself puts the filters of warnings back.

    Args:
        temporary (Path): Modules imported from below it are forgotten.
    """
    with ExitStack() as stack:
        stack.callback(_forget_modules, temporary, list(sys.path))
        for restore in (_torch(), _logging(), _registries(), _matplotlib()):
            stack.callback(restore)
        stack.callback(_restore_environment, dict(os.environ), os.getcwd())
        start = multiprocessing.get_start_method(allow_none=True)
        stack.callback(multiprocessing.set_start_method, start, force=True)
        stack.callback(np.seterr, **np.geterr())
        stack.callback(_reset)
        _reset()
        yield


def _reset() -> None:
    """What starts anew rather than as it was found."""
    forget_copies()  # tests build data sets as a user does, without it
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    if 'torch._dynamo' in sys.modules:  # or it would recall other sizes
        torch._dynamo.reset()
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    for cls in _subclasses(ManagerMixin):
        for instance in cls._instance_dict.values():
            for handler in getattr(instance, 'handlers', []):
                handler.close()
        cls._instance_dict.clear()


def _subclasses(cls: type) -> Iterator[type]:
    for found in cls.__subclasses__():
        yield found
        yield from _subclasses(found)


def _restore_environment(variables: Dict[str, str], folder: str) -> None:
    if os.environ != variables:
        os.environ.clear()
        os.environ.update(variables)
    os.chdir(folder)


def _torch() -> Callable[[], None]:
    saved = [
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_num_threads, torch.get_num_threads()),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (
            torch.set_float32_matmul_precision,
            torch.get_float32_matmul_precision(),
        ),
        (
            torch.set_deterministic_debug_mode,
            torch.get_deterministic_debug_mode(),
        ),
    ]
    cudnn = torch.backends.cudnn
    flags = {name: getattr(cudnn, name) for name in ('benchmark', 'enabled')}
    flags['deterministic'] = cudnn.deterministic

    def restore() -> None:
        for setter, value in saved:
            setter(value)
        for name, value in flags.items():
            setattr(cudnn, name, value)

    return restore


def _logging() -> Callable[[], None]:
    """Levels and handlers; files of handlers that were added are closed."""
    loggers = [logging.getLogger()]
    loggers += [
        logger
        for logger in loggers[0].manager.loggerDict.values()
        if isinstance(logger, logging.Logger)
    ]
    saved = [
        (logger, logger.level, logger.propagate, logger.disabled)
        for logger in loggers
    ]
    handlers = [list(logger.handlers) for logger in loggers]
    disabled = logging.root.manager.disable

    def restore() -> None:
        logging.disable(disabled)
        for (logger, level, propagate, off), own in zip(saved, handlers):
            if logger.level != level:
                logger.setLevel(level)
            logger.propagate, logger.disabled = propagate, off
            for handler in logger.handlers:
                if handler not in own:
                    handler.close()
            logger.handlers[:] = own

    return restore


def _all_registries() -> Iterator[Registry]:
    waiting: List[Registry] = [
        value for value in vars(root).values() if isinstance(value, Registry)
    ]
    while waiting:
        registry = waiting.pop()
        waiting += registry.children.values()
        yield registry


def _registries() -> Callable[[], None]:
    saved = [(one, dict(one.module_dict)) for one in _all_registries()]

    def restore() -> None:
        for registry, components in saved:
            found = registry.module_dict
            for name, component in list(found.items()):
                # What packages register when they are first looked up, they
                # do not register again.
                if name in components:
                    found[name] = components[name]
                elif not _is_installed(component):
                    del found[name]
            for name in components:
                found.setdefault(name, components[name])

    return restore


def _is_installed(component: object) -> bool:
    package = component.__module__.split('.')[0]
    file = getattr(sys.modules.get(package), '__file__', None) or ''
    return 'site-packages' in file or package == 'u1_plugin'


def _forget_modules(temporary: Path, path: List[str]) -> None:
    sys.path[:] = path
    start = os.path.join(temporary, '')
    for name, module in list(sys.modules.items()):
        if (getattr(module, '__file__', None) or '').startswith(start):
            del sys.modules[name]


def _matplotlib() -> Callable[[], None]:
    def parameters() -> dict:
        module = sys.modules.get('matplotlib')
        return dict(module.rcParams) if module else {}

    saved = parameters()

    def restore() -> None:
        if 'matplotlib.pyplot' in sys.modules:
            sys.modules['matplotlib.pyplot'].close('all')
        matplotlib = sys.modules.get('matplotlib')
        if matplotlib and parameters() != saved:
            # Past the checks of values, which take 10 ms.
            start = saved or dict(matplotlib.rcParamsDefault)
            dict.update(matplotlib.rcParams, start)

    return restore
