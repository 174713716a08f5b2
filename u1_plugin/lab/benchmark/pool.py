"""Runs the standard training tool for many runs at a time."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Callable, List, Optional, Set

import torch

from ...mm.launch import die_with, run_mmpretrain_tool
from .runs import Run
from .slots import Slot

_TAIL = 15
#: Seconds that a launcher has to end its processes.
_GRACE = 30
_FORK = multiprocessing.get_context('fork')


def _train_forked(
    argv: List[str], log: Path, environment: dict, parent: int
) -> None:
    """In the child: the standard tool, as if started anew, but for imports."""
    die_with(parent)
    with log.open('a') as file, open(os.devnull) as null:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.dup2(null.fileno(), 0)
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
    started already, it starts the tool anew.
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
                    os.getpid(),
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
                    # Launchers that get this end what they have launched.
                    preexec_fn=partial(die_with, os.getpid(), signal.SIGTERM),
                )

    def status(self) -> Optional[int]:
        """Exit status, None while the run goes on."""
        if self.slot.forks:
            return self.process.exitcode
        return self.process.poll()

    def stop(self) -> None:
        if self.slot.forks:
            self.process.kill()
            self.process.join()
            return
        self.process.terminate()
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def error(self) -> Optional[str]:
        """Why the ended run counts as failed; None if it is finished."""
        if self.status() == 0:
            try:
                if self.run.record():
                    return None
            except ValueError as error:
                return f'{self.run.name} failed: {error}'
        lines = _last_lines(self.log)
        return (
            f'{self.run.name} failed (exit status {self.status()}); '
            f'{self.log} ends with\n' + '\n'.join(lines)
        )


def _last_lines(log: Path) -> List[str]:
    """The end of a log, without what moves a terminal's cursor."""
    text = log.read_text(errors='replace') if log.is_file() else ''
    return [
        ''.join(c if c.isprintable() else ' ' for c in line)
        for line in text.splitlines()[-_TAIL:]
    ]


class Progress:
    """One line a run, with the time that is left."""

    def __init__(self, total: int, done: int, print_line: Callable) -> None:
        self.total, self.done, self.print_line = total, done, print_line
        self.already = done
        self.since = time.monotonic()

    def ended(self, run: Run, seconds: float, error: Optional[str]) -> None:
        self.done += 1
        rate = (time.monotonic() - self.since) / (self.done - self.already)
        left = rate * (self.total - self.done)
        width = len(str(self.total))
        self.print_line(
            f'[{self.done:{width}}/{self.total}] {run.name}: '
            f'{error or _summary(run)}  {seconds:.0f} s  '
            f'eta {_duration(left)}'
        )


def _summary(run: Run) -> str:
    record = run.record()
    test = record['test'].get('accuracy/top1')
    if test is not None:
        return f'test top-1 {test:.2f} %'
    last = record['val'][-1] if record['val'] else {}
    return f'val top-1 {last.get("accuracy/top1", float("nan")):.2f} %'


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
    lost: Set[Path] = set()

    def end(run: Run, seconds: float, error: Optional[str]) -> None:
        progress.ended(run, seconds, error)
        (finished if error is None else lost).add(run.folder)
        if error is not None:
            failures.append(error)

    try:
        while waiting or jobs:
            for run in list(waiting):
                if run.needs in lost:
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
            for job in [j for j in jobs if j.status() is not None]:
                jobs.remove(job)
                free.append(job.slot)
                end(job.run, time.monotonic() - job.since, job.error())
    finally:
        for job in jobs:
            job.stop()
    return failures
