"""Runs the standard training tool for many runs at a time."""

import ctypes
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

import torch

from ...mm.launch import run_mmpretrain_tool
from .runs import Run

_TAIL = 15
_PORT = 29600
_FORK = multiprocessing.get_context('fork')


class Slot(NamedTuple):
    """Where one run at a time is trained.

    Attributes:
        index (int): Of the slot; runs of several processes listen on a port
            of their slot.
        gpus (str | None): ``CUDA_VISIBLE_DEVICES``; None leaves it alone.
        processes (int): Of a run.
        partition (str | None): Of slurm, which then finds the GPUs.
    """

    index: int
    gpus: Optional[str] = None
    processes: int = 1
    partition: Optional[str] = None

    @property
    def forks(self) -> bool:
        """Whether a run is a fork of the benchmark."""
        alone = self.processes == 1 and self.partition is None
        return alone and self.gpus is None and not torch.cuda.is_available()

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
            f'--master_port={_PORT + self.index}',
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
        return [Slot(i, None, processes, partition) for i in range(workers)]
    names = [name.strip() for name in gpus.split(',') if name.strip()]
    count = len(names) // processes
    if count < 1:
        raise ValueError(
            f'--gpus={gpus} names {len(names)} GPU(s), but a run of this '
            f'suite has processes={processes}; name at least so many'
        )
    return [
        Slot(i, ','.join(names[i * processes : (i + 1) * processes]), processes)
        for i in range(count)
    ]


@contextmanager
def locked(out: Path) -> Iterator[int]:
    """Hold a folder against a second benchmark.

    The children inherit the lock, so that it also holds while a killed
    benchmark's last runs are still dying.

    Yields:
        int: File descriptor for the children to inherit.

    Raises:
        RuntimeError: If another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out / '.lock', os.O_CREAT | os.O_RDWR)
    try:
        # A killed benchmark's children die with it, but not at once.
        for attempt in range(50):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if attempt == 49:
                    raise RuntimeError(
                        f'out={str(out)!r} is in use by another benchmark; '
                        'wait for it or choose another folder with --out'
                    ) from None
                time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def _die_with_parent() -> None:
    """In the child: end when the benchmark does, however it ends."""
    if sys.platform == 'linux':
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _train_forked(argv: List[str], log: Path, environment: dict) -> None:
    """In the child: the standard tool, as if started anew, but for imports."""
    _die_with_parent()
    with log.open('a') as file, open(os.devnull) as null:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.dup2(null.fileno(), 0)
    os.environ.update(environment)
    torch.set_num_threads(int(environment['OMP_NUM_THREADS']))
    sys.argv = ['train.py', *argv]
    run_mmpretrain_tool('train.py')


class Job:
    """A run on its slot.

    On CPUs the benchmark forks itself, because importing torch and MMPretrain
    takes as long as a small training; on GPUs, which do not survive a fork,
    and for several processes it starts the tool anew.
    """

    def __init__(self, run: Run, slot: Slot, tools: Path, lock: int) -> None:
        self.run, self.slot = run, slot
        self.since = time.monotonic()
        config = run.write_config()
        self.log = run.folder / 'train.log'
        if slot.forks:
            self.process = _FORK.Process(
                target=_train_forked,
                args=(
                    slot.options(run, config),
                    self.log,
                    slot.environment(),
                ),
            )
            self.process.start()
        else:
            with self.log.open('a') as file:
                self.process = subprocess.Popen(
                    slot.command(tools, run, config),
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    env=slot.environment(),
                    pass_fds=(lock,),
                    preexec_fn=_die_with_parent,
                )

    def status(self) -> Optional[int]:
        """Exit status, None while the run goes on."""
        if self.slot.forks:
            return self.process.exitcode
        return self.process.poll()

    def stop(self) -> None:
        self.process.kill()
        if self.slot.forks:
            self.process.join()
        else:
            self.process.wait()

    def error(self) -> Optional[str]:
        """Why the ended run counts as failed; None if it is finished."""
        if self.status() == 0 and self.run.record():
            return None
        lines = self.log.read_text(errors='replace').splitlines()[-_TAIL:]
        return (
            f'{self.run.name} failed (exit status {self.status()}); '
            f'{self.log} ends with\n' + '\n'.join(lines)
        )


class Progress:
    """One line a run, with the time that is left."""

    def __init__(self, total: int, done: int, print_line: Callable) -> None:
        self.total, self.done, self.print_line = total, done, print_line
        self.already = done
        self.since = time.monotonic()

    def ended(self, job: Job, error: Optional[str]) -> None:
        self.done += 1
        now = time.monotonic()
        rate = (now - self.since) / (self.done - self.already)
        left = rate * (self.total - self.done)
        width = len(str(self.total))
        self.print_line(
            f'[{self.done:{width}}/{self.total}] {job.run.name}: '
            f'{error or _summary(job.run)}  {now - job.since:.0f} s  '
            f'eta {_duration(left)}'
        )


def _summary(run: Run) -> str:
    record = run.record()
    test = record['test'].get('accuracy/top1')
    if test is not None:
        return f'test top-1 {test:.2f} %'
    val = record['val'][-1]['accuracy/top1'] if record['val'] else float('nan')
    return f'val top-1 {val:.2f} %'


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{seconds:02d}'


def run_all(
    runs: List[Run],
    slots: List[Slot],
    tools: Path,
    lock: int,
    print_line: Callable[[str], None] = print,
) -> List[str]:
    """Train what is not finished; go on with the rest where one fails.

    Args:
        runs (List[Run]): In the wanted order.
        slots (List[Slot]): Where to train.
        tools (Path): The folder of ``train.py``.
        lock (int): From :func:`locked`.
        print_line: Called with one line a run.

    Returns:
        List[str]: What failed and why; empty if everything is finished.
    """
    finished = {run.folder for run in runs if run.record()}
    waiting = [run for run in runs if run.folder not in finished]
    progress = Progress(len(runs), len(finished), print_line)
    free, jobs, failures = list(slots), [], []
    lost: set = set()
    try:
        while waiting or jobs:
            for run in [r for r in waiting if r.needs in lost]:
                waiting.remove(run)
                lost.add(run.folder)
                failures.append(f'{run.name}: {run.needs} failed')
            for run in list(waiting):
                if not free:
                    break
                if run.needs is None or run.needs in finished:
                    waiting.remove(run)
                    jobs.append(Job(run, free.pop(0), tools, lock))
            time.sleep(0.2)
            for job in [j for j in jobs if j.status() is not None]:
                jobs.remove(job)
                free.append(job.slot)
                error = job.error()
                progress.ended(job, error)
                (finished if error is None else lost).add(job.run.folder)
                if error is not None:
                    failures.append(error)
    finally:
        for job in jobs:
            job.stop()
    return failures
