"""Comparisons that a suite names before its runs."""

from typing import Any, Collection, NamedTuple, Tuple

from .suite_file import Fields


class Primary(NamedTuple):
    """What a suite asks.

    Attributes:
        pairs (Tuple[Tuple[str, str], ...]): Arm, and what it is compared to.
        gain (float): In points, that the suite's seeds are to show; 0 where
            nothing is asked.
    """

    pairs: Tuple[Tuple[str, str], ...] = ()
    gain: float = 0.0


def read_primary(content: Any, arms: Collection[str]) -> Primary:
    """The field ``primary`` of a suite.

    Args:
        content (Any): Its value: ``gain`` and ``comparisons``, pairs of arms.
        arms (Collection[str]): Names of the arms that the suite trains.

    Raises:
        ValueError: If a field is missing or wrong, or an arm is not trained.
    """
    where = 'suite.primary'
    read = Fields(where, content, ('gain', 'comparisons'))
    gain = read.number('gain', 0, 100)
    pairs = []
    for i, pair in enumerate(read.get('comparisons', list)):
        two = isinstance(pair, list) and len(pair) == 2
        known = two and all(isinstance(a, str) and a in arms for a in pair)
        if not known or pair[0] == pair[1] or tuple(pair) in pairs:
            raise ValueError(
                f'{where}.comparisons[{i}]={pair!r} must be two different '
                f'arms among {sorted(arms)}, and stand there once'
            )
        pairs.append((pair[0], pair[1]))
    if not pairs:
        raise ValueError(
            f'{where}.comparisons=[] is empty; name pairs of arms, or leave '
            'suite.primary out'
        )
    return Primary(tuple(pairs), gain)
