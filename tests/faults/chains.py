"""Kills commands at random moments and starts them again.

A *chain* is one command that is started, killed and started again, several
times, and at last left to finish; what it leaves must be what a command leaves
that nobody killed. Commands run as forks of the test's process, which has
imported what takes longest, so that a kill costs a second or two.
"""

import json
import multiprocessing
import os
import random
import re
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

#: Kills in all, spread over what is killed.
KILLS = int(os.environ.get('U1_KILLS', 200))
SEED = int(os.environ.get('U1_KILLS_SEED', 0))
#: Seconds after which a command hangs.
_LIMIT = 300
#: Seconds that other ranks have after one is lost. At the start gloo waits for
#: half an hour, and only a launcher can know better.
_LOST = 15
#: A kill between writing a checkpoint and removing what it replaces leaves
#: that: one whole file more, never one less.
_CHECKPOINT = re.compile(r'(^|/)(best_\w+_)?(epoch|iter)_\d+\.pth ')
_FORK = multiprocessing.get_context('fork')


class Command(NamedTuple):
    """What is killed.

    Attributes:
        name (str): A row of the table of counts.
        ranks (List[Callable]): Called with the folder, each in a process of
            its own.
        state (Callable): What the command left in the folder, by name.
    """

    name: str
    ranks: List[Callable[[Path], None]]
    state: Callable[[Path], Dict[str, object]]


class Counts:
    """How many kills of what, and where they struck."""

    def __init__(self) -> None:
        self.rows: Dict[str, Dict[str, int]] = {}

    def add(self, name: str, **numbers: int) -> None:
        row = self.rows.setdefault(
            name, dict(chains=0, kills=0, writing=0, late=0)
        )
        for key, number in numbers.items():
            row[key] += number

    def markdown(self) -> str:
        lines = [
            '| command | chains | kills | while writing a file |',
            '|---|---:|---:|---:|',
        ]
        total = dict(chains=0, kills=0, writing=0)
        for name, row in self.rows.items():
            total = {key: n + row[key] for key, n in total.items()}
            cells = ' | '.join(str(row[key]) for key in total)
            lines.append(f'| {name} | {cells} |')
        cells = ' | '.join(map(str, total.values()))
        return '\n'.join([*lines, f'| all | {cells} |'])

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'kills.md').write_text(self.markdown() + '\n')
        (folder / 'kills.json').write_text(json.dumps(self.rows, indent=1))


def _run(rank: Callable[[Path], None], folder: Path, log: Path) -> None:
    os.setsid()
    with log.open('a') as file, open(os.devnull) as null:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.dup2(null.fileno(), 0)
    sys.stdout, sys.stderr = os.fdopen(1, 'w', 1), os.fdopen(2, 'w', 1)
    os.chdir(folder)
    rank(folder)


class Attempt:
    """The processes of one start of a command."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.log = folder.with_suffix('.log')
        self.since = time.monotonic()
        self.processes = [
            _FORK.Process(target=_run, args=(rank, folder, self.log))
            for rank in command.ranks
        ]
        for process in self.processes:
            process.start()

    @property
    def running(self) -> bool:
        return any(process.is_alive() for process in self.processes)

    def wait(self, seconds: float) -> None:
        """Until all have ended, or the time is over."""
        end = self.since + seconds
        for process in self.processes:
            process.join(max(0, end - time.monotonic()))

    def end(self, rng: Optional[random.Random] = None) -> bool:
        """Kill what still runs; whether there was something to kill.

        Args:
            rng (random.Random, optional): Chooses between all processes and
                one of several. The others then get time to end by themselves;
                those that still wait for it are ended, as torchrun does.
        """
        victims = [p for p in self.processes if p.is_alive()]
        killed = bool(victims)
        if rng is not None and len(victims) > 1 and rng.random() < 0.5:
            rng.choice(victims).kill()
            until = time.monotonic() + _LOST
            for process in victims:
                process.join(max(0, until - time.monotonic()))
        for process in victims:
            process.kill()
            process.join()
        return killed

    def check(self) -> float:
        """Wait for a good end; its seconds."""
        self.wait(_LIMIT)
        hangs = self.running
        self.end()
        codes = [process.exitcode for process in self.processes]
        if hangs or any(codes):
            end = self.log.read_text(errors='replace')[-4000:]
            raise AssertionError(f'exit status {codes}, hangs: {hangs}\n{end}')
        return time.monotonic() - self.since


def reference(command: Command, folder: Path) -> tuple:
    """What the command leaves, and how long it takes."""
    folder.mkdir()
    seconds = Attempt(command, folder).check()
    state = command.state(folder)
    assert state
    return state, seconds


def chain(
    command: Command,
    folder: Path,
    expected: tuple,
    kills: int,
    rng: random.Random,
    counts: Counts,
) -> int:
    """Kill a command several times at random moments, and let it finish.

    Returns:
        int: Kills that struck while it ran.
    """
    state, seconds = expected
    folder.mkdir()
    done = 0
    for _ in range(4 * kills):  # on a busy machine many come too late
        if done == kills:
            break
        attempt = Attempt(command, folder)
        attempt.wait(rng.uniform(0, seconds))
        if attempt.end(rng):
            done += 1
            writing = any(folder.rglob('.u1-*.part'))
            counts.add(command.name, kills=1, writing=int(writing))
        else:
            counts.add(command.name, late=1)
    Attempt(command, folder).check()
    found = command.state(folder)
    differing = [
        name
        for name in sorted({*state, *found})
        if state.get(name) != found.get(name)
        and not (name not in state and _CHECKPOINT.search(name))
    ]
    assert not differing, f'{folder}: {differing} differ'
    assert not any(folder.rglob('.u1-*.part'))
    counts.add(command.name, chains=1)
    return done


def output(command: Command, folder: Path) -> tuple:
    """Exit status and output of a command that may fail."""
    folder.mkdir(exist_ok=True)
    attempt = Attempt(command, folder)
    attempt.log.write_text('')
    attempt.wait(_LIMIT)
    hangs = attempt.running
    attempt.end()
    text = attempt.log.read_text(errors='replace')
    assert not hangs, text[-4000:]
    return attempt.processes[0].exitcode, text
