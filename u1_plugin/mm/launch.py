"""Runs MMPretrain's command-line tools, on machines without a GPU as well."""

import ctypes
import gc
import importlib.util
import os
import signal
import subprocess
import sys
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path
from typing import Any, List, Literal, Optional

import mmpretrain
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper

from ..options import checked
from .data import type_name
from .hooks.whole_checkpoint_hook import use_whole_checkpoints

#: What MMEngine's default of one GPU a process must become without a GPU.
_CPU_DISTRIBUTED = ['env_cfg.dist_cfg.backend=gloo']
_CPU_AMP = ['optim_wrapper.type=CPUAmpOptimWrapper']


class CPUAmpOptimWrapper(OptimWrapper):
    """Autocast to bfloat16 on the CPU; MMEngine's own wrapper wants a GPU.

    ``tools/train.py --amp`` chooses it on a machine without a GPU.

    Args:
        dtype (str): ``'bfloat16'``, the only one that CPUs autocast to.
        loss_scale: Accepted because ``--amp`` sets it, and not used: bfloat16
            has float32's range, so gradients need no scaling.
        **kwargs: For :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is another.
    """

    @checked('optim_wrapper')
    def __init__(
        self,
        dtype: Literal['bfloat16'] = 'bfloat16',
        loss_scale: Any = None,
        **kwargs,
    ) -> None:
        super().__init__(**kwargs)

    @contextmanager
    def optim_context(self, model: torch.nn.Module):
        """Gradient accumulation as ever, and autocast."""
        with super().optim_context(model):
            with torch.autocast('cpu', dtype=torch.bfloat16):
                yield


def mmpretrain_tool(name: str) -> Path:
    """Path of one of MMPretrain's tools, such as ``train.py``.

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


def _launcher(argv: List[str]) -> Optional[str]:
    for i, argument in enumerate(argv):
        name, separator, value = argument.partition('=')
        if name == '--launcher':
            return value if separator else ''.join(argv[i + 1 : i + 2])
    return None


def _set_slurm_ranks() -> None:
    """What ``torch.distributed`` asks of the environment, as MMEngine does."""
    environment = os.environ
    if 'MASTER_ADDR' not in environment:
        nodes = subprocess.run(
            ['scontrol', 'show', 'hostname', environment['SLURM_NODELIST']],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        environment['MASTER_ADDR'] = nodes.stdout.split()[0]
    environment['WORLD_SIZE'] = environment['SLURM_NTASKS']
    environment['RANK'] = environment['SLURM_PROCID']
    environment['LOCAL_RANK'] = environment['SLURM_LOCALID']


def _adapt_to_cpu(name: str, argv: List[str]) -> List[str]:
    options: List[str] = []
    launcher = _launcher(argv)
    if launcher == 'slurm':
        _set_slurm_ranks()
    if launcher in ('pytorch', 'slurm'):
        # MMEngine leaves a process group alone that exists already; its own
        # start would bind each process to a GPU.
        torch.distributed.init_process_group(backend='gloo')
        options += _CPU_DISTRIBUTED
    if '--amp' in argv and name == 'train.py':
        options += _CPU_AMP
    return with_options(argv, options) if options else argv


def die_with(parent: int, by: int = signal.SIGKILL) -> None:
    """Have this process end, by a signal, when its parent does.

    However that ends; nothing happens where the system is not Linux.
    """
    if sys.platform == 'linux':
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, by)
        if os.getppid() != parent:  # it has ended already
            os.kill(os.getpid(), by)


def wrap_without_gpu(config: Config) -> None:
    """Have the ranks' models wrapped as MMEngine does, but for the GPU.

    A wrapper's config of the user's stays; without one MMEngine's defaults
    are named, because its own wrapper would ask for a GPU.
    """
    wrapper = config.setdefault('model_wrapper_cfg', {}) or {}
    kind = wrapper.setdefault('type', 'MMDistributedDataParallel')
    if type_name(kind) == 'MMDistributedDataParallel':
        unused = config.get('find_unused_parameters', False)
        wrapper.setdefault('find_unused_parameters', unused)
        wrapper.setdefault('broadcast_buffers', False)
        wrapper['device_ids'] = None
    config.model_wrapper_cfg = wrapper


def _run(tool: Path, on_cpus: bool) -> None:
    """MMPretrain's tool; ``train.py`` with checkpoints that survive kills."""
    name = f'mmpretrain_{tool.stem}'
    spec = importlib.util.spec_from_file_location(name, tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    merge_args = module.merge_args

    def merged(config: Config, args: Namespace) -> Config:
        load_from = config.get('load_from')  # which `--resume` would drop
        config = merge_args(config, args)
        if tool.name == 'train.py':
            use_whole_checkpoints(config, load_from)
        if on_cpus:
            wrap_without_gpu(config)
        return config

    module.merge_args = merged
    module.main()


def _leave_process_group() -> None:
    """End the process group that this process is in, if it is in one.

    The threads of a group that is left alive abort the process at its exit,
    now and then. A model must not outlive it: torch's Reducer, the last to hold
    a group, joins gloo's threads with the GIL in its hand, for which they may
    wait. After an exception nothing is left: other ranks may be in the
    midst of a collective, and to wait for them could take forever.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        gc.collect()
        # A rank that ends while another still talks to it may abort.
        distributed.barrier()
        distributed.destroy_process_group()


def run_mmpretrain_tool(name: str) -> None:
    """Run ``train.py`` or ``test.py`` on ``sys.argv`` as if called directly.

    The plugin is imported first, which is what lets ``u1_plugin::`` configs
    resolve before any config is read. On a machine without a GPU,
    ``--launcher pytorch`` and ``slurm`` talk through gloo and ``--amp`` means
    bfloat16; MMEngine alone refuses all of them there. ``train.py`` writes
    checkpoints with
    :class:`~u1_plugin.mm.hooks.whole_checkpoint_hook.WholeCheckpointHook`. Of
    several ranks, each ends when all are done.
    """
    tool = mmpretrain_tool(name)
    argv = sys.argv[1:]
    if _launcher(argv) == 'pytorch':
        # The agent that started this rank; alone it would train on unseen.
        die_with(os.getppid())
    if _launcher(argv) == 'slurm':  # two jobs may share a machine
        job = int(os.environ.get('SLURM_JOB_ID', 0))
        os.environ.setdefault('MASTER_PORT', str(20000 + job % 10000))
    on_cpus = not torch.cuda.is_available()
    ranks = _launcher(argv) in ('pytorch', 'slurm')
    if on_cpus:
        argv = _adapt_to_cpu(name, argv)
    sys.argv = [str(tool), *argv]
    _run(tool, on_cpus and ranks)
    _leave_process_group()
