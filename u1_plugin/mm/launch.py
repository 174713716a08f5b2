"""Runs the command-line tools that the installed MMPretrain ships."""

import runpy
import sys
from pathlib import Path
from typing import List

import mmpretrain
import torch

#: What MMEngine's default of one GPU a process must become without a GPU.
_CPU_DISTRIBUTED = [
    'env_cfg.dist_cfg.backend=gloo',
    'model_wrapper_cfg.type=MMDistributedDataParallel',
    'model_wrapper_cfg.device_ids=None',
    'model_wrapper_cfg.broadcast_buffers=False',
]
_CPU_AMP = ['optim_wrapper.type=CPUAmpOptimWrapper']


def mmpretrain_tool(name: str) -> Path:
    """Path of one of MMPretrain's tools.

    Args:
        name (str): Relative to MMPretrain's ``tools``, such as ``train.py``.

    Raises:
        FileNotFoundError: If this installation of MMPretrain ships no tools.
    """
    package = Path(mmpretrain.__file__).resolve().parent
    # A wheel holds them in `.mim`, a source checkout beside the package.
    for folder in (package / '.mim' / 'tools', package.parent / 'tools'):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f'tools/{name} is not in {package}/.mim; reinstall'
        ' mmpretrain from a wheel'
    )


def with_options(argv: List[str], options: List[str]) -> List[str]:
    """``argv`` with ``options`` ahead of the user's own ``--cfg-options``."""
    if '--cfg-options' in argv:
        position = argv.index('--cfg-options') + 1
        return argv[:position] + options + argv[position:]
    return argv + ['--cfg-options'] + options


def _launched_by_torch(argv: List[str]) -> bool:
    return '--launcher=pytorch' in argv or (
        '--launcher' in argv
        and argv[argv.index('--launcher') + 1 :][:1] == ['pytorch']
    )


def _adapt_to_cpu(name: str, argv: List[str]) -> List[str]:
    options: List[str] = []
    if _launched_by_torch(argv):
        # MMEngine leaves a process group alone that exists already; its own
        # start would bind each process to a GPU.
        torch.distributed.init_process_group(backend='gloo')
        options += _CPU_DISTRIBUTED
    if '--amp' in argv and name == 'train.py':
        options += _CPU_AMP
    return with_options(argv, options) if options else argv


def run_mmpretrain_tool(name: str) -> None:
    """Run a tool of MMPretrain on ``sys.argv`` as if called directly.

    The plugin is imported first, which is what lets ``u1_plugin::`` configs
    resolve before any config is read. On a machine without a GPU,
    ``--launcher pytorch`` talks through gloo and ``--amp`` means bfloat16;
    MMEngine alone refuses both there.

    Args:
        name (str): Such as ``train.py``.
    """
    tool = mmpretrain_tool(name)
    argv = sys.argv[1:]
    if not torch.cuda.is_available():
        argv = _adapt_to_cpu(name, argv)
    sys.argv = [str(tool), *argv]
    runpy.run_path(str(tool), run_name='__main__')
