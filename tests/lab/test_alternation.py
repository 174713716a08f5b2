"""Contestants take turns, and their ratios are those of a round."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.lab.alternation import (
    Failure,
    OtherProcess,
    Repetition,
    alternate,
    attempt,
    order_of,
    paired,
    spread,
)

NAMES = ('one', 'two', 'three', 'four')


@given(st.integers(1, 4), st.integers(0, 99))
def test_places_are_shared_out(count, begin):
    """Each has each place twice in 2n rounds."""
    names = NAMES[:count]
    rounds = range(begin, begin + 2 * count)
    orders = [order_of(names, round_) for round_ in rounds]
    assert order_of(names, 0) == list(names)
    for place in zip(*orders):
        assert sorted(place) == sorted([*names, *names])


@given(st.integers(3, 4), st.integers(0, 99))
def test_nobody_always_follows_the_same_neighbour(count, begin):
    """And nobody itself, from one round to the next."""
    names = NAMES[:count]
    before = {name: set() for name in names}
    runs = sum((order_of(names, begin + k) for k in range(2 * count)), [])
    for neighbour, name in zip(runs, runs[1:]):
        before[name].add(neighbour)
    for name, neighbours in before.items():
        assert len(neighbours) > 1 and name not in neighbours


@given(st.integers(1, 4), st.integers(1, 9))
def test_each_runs_once_a_round(count, repeat):
    asked = []

    def run(name, round_):
        asked.append(name)
        return len(asked), 0.5

    turns = alternate(NAMES[:count], run, repeat)
    rounds = [asked[i : i + count] for i in range(0, len(asked), count)]
    assert rounds == [order_of(NAMES[:count], r) for r in range(repeat)]
    for name, own in turns.items():
        assert [t.round for t in own] == list(range(repeat))
        for turn in own:
            assert rounds[turn.round][turn.place] == name
            assert asked[turn.start - 1] == name


def test_who_fails_is_not_asked_again():
    asked = []

    def run(name, round_):
        asked.append(name)
        failed = name == 'two' and asked.count('two') == 2
        return None if failed else (0.0, 1.0)

    turns = alternate(NAMES[:3], run, 4)
    assert asked.count('two') == 2 and len(turns['two']) == 1
    assert len(turns['one']) == len(turns['three']) == 4


def test_a_ratio_is_of_one_round():
    """Of a machine that becomes ten times slower after the first round."""
    fast = [Repetition(0, 0, 0.0, 1.0), Repetition(1, 0, 0.0, 10.0)]
    slow = [
        Repetition(0, 1, 0.0, 2.0),
        Repetition(1, 1, 0.0, 20.0),
        Repetition(2, 1, 0.0, 9.0),
    ]
    assert paired(slow, fast) == [0.5, 0.5]
    assert paired(fast, slow) == [2.0, 2.0]
    assert paired(fast, []) == []


def test_the_spread_is_that_of_quartiles():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == [1.0, 2.0, 3.0, 4.0, 5.0]


class Counter:
    """Counts in a process of its own."""

    def __init__(self, start: int) -> None:
        if start < 0:
            raise ValueError(f'start={start}\nmust be >= 0')
        self.number = start

    def more(self):
        self.number += 1
        return self.number, os.getpid()

    def wrong(self):
        raise MemoryError('too much')

    def now(self):
        return time.monotonic()

    def die(self):
        os._exit(7)


@pytest.fixture(scope='module')
def others():
    kept = [OtherProcess(Counter, start) for start in (0, 10)]
    yield kept
    for other in kept:
        other.close()


def test_objects_in_other_processes_keep_what_they_have(others):
    assert [other.made for other in others] == [None, None]
    answers = [other.ask('more') for other in [*others, *others]]
    assert [number for number, _ in answers] == [1, 11, 2, 12]
    assert len({process for _, process in answers} | {os.getpid()}) == 3
    failure = others[0].ask('wrong')
    assert failure == Failure('MemoryError: too much')
    assert others[0].ask('more')[0] == 3


def test_a_process_that_ends_is_a_failure():
    other = OtherProcess(Counter, 0)
    assert other.ask('die') == Failure('its process ended: 7')
    assert isinstance(other.ask('more'), Failure)
    other.close()
    refused = OtherProcess(Counter, -1)
    assert refused.made == Failure('ValueError: start=-1')
    assert isinstance(refused.ask('more'), Failure)
    refused.close()


def test_an_attempt_gives_the_answer_or_the_failure():
    assert attempt(lambda: 3) == 3
    assert attempt(lambda: [][0]) == Failure(
        'IndexError: list index out of range'
    )


def test_clocks_of_processes_agree(others):
    """Starts of turns in several processes are compared."""
    times = []
    for other in others:
        times += [time.monotonic(), other.ask('now')]
    assert times == sorted(times) and times[-1] < time.monotonic()
