"""Runs the standard training tool for many runs at a time, each on a slot."""

import multiprocessing
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Set

import torch

from ...mm.launch import die_with, run_mmpretrain_tool
from .runs import Run

_TAIL = 15
#: Seconds that a launcher has to end its processes.
_GRACE = 30
_FORK = multiprocessing.get_context('fork')


class TrainingSlot(NamedTuple):
    """Where one run at a time is trained."""

    gpus: Optional[str] = None  # CUDA_VISIBLE_DEVICES; None leaves it alone
    processes: int = 1  # of a run
    partition: Optional[str] = None  # of slurm, which then finds the GPUs

    @property
    def forks(self) -> bool:
        """Whether a run is a fork of this process, which has no CUDA yet.

        Counting GPUs as torch does by default starts it; NVIDIA's management
        library counts them without.
        """
        if self.processes > 1 or self.partition is not None:
            return False
        counted = os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK') == '1'
        unstarted = counted and not torch.cuda.is_initialized()
        return unstarted or not torch.cuda.is_available()

    @staticmethod
    def options(run: Run, config: Path) -> List[str]:
        """What ``tools/train.py`` is called with."""
        return [str(config), '--work-dir', str(run.folder), '--resume']

    def command(self, tools: Path, run: Run, config: Path) -> List[str]:
        """The standard tool's command line for one run."""
        train = str(tools / 'train.py')
        if self.partition is not None:
            job = f'{run.suite}-{run.arm}-{run.seed}'
            script = str(tools / 'slurm_train.sh')
            place = [str(config), str(run.folder), '--resume']
            return ['bash', script, self.partition, job, *place]
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
) -> List[TrainingSlot]:
    """The places for runs; for arguments, see ``tools/benchmark.py``.

    Each run takes ``processes`` of the GPUs, which are such as ``'0,1'``.

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
        return [TrainingSlot(None, processes, partition)] * workers
    names = [name.strip() for name in gpus.split(',') if name.strip()]
    count = len(names) // processes
    if count < 1:
        raise ValueError(
            f'--gpus={gpus} names {len(names)} GPU(s), but a run of this '
            f'suite has processes={processes}; name at least so many'
        )
    return [
        TrainingSlot(
            ','.join(names[i * processes : (i + 1) * processes]), processes
        )
        for i in range(count)
    ]


def _train(
    argv: List[str],
    command: List[str],
    environment: dict,
    parent: int,
    log: int,
    lock: int,
) -> None:
    """In the child: become ``command``, or if it is empty, a fresh tool."""
    # Launchers that get SIGTERM end what they have launched.
    die_with(parent, signal.SIGTERM if command else signal.SIGKILL)
    with open(os.devnull) as null:
        for source, target in ((log, 1), (log, 2), (null.fileno(), 0)):
            os.dup2(source, target)
    if command:
        os.set_inheritable(lock, True)
        os.execvpe(command[0], command, environment)
    os.environ.update(environment)
    # Of a GPU's slots it is the user's to set, or not.
    if 'OMP_NUM_THREADS' in environment:
        torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
    sys.argv = ['train.py', *argv]
    run_mmpretrain_tool('train.py')


class Job:
    """A run on its slot.

    The benchmark forks itself, because importing torch and MMPretrain takes as
    long as a small training; for several processes, and where CUDA has been
    started already, the fork starts the tool anew.
    """

    def __init__(
        self, run: Run, slot: TrainingSlot, tools: Path, lock: int
    ) -> None:
        self.run, self.slot, self.forks = run, slot, slot.forks
        self.since = time.monotonic()
        config = run.write_config()
        argv = slot.options(run, config)
        command = [] if self.forks else slot.command(tools, run, config)
        self.log = run.folder / 'train.log'
        with self.log.open('a') as file:
            ends = os.getpid(), file.fileno(), lock
            self.process = _FORK.Process(
                target=_train, args=(argv, command, slot.environment(), *ends)
            )
            self.process.start()

    def stop(self) -> None:
        """End the run; a launcher first gets time to end its processes."""
        if not self.forks:
            self.process.terminate()
            self.process.join(_GRACE)
        self.process.kill()
        self.process.join()

    def error(self) -> Optional[str]:
        """Why the ended run counts as failed; None if it is finished."""
        status = self.process.exitcode
        if status == 0:
            try:
                if self.run.record():
                    return None
            except ValueError as error:
                return f'{self.run.name} failed: {error}'
        text = ''
        if self.log.is_file():
            text = self.log.read_text(errors='replace')
        # Without what moves a terminal's cursor.
        plain = [
            ''.join(c if c.isprintable() else ' ' for c in line)
            for line in text.splitlines()[-_TAIL:]
        ]
        return (
            f'{self.run.name} failed (exit status {status}); '
            f'{self.log} ends with\n' + '\n'.join(plain)
        )


def _summary(run: Run) -> str:
    record = run.record()
    test = record['test'].get('accuracy/top1')
    if test is not None:
        return f'test top-1 {test:.2f} %'
    last = record['val'][-1] if record['val'] else {}
    return f'val top-1 {last.get("accuracy/top1", float("nan")):.2f} %'


def run_all(
    runs: List[Run],
    slots: List[TrainingSlot],
    tools: Path,
    lock: int,
    print_line: Callable[[str], None] = print,
) -> List[str]:
    """Train what is not finished; go on with the rest where one fails.

    Args:
        runs (List[Run]): In the wanted order.
        slots (List[TrainingSlot]): Where to train.
        tools (Path): The folder of ``train.py``.
        lock (int): From :func:`locked`.
        print_line: Called with one line a run, with the time that is left.

    Returns:
        List[str]: What failed and why; empty if everything is finished.
    """
    finished = {run.folder for run in runs if run.record()}
    waiting = [run for run in runs if run.folder not in finished]
    free, jobs, failures = list(slots), [], []
    failed: Set[Path] = set()
    began, finished_before, total = time.monotonic(), len(finished), len(runs)

    def end(run: Run, seconds: float, error: Optional[str]) -> None:
        (finished if error is None else failed).add(run.folder)
        if error is not None:
            failures.append(error)
        done = len(finished) + len(failed)
        rate = (time.monotonic() - began) / (done - finished_before)
        left = timedelta(seconds=int(rate * (total - done)))
        print_line(
            f'[{done:{len(str(total))}}/{total}] {run.name}: '
            f'{error or _summary(run)}  {seconds:.0f} s  eta {left}'
        )

    try:
        while waiting or jobs:
            for run in list(waiting):
                if run.needs in failed:
                    waiting.remove(run)
                    end(run, 0, f'{run.name}: {run.needs} failed')
                elif free and (run.needs is None or run.needs in finished):
                    waiting.remove(run)
                    try:
                        jobs.append(Job(run, free[0], tools, lock))
                        free.pop(0)
                    except OSError as error:  # no space, no permission
                        end(run, 0, f'{run.name} cannot begin: {error}')
            time.sleep(0.2)
            for job in [j for j in jobs if j.process.exitcode is not None]:
                jobs.remove(job)
                free.append(job.slot)
                end(job.run, time.monotonic() - job.since, job.error())
    finally:
        for job in jobs:
            job.stop()
    return failures
