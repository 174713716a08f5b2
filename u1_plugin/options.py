"""Checks options against the annotations of what takes them.

The one schema of the package is the signature: ``k: Count = 10`` says that
``k`` is an integer of at least 1, and :func:`checked` refuses anything else
before the function runs.
"""

import collections.abc
import difflib
import functools
import inspect
import math
import numbers
import operator
import reprlib
import typing
from typing import (
    Annotated,
    Any,
    Callable,
    Dict,
    Literal,
    NamedTuple,
    Optional,
    Tuple,
    TypeVar,
    Union,
    cast,
)

Function = TypeVar('Function', bound=Callable[..., Any])


class Range(NamedTuple):
    """Numbers between two ends, for ``Annotated[float, Range(...)]``.

    None is no end; an open one is itself out of range.
    """

    low: Optional[float] = None
    high: Optional[float] = None
    low_open: bool = False
    high_open: bool = False

    def __contains__(self, value: Any) -> bool:
        below = self.low is not None and (
            value <= self.low if self.low_open else value < self.low
        )
        above = self.high is not None and (
            value >= self.high if self.high_open else value > self.high
        )
        return not (below or above)

    def __str__(self) -> str:
        ends = []
        if self.low is not None:
            ends.append(f'{">" if self.low_open else ">="} {self.low}')
        if self.high is not None:
            ends.append(f'{"<" if self.high_open else "<="} {self.high}')
        return ' and '.join(ends)


#: Counts and indices fit a 32-bit integer, as everywhere in torch's searches.
_LARGEST = 2**31 - 1
Count = Annotated[int, Range(1, _LARGEST)]
Index = Annotated[int, Range(0, _LARGEST)]
#: NumPy's and PyTorch's generators take these alike.
Seed = Annotated[int, Range(0, 2**32 - 1)]
Finite = Annotated[float, Range()]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, low_open=True)]
#: A part of a whole: above 0, at most 1.
Share = Annotated[float, Range(0, 1, low_open=True)]


def checked(field: str = '') -> Callable[[Function], Function]:
    """Check the arguments of a function against its annotations.

    Booleans are no numbers, numbers are finite, strings are no sequences.
    Numbers of NumPy arrive as Python's, which torch and faiss take. Defaults,
    ``*args``, ``**kwargs`` and arguments without an annotation are not looked
    at.

    Args:
        field (str): What the user calls the thing that has the options, such
            as ``'head'``; empty if the options stand alone.

    Returns:
        Callable: The decorator. What it decorates raises a ValueError that
        names option, value and what is allowed, and a TypeError for an option
        that there is not.

    Examples:
        >>> @checked('head')
        ... def head(k: Count = 10):
        ...     return k
        >>> head(k='3')
        Traceback (most recent call last):
        ValueError: head.k='3' must be an integer >= 1
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = _bound(function, field, args, kwargs)
            return function(*bound.args, **bound.kwargs)

        return cast(Function, call)

    return decorate


def shown(value: Any) -> str:
    """A value's ``repr`` on one short line, for messages."""
    return ' '.join(_SHORT.repr(value).split())


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 60


@functools.cache
def _schema(
    function: Callable[..., Any],
) -> Tuple[inspect.Signature, Dict[str, Any]]:
    hints = typing.get_type_hints(function, include_extras=True)
    return inspect.signature(function), hints


def _bound(
    function: Callable[..., Any],
    field: str,
    args: Tuple[Any, ...],
    kwargs: Dict[str, Any],
) -> inspect.BoundArguments:
    signature, hints = _schema(function)
    _check_names(signature, field, kwargs)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f'{field or function.__qualname__}: {error}') from None
    prefix = f'{field}.' if field else ''
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        variadic = kind in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD)
        if name in hints and not variadic:
            value = check(f'{prefix}{name}', value, hints[name])
            bound.arguments[name] = value
    return bound


def check(name: str, value: Any, hint: Any) -> Any:
    """The value of an option, numbers of NumPy in it as Python's.

    Raises:
        ValueError: If it does not fit the annotation ``hint``; the message
            names the option, the value and what would.
    """
    if not fits(value, hint):
        raise ValueError(f'{name}={shown(value)} must be {describe_hint(hint)}')
    return _plain(value, hint)


def _plain(value: Any, hint: Any) -> Any:
    if type(value) in (list, tuple):
        parts = [_plain(part, hint) for part in value]
        same = all(map(operator.is_, parts, value))
        return value if same else type(value)(parts)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if not isinstance(value, numbers.Integral):
        return float(value)
    # Of whole numbers torch takes those of 64 bits.
    large = abs(int(value)) >= 2**63 and _has(hint, float)
    return float(value) if large else int(value)


def _has(hint: Any, part: type) -> bool:
    """Whether an annotation names a type."""
    inner = typing.get_args(hint)
    return hint is part or any(_has(kind, part) for kind in inner)


def _check_names(
    signature: inspect.Signature, field: str, kwargs: Dict[str, Any]
) -> None:
    """A better word for an unknown option than Python's."""
    parameters = signature.parameters
    if any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
        return
    for name, value in kwargs.items():
        if name not in parameters:
            names = [key for key in parameters if key != 'self']
            close = difflib.get_close_matches(name, names, 1)
            remedy = f'do you mean {close[0]}?' if close else f'it has {names}'
            raise TypeError(
                f'{field or "the call"} has no option {name}='
                f'{shown(value)}; {remedy}'
            )


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin is Annotated:
        return fits(value, inner[0]) and all(
            value in part for part in inner[1:] if isinstance(part, Range)
        )
    if origin is Union:
        return any(fits(value, part) for part in inner)
    if origin is Literal:
        return any(type(value) is type(c) and value == c for c in inner)
    if hint is None or hint is type(None):
        return value is None
    if hint in (int, float):
        return _is_number(value, hint)
    if origin in (tuple, list, collections.abc.Sequence):
        return _is_sequence(value, origin, inner)
    if origin in (dict, collections.abc.Mapping):
        return isinstance(value, origin) and all(
            fits(key, inner[0]) and fits(item, inner[1])
            for key, item in value.items()
        )
    if hint in (Callable, collections.abc.Callable):
        return callable(value)
    kind = origin or hint
    return isinstance(value, kind) if isinstance(kind, type) else True


def _is_number(value: Any, kind: type) -> bool:
    """No bool; integers are numbers, and numbers are finite."""
    expected_kind = numbers.Integral if kind is int else numbers.Real
    if isinstance(value, bool) or not isinstance(value, expected_kind):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _is_sequence(value: Any, origin: Any, inner: Tuple[Any, ...]) -> bool:
    """Lists stand for tuples, as in JSON, YAML and MMEngine's configs."""
    if not isinstance(value, (list, tuple)):
        return False
    if origin is tuple and inner[-1:] != (Ellipsis,):
        return len(value) == len(inner) and all(map(fits, value, inner))
    return not inner or all(fits(item, inner[0]) for item in value)


def describe_hint(hint: Any) -> str:
    """An annotation in words, such as ``'an integer >= 1'``."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        ends = ' and '.join(
            str(part) for part in inner[1:] if isinstance(part, Range)
        ).replace(f' and <= {_LARGEST}', '')
        return f'{describe_hint(inner[0])} {ends}'.strip()
    if origin is Union:
        parts = [part for part in inner if part is not type(None)]
        words = [describe_hint(part) for part in parts]
        return ' or '.join(words + ['None'] * (len(parts) < len(inner)))
    if origin is Literal:
        return ' or '.join(map(repr, inner))
    if origin in (dict, collections.abc.Mapping):
        return (
            f'a dict, each key {describe_hint(inner[0])}, each value '
            + describe_hint(inner[1])
        )
    if origin is tuple and inner[-1:] != (Ellipsis,):
        return f'a list of {len(inner)}: ' + ', '.join(
            map(describe_hint, inner)
        )
    if origin in (tuple, list, collections.abc.Sequence):
        return f'a list, each {describe_hint(inner[0])}' if inner else 'a list'
    if hint in _WORDS:
        return _WORDS[hint]
    name = getattr(origin or hint, '__name__', str(hint))
    return f'a {name}'


_WORDS = {
    Any: 'anything',
    int: 'an integer',
    float: 'a finite number',
    str: 'a string',
    bool: 'True or False',
    dict: 'a dict',
    type: 'a class',
    type(None): 'None',
    Callable: 'a function',
}
