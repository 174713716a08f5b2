"""Timed repetitions of several contestants, which alternate.

A machine that slows down for a while then slows all of them, and a ratio is
taken within a round.
"""

import multiprocessing
import time
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

import numpy as np
import torch


class Repetition(NamedTuple):
    """A repetition.

    Attributes:
        round (int): Of the alternation, from 0.
        place (int): In the order of its round, from 0.
        start (float): Seconds on the machine's clock, the same in all of its
            processes.
        seconds (float): What it took.
    """

    round: int
    place: int
    start: float
    seconds: float


def now() -> float:
    """Seconds: of the clock once a GPU is idle, or of this process alone."""
    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def order_of(names: Sequence[str], round_: int) -> List[str]:
    """The order in a round, which rotates and turns its direction.

    Each of n contestants has each place twice in 2n rounds. Every other round
    runs backwards, so that nobody always follows the same neighbour, who may
    leave a warm cache or a hot core; nor, of three and more, ever itself.
    """
    turn, is_back = divmod(round_, 2)
    first, step = (turn + 1, -1) if is_back else (turn, 1)
    count = len(names)
    return [names[(first + step * place) % count] for place in range(count)]


def alternate(
    names: Sequence[str],
    run: Callable[[str, int], Any],
    repeat: int,
    pause: float = 0.0,
) -> Dict[str, List[Repetition]]:
    """Run each contestant once a round.

    Args:
        names (Sequence[str]): Of the contestants, at least one.
        run (Callable): Takes a name and the round, and returns start and
            seconds; or None where it failed, and that name has no more.
        repeat (int): Rounds.
        pause (float): Seconds before each turn, in which the threads of the
            one before go to sleep.

    Returns:
        dict: The turns of each name.
    """
    turns: Dict[str, List[Repetition]] = {name: [] for name in names}
    failed = set()
    for round_ in range(repeat):
        for place, name in enumerate(order_of(names, round_)):
            if name in failed:
                continue
            time.sleep(pause)
            times = run(name, round_)
            if times is None:
                failed.add(name)
            else:
                turns[name].append(Repetition(round_, place, *times))
    return turns


def paired(
    turns: Sequence[Repetition], reference: Sequence[Repetition]
) -> List[float]:
    """How many times faster than a reference, of the rounds of both."""
    reference_seconds = {turn.round: turn.seconds for turn in reference}
    return [
        reference_seconds[turn.round] / turn.seconds
        for turn in turns
        if turn.round in reference_seconds
    ]


def spread(values: Sequence[float]) -> List[float]:
    """Least, first quartile, median, third quartile and greatest."""
    return [float(q) for q in np.percentile(values, [0, 25, 50, 75, 100])]


class Failure(NamedTuple):
    """Why a contestant could not go on."""

    reason: str


class OtherProcess:
    """An object that lives in a process of its own and waits to be asked.

    Args:
        make (Callable): Makes the object there; of a module's top level.
        arguments: Of it.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context('spawn')
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(make, arguments, there), daemon=True
        )
        self._process.start()
        there.close()
        self.made = self._answer()

    def ask(self, method: str) -> Any:
        """What a method returns there; a Failure if it or the process fails."""
        try:
            self._pipe.send(method)
        except OSError:
            return Failure('its process has ended')
        return self._answer()

    def _answer(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionError):  # killed, mostly for memory
            self._process.join()
            return Failure(f'its process ended: {self._process.exitcode}')

    def close(self) -> None:
        """End the process."""
        try:
            self._pipe.send(None)
        except OSError:
            pass
        self._pipe.close()
        self._process.join()


def _serve(
    make: Callable[..., Any], arguments: Sequence[Any], pipe: Any
) -> None:
    made = attempt(lambda: make(*arguments))
    pipe.send(made if isinstance(made, Failure) else None)
    while not isinstance(made, Failure):
        try:
            method = pipe.recv()
        except EOFError:
            return
        if method is None:
            return
        pipe.send(attempt(getattr(made, method)))


def attempt(function: Callable[[], Any]) -> Any:
    """What it returns, or a Failure with the error's first line."""
    try:
        return function()
    except Exception as error:  # a rival's errors are of any kind
        lines = str(error).splitlines() or ['']
        return Failure(f'{type(error).__name__}: {lines[0][:200]}')
