"""Indices of faiss by their factory strings, before they hold vectors."""

import re
from typing import Any, Optional

from ..options import shown

# Graphs of at most one edge, and numbers of 0, end the process in faiss; its
# maps of numbers need numbers that a bank does not give.
_REFUSED = re.compile(
    r'(HNSW|NSG)0*1(?![0-9])|(?<![0-9])0+(?![0-9])|IDMap|[^ -~]'
)


def load_faiss(factory: str) -> Any:
    """Faiss, which such an engine needs.

    Raises:
        ImportError: Without it.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"engine='faiss:{factory}' needs faiss; pip install 'u1_plugin"
            "[faiss]', or take engine='exact'"
        ) from error
    return faiss


def check_faiss(
    factory: str,
    nprobe: Optional[int],
    recall: Optional[float],
    metric: str,
    channels: int,
) -> Any:
    """An index of faiss without vectors, which reads its options.

    Raises:
        ImportError: Without faiss.
        ValueError: If there is no such index, or it has no cells, which
            ``nprobe`` and ``recall`` are about.
    """
    index = empty_index(factory, metric, channels)
    for name, value in dict(nprobe=nprobe, recall=recall).items():
        if value is not None and cells_of(index) is None:
            raise ValueError(
                f'{name}={value} is not read by factory={shown(factory)}, '
                "which has no cells; leave it out, or take one with 'IVF'"
            )
    return index


def cells_of(index: Any) -> Any:
    """The part of an index that has cells, or None."""
    import faiss

    return faiss.try_extract_index_ivf(index)


def empty_index(factory: str, metric: str, channels: int) -> Any:
    """An index of faiss without vectors.

    Raises:
        ImportError: Without faiss.
        ValueError: If faiss has no such index for vectors of this dimension.
    """
    faiss = load_faiss(factory)
    inner = faiss.METRIC_INNER_PRODUCT
    kind = inner if metric == 'cosine' else faiss.METRIC_L2
    why = 'no number may be 0, nor a graph have one edge'
    if not _REFUSED.search(factory):
        try:
            return faiss.index_factory(channels, factory, kind)
        except (RuntimeError, MemoryError) as error:
            why = reason(error)
    raise ValueError(
        f'factory={shown(factory)} is no index of faiss for {metric!r} and '
        f"{channels} channels ({why}); see faiss' index factory"
    )


def reason(error: Exception) -> str:
    """The end of faiss' message, without its source's places."""
    return re.sub(r'^.*?\.cpp:\d+: ', '', str(error), flags=re.S)[:200]
