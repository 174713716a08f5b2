"""The search engines by their configs."""

from contextlib import contextmanager
from typing import Any, Iterator

from ..options import Count, checked, shown
from .bank import MemoryBank
from .engine_configs import Engine, ExactEngine, parse_engine
from .exact_search import ExactSearch
from .faiss_index import check_faiss
from .faiss_search import FaissSearch
from .search import Bias, Metric, Neighbours, Search

__all__ = [
    'Bias',
    'ExactSearch',
    'FaissSearch',
    'Neighbours',
    'Search',
    'build_search',
    'check_engine',
]


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
        engine (dict | str): See :func:`~.engine_configs.parse_engine`.
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
        engine (dict | str): See :func:`~.engine_configs.parse_engine`.
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
        return FaissSearch(
            bank, parsed.factory, metric, parsed.nprobe, parsed.recall, k
        )
