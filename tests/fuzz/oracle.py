"""Tells a right answer and the plugin's own error from a fault."""

import functools
import linecache
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Tuple, Type

from hypothesis import HealthCheck, Phase, given, settings

import u1_plugin

CASES = int(os.environ.get('U1_FUZZ_CASES', 0))
#: What became of the cases, by component; see conftest.py.
COUNTS: Dict[str, Counter] = defaultdict(Counter)
REFUSED = object()

_PACKAGE = str(Path(u1_plugin.__file__).parent)
_REDUCED = 30


def fuzz(component: str, share: float = 1.0, **strategies) -> Callable:
    """A test of one component, counted under its name.

    ``U1_FUZZ_CASES`` says how many cases each gets. Without it a few, always
    the same, are run.

    Args:
        component (str): Its name in the table.
        share (float): Of the few, for one that is slow.
        **strategies: Of the test's arguments.
    """

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @settings(
            max_examples=CASES or max(1, round(_REDUCED * share)),
            derandomize=not CASES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=True,
            phases=[p for p in Phase if p != Phase.explain],
        )
        @given(**strategies)
        @functools.wraps(test)
        def run(*args, **kwargs) -> None:
            count = COUNTS[component]
            count['cases'] += 1
            _state.refused = False
            try:
                test(*args, **kwargs)
            except Exception:
                count['fault'] += 1
                raise
            count['refused' if _state.refused else 'right'] += 1

        return run

    return decorate


class _State:
    refused = False


_state = _State()


def attempt(
    call: Callable[[], Any],
    wrong: Optional[Mapping[str, Any]] = None,
    either: bool = False,
    kinds: Tuple[Type[Exception], ...] = (),
    also: Iterable[str] = (),
) -> Any:
    """Call and judge.

    Args:
        call (Callable): Without arguments.
        wrong (Mapping, optional): What is wrong, by the names of which an
            error must hold one, with its value. Nothing: the call must
            succeed.
        either (bool): Whether success is right as well.
        kinds (tuple): Documented kinds of error beside ValueError.
        also (Iterable[str]): Names of which an error may hold one instead,
            for options that must fit each other.

    Returns:
        What the call gives, or ``REFUSED``.
    """
    try:
        found = call()
    except Exception as error:
        if not is_own(error, kinds):
            raise
        problem = _problem(error, wrong or {}, either, also)
        if problem:
            raise AssertionError(problem) from error
        _state.refused = True
        return REFUSED
    if wrong and not either:
        raise AssertionError(f'took {wrong!r} and gave {str(found)[:300]}')
    return found


def is_own(error: Exception, kinds: Tuple[Type[Exception], ...] = ()) -> bool:
    """Whether a ``raise`` of the package gave an error of a known kind."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
    raised = linecache.getline(file, line).strip().startswith('raise')
    return (
        isinstance(error, (ValueError, *kinds))
        and file.startswith(_PACKAGE)
        and raised
    )


def _problem(
    error: Exception,
    wrong: Mapping[str, Any],
    either: bool,
    also: Iterable[str],
) -> Optional[str]:
    text = str(error)
    if any(name in text for name in also):
        return None
    if not wrong:
        return None if either else f'refused what is right: {error!r}'
    for name, value in wrong.items():
        if name.split('.')[-1] in text and _shows(text, value):
            return None
    return f'{error!r} names none of {wrong!r} with its value'


def _shows(text: str, value: Any) -> bool:
    """Numbers, texts and choices are in the message; arrays need not be."""
    if not isinstance(value, (bool, int, float, str, type(None))):
        return True
    shown = {repr(value)[:20], str(value)[:20]}
    if isinstance(value, float):
        shown |= {f'{value:g}', f'{value:.4g}'}
    return any(form.strip() in text for form in shown) or len(str(value)) > 60
