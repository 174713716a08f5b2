"""Search engines as typed configs, their short forms, and themselves."""

import difflib
import typing
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Union

from ..options import Count, Share, check, checked, shown
from .bank import MemoryBank
from .device_copy import device_of
from .exact_search import ExactSearch
from .faiss_search import FaissSearch, check_faiss
from .scores import ScoreDtype
from .search import Metric, Search


class ExactEngine(NamedTuple):
    """``dict(type='exact')``: the k nearest, by float64.

    Attributes:
        dtype (str): Of the products that rank pixels before float64 decides:
            ``'float32'``, ``'float16'`` or ``'bfloat16'``. The answer is the
            same; narrow ones pay where the hardware multiplies them faster.
        device (str, optional): Of torch, such as ``'cuda'``: it searches there
            and keeps the vectors there, as far as they fit; what does not is
            streamed. None searches where the queries are, and keeps nothing.
    """

    dtype: ScoreDtype = 'float32'
    device: Optional[str] = None


class FaissEngine(NamedTuple):
    """``dict(type='faiss', factory='IVF1024,Flat', nprobe=16)``.

    Attributes:
        factory (str): See faiss' index factory.
        nprobe (int, optional): Cells that an index with cells (IVF) visits.
        recall (float, optional): Share of the k nearest that it must find, in
            (0, 1]; the least nprobe that does is taken when the index is
            built. Without either, 0.95 is tried.
    """

    factory: str
    nprobe: Optional[Count] = None
    recall: Optional[Share] = None


Engine = Union[ExactEngine, FaissEngine]
_TYPES: Dict[str, Any] = dict(exact=ExactEngine, faiss=FaissEngine)
_FORMS = (
    "'exact', 'faiss:FACTORY' such as 'faiss:HNSW32', or a dict such as "
    "dict(type='faiss', factory='IVF1024,Flat', nprobe=16)"
)


def _joined(value: Any) -> Any:
    """MMEngine's command line makes lists of what commas separate."""
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(part, str) for part in value):
            return ','.join(value)
    return value


def engine_options(engine: Any, name: str = 'engine') -> Dict[str, Any]:
    """An engine's config as a dict, whose values are not looked at.

    Args:
        engine: The dict itself, or a short form: ``'exact'``, or ``'faiss:'``
            and a factory string.
        name (str): What the user calls it, for messages.

    Raises:
        ValueError: If it is neither.
    """
    for type_, kind in _TYPES.items():
        if isinstance(engine, kind):
            return dict(type=type_, **engine._asdict())
    if isinstance(engine, Mapping):
        return dict(engine)
    text = _joined(engine)
    if isinstance(text, str):
        type_, _, factory = text.partition(':')
        if text == 'exact':
            return dict(type='exact')
        if type_ == 'faiss' and factory:
            return dict(type='faiss', factory=factory)
    raise ValueError(f'{name}={shown(engine)} must be {_FORMS}')


def parse_engine(engine: Any, name: str = 'engine') -> Engine:
    """An engine's config, checked as far as faiss is not needed for it.

    Args:
        engine: See :func:`engine_options`; or what this function gave.
        name (str): What the user calls it, for messages.

    Raises:
        ValueError: If an option is unknown, missing, out of its range or
            contradicts another; the message names it.
    """
    options = engine_options(engine, name)
    types = ' or '.join(map(repr, _TYPES))
    if 'type' not in options:
        raise ValueError(
            f'{name}={shown(engine)} has no type; {name}.type must be {types}'
        )
    type_ = options.pop('type')
    if not isinstance(type_, str) or type_ not in _TYPES:
        raise ValueError(f'{name}.type={shown(type_)} must be {types}')
    kind = _TYPES[type_]
    hints = typing.get_type_hints(kind, include_extras=True)
    for key, value in options.items():
        if key not in hints:
            raise ValueError(_unknown(name, key, value, type_))
        if key == 'factory':
            value = _joined(value)
        options[key] = check(f'{name}.{key}', value, hints[key])
    if kind is FaissEngine:
        _check_options(options, name)
    elif options.get('device') is not None:
        device_of(options['device'], f'{name}.device')
    parsed: Engine = kind(**options)
    return parsed


def _unknown(name: str, key: Any, value: Any, type_: str) -> str:
    fields = list(_TYPES[type_]._fields)
    type_names = [t for t, kind in _TYPES.items() if key in kind._fields]
    close = difflib.get_close_matches(str(key), fields, 1)
    remedy = f'it has {fields}'
    if type_names:
        remedy = f'set {name}.type={type_names[0]!r}, or leave it out'
    elif close:
        remedy = f'do you mean {close[0]}?'
    return (
        f'{name}.{key}={shown(value)} is no option of {name}.type={type_!r}; '
        f'{remedy}'
    )


def _check_options(options: Mapping[str, Any], name: str) -> None:
    """Raise ValueError unless options of faiss fit each other."""
    factory, nprobe, recall = map(options.get, FaissEngine._fields)
    if not factory:
        raise ValueError(
            f'{name}.factory={shown(factory)} must be a string of '
            "faiss' index factory, such as 'IVF1024,Flat'"
        )
    if None not in (nprobe, recall):
        raise ValueError(
            f'{name}.recall={recall} chooses nprobe, but {name}.nprobe='
            f'{nprobe} is given as well; leave one of them out'
        )


@contextmanager
def _named(engine: Any, name: str) -> Iterator[None]:
    """Faiss knows its factory, and the user what he called the engine."""
    try:
        yield
    except ValueError as error:
        if isinstance(engine, str):
            raise ValueError(f'{name}={shown(engine)}: {error}') from error
        raise ValueError(f'{name}.{error}') from error


@checked()
def check_engine(
    engine: Any, metric: Metric, channels: Count, name: str = 'engine'
) -> Engine:
    """Check, before a bank is filled, that there is such an engine.

    Args:
        engine (dict | str): See :func:`parse_engine`.
        metric (str): ``'cosine'`` or ``'l2'``.
        channels (int): C.
        name (str): What the user calls it, for messages.

    Returns:
        Engine: Its config.

    Raises:
        ImportError: If it needs faiss, which is missing.
        ValueError: If there is none, or it does not read an option.
    """
    parsed = parse_engine(engine, name)
    if not isinstance(parsed, ExactEngine):
        with _named(engine, name):
            check_faiss(*parsed, metric, channels)
    return parsed


@checked()
def build_search(
    bank: MemoryBank,
    engine: Any = 'exact',
    metric: Metric = 'cosine',
    k: Count = 10,
) -> Search:
    """The engine of a config.

    Args:
        bank (MemoryBank): Not empty.
        engine (dict | str): See :func:`parse_engine`.
        metric (str): ``'cosine'`` or ``'l2'``.
        k (int): Neighbours that will be asked for, of which an approximate
            index must find its share.

    Raises:
        ImportError: If it needs faiss, which is missing.
        ValueError: If there is no such engine, or the bank is empty.
    """
    parsed = parse_engine(engine)
    if isinstance(parsed, ExactEngine):
        return ExactSearch(bank, metric, **parsed._asdict())
    with _named(engine, 'engine'):
        factory, nprobe, recall = parsed
        return FaissSearch(bank, factory, metric, nprobe, recall, k)
