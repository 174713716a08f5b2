"""Where runs are trained."""

import os
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import torch

from .runs import Run


def forks_find_gpus() -> bool:
    """Whether a fork of this process could still start CUDA.

    Counting GPUs as torch does by default starts CUDA, which a fork does not
    survive; NVIDIA's management library counts them without.
    """
    asked_nvml = os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK') == '1'
    return asked_nvml and not torch.cuda.is_initialized()


class Slot(NamedTuple):
    """Where one run at a time is trained.

    Attributes:
        gpus (str | None): ``CUDA_VISIBLE_DEVICES``; None leaves it alone.
        processes (int): Of a run.
        partition (str | None): Of slurm, which then finds the GPUs.
    """

    gpus: Optional[str] = None
    processes: int = 1
    partition: Optional[str] = None

    @property
    def forks(self) -> bool:
        """Whether a run is a fork of the benchmark."""
        alone = self.processes == 1 and self.partition is None
        return alone and (forks_find_gpus() or not torch.cuda.is_available())

    @staticmethod
    def options(run: Run, config: Path) -> List[str]:
        """What ``tools/train.py`` is called with."""
        return [str(config), '--work-dir', str(run.folder), '--resume']

    def command(self, tools: Path, run: Run, config: Path) -> List[str]:
        """The standard tool's command line for one run."""
        train = str(tools / 'train.py')
        work_dir = str(run.folder)
        if self.partition is not None:
            job = f'{run.suite}-{run.arm}-{run.seed}'
            script = str(tools / 'slurm_train.sh')
            head = ['bash', script, self.partition, job, str(config), work_dir]
            return [*head, '--resume']
        options = self.options(run, config)
        if self.processes == 1:
            return [sys.executable, train, *options]
        return [
            sys.executable,
            '-m',
            'torch.distributed.run',
            '--standalone',  # on a port that is free
            f'--nproc_per_node={self.processes}',
            train,
            *options,
            '--launcher',
            'pytorch',
        ]

    def environment(self) -> Dict[str, str]:
        """One thread a process on a CPU: the runs share the cores."""
        environment = dict(os.environ)
        if self.gpus is not None:
            environment['CUDA_VISIBLE_DEVICES'] = self.gpus
        else:
            environment.setdefault('OMP_NUM_THREADS', '1')
        if self.partition is not None:
            environment['GPUS'] = str(self.processes)
            each = min(self.processes, 8)
            environment.setdefault('GPUS_PER_NODE', str(each))
        environment['PYTHON'] = sys.executable
        return environment


def make_slots(
    workers: int, gpus: Optional[str], processes: int, partition: Optional[str]
) -> List[Slot]:
    """The places for runs.

    Args:
        workers (int): Runs at a time where no GPUs are given.
        gpus (str, optional): Such as ``'0,1'``; each run takes ``processes``
            of them.
        processes (int): Of a run.
        partition (str, optional): Of slurm.

    Raises:
        ValueError: If a run needs more GPUs than are given, or two options
            exclude each other.
    """
    if gpus is None or partition is not None:
        if gpus is not None:
            raise ValueError(
                f'--gpus={gpus} and --slurm={partition}: slurm chooses the '
                'GPUs; leave out one of the two'
            )
        return [Slot(None, processes, partition)] * workers
    names = [name.strip() for name in gpus.split(',') if name.strip()]
    count = len(names) // processes
    if count < 1:
        raise ValueError(
            f'--gpus={gpus} names {len(names)} GPU(s), but a run of this '
            f'suite has processes={processes}; name at least so many'
        )
    return [
        Slot(','.join(names[i * processes : (i + 1) * processes]), processes)
        for i in range(count)
    ]
