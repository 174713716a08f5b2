"""The search engines by name."""

from contextlib import contextmanager
from typing import Iterator, Optional

from ..options import Count, checked, shown
from .bank import MemoryBank
from .exact_search import ExactSearch
from .faiss_search import FaissSearch, empty_index
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


def _factory(engine: str) -> Optional[str]:
    """The factory string of faiss in an engine's name, None if exact."""
    name, _, factory = engine.partition(':')
    if name == 'faiss' and factory:
        return factory
    if engine != 'exact':
        raise ValueError(
            f"engine={shown(engine)} must be 'exact' or 'faiss:FACTORY', such "
            "as 'faiss:HNSW32'"
        )
    return None


@contextmanager
def _named(engine: str) -> Iterator[None]:
    """Faiss knows its factory, and the user what he called the engine."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f'engine={shown(engine)}: {error}') from error


@checked()
def check_engine(engine: str, metric: Metric, channels: Count) -> None:
    """Check, before a bank is filled, that there is such an engine.

    Args:
        engine (str): ``'exact'``, or ``'faiss:'`` and a factory string.
        metric (str): ``'cosine'`` or ``'l2'``.
        channels (int): C.

    Raises:
        ImportError: If it needs faiss, which is missing.
        ValueError: If there is none.
    """
    factory = _factory(engine)
    if factory is not None:
        with _named(engine):
            empty_index(factory, metric, channels)


@checked()
def build_search(
    bank: MemoryBank, engine: str = 'exact', metric: Metric = 'cosine'
) -> Search:
    """The engine of a name.

    Args:
        bank (MemoryBank): Not empty.
        engine (str): ``'exact'``, or ``'faiss:'`` and a factory string.
        metric (str): ``'cosine'`` or ``'l2'``.

    Raises:
        ImportError: If it needs faiss, which is missing.
        ValueError: If there is no such engine, or the bank is empty.
    """
    factory = _factory(engine)
    if factory is None:
        return ExactSearch(bank, metric)
    with _named(engine):
        return FaissSearch(bank, factory, metric)
