"""Nearest neighbours by faiss, whose answers are compared in float64."""

import re
from typing import Optional, Tuple

import torch
from torch import Tensor

from ..options import Index, checked, shown
from .bank import MemoryBank
from .exact_search import ExactSearch
from .precise import distances, prepared, total, unit
from .scores import MOST_SQUARED, product_error, sample_of
from .search import Bias, Metric, Neighbours, check_queries

_TRAINING = 2**18  # vectors that faiss learns cells and codes from, at most
_SPARE = 8  # candidates of an exhaustive index beside the k asked for
# Graphs of at most one edge, and numbers of 0, end the process in faiss; its
# maps of numbers need numbers that a bank does not give.
_REFUSED = re.compile(
    r'(HNSW|NSG)0*1(?![0-9])|(?<![0-9])0+(?![0-9])|IDMap|[^ -~]'
)


class FaissSearch:
    """Any index that faiss' factory can name.

    The distances of what it finds are those of float64, and so is their order;
    at equal distances the smaller index comes first. ``'Flat'`` finds what
    :class:`ExactSearch` does: queries of which float32 cannot tell the k
    nearest are left to that. Other indices find what they find.

    Cells and codes are learnt from at most 2**18 vectors. The index goes to
    the GPUs where faiss has been built for them and its type exists there.

    Args:
        bank (MemoryBank): Not empty; faiss keeps its own copy of it. It may
            change: the index is then built again.
        factory (str): Such as ``'Flat'``, ``'HNSW32'``, ``'IVF256,Flat'`` or
            ``'IVF256,PQ32'``.
        metric (str): ``'cosine'`` or ``'l2'``.
        nprobe (int, optional): Cells that an IVF index visits.

    Raises:
        ImportError: Without faiss.
        ValueError: If faiss does not know the name, or cannot build such an
            index of this bank; or another option is out of its range.
    """

    @checked()
    def __init__(
        self,
        bank: MemoryBank,
        factory: str = 'Flat',
        metric: Metric = 'cosine',
        nprobe: Index = 0,
    ) -> None:
        self.bank = bank
        self.factory = factory
        self.metric = metric
        self.nprobe = nprobe
        self._build()

    def _build(self) -> None:
        self._exact = ExactSearch(self.bank, self.metric)
        self.index = empty_index(self.factory, self.metric, self.bank.channels)
        faiss = _faiss(self.factory)
        self._exhaustive = isinstance(self.index, faiss.IndexFlat)
        try:
            if not self.index.is_trained:
                self.index.train(self._moved(sample_of(self.bank, _TRAINING)))
            for block in self.bank.blocks():
                self.index.add(self._moved(block))
            if self.nprobe:
                faiss.extract_index_ivf(self.index).nprobe = self.nprobe
        except (RuntimeError, MemoryError) as error:
            raise ValueError(
                f'factory={shown(self.factory)} with nprobe={self.nprobe} does '
                f'not fit {len(self.bank)} vectors: {_reason(error)}'
            ) from error
        if faiss.get_num_gpus():
            try:
                self.index = faiss.index_cpu_to_all_gpus(self.index)
            except RuntimeError:  # a type that has no GPU version, as HNSW
                pass
        self._changes = self.bank.changes

    def _moved(self, vectors: Tensor):
        """Where float32 tells them apart, ``(n, C)``, for faiss."""
        vectors = vectors.detach().cpu()
        if self.metric == 'cosine':
            vectors = unit(vectors).float()
        else:
            vectors = self._exact.scores.moved(vectors)
        return vectors.contiguous().numpy()

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, bias: Optional[Bias] = None
    ) -> Neighbours:
        """See :class:`~.search.Search`.

        An approximate index that finds fewer than k gives index -1 and an
        infinite distance for the rest.

        Raises:
            ValueError: If the dimension or k does not fit the bank, a query is
                not finite, or a bias is given: faiss ranks by vectors alone.
        """
        if self._changes != self.bank.changes:
            self._build()
        k = check_queries(self.bank, queries, k, bias)
        if bias is not None:
            raise ValueError(
                "a prior in the search needs engine='exact'; faiss ranks by "
                'vectors alone'
            )
        asked = queries.detach().cpu()
        found, sure = self._search(asked, k)
        if not sure.all():
            rest = self._exact.search(asked[~sure], k)
            for whole, values in zip(found, rest):
                whole[~sure] = values
        return Neighbours(*(field.to(queries.device) for field in found))

    def _search(self, queries: Tensor, k: int) -> Tuple[Neighbours, Tensor]:
        """What faiss finds, in exact order; and which of it is sure."""
        moved = torch.from_numpy(self._moved(queries)).double()
        squared = total(moved.square())
        sure = squared < MOST_SQUARED
        moved = torch.where(sure[:, None], moved, 0.0).float()
        count = k
        if self._exhaustive:
            count = min(k + _SPARE, len(self.bank))
        scores, where = map(
            torch.from_numpy, self.index.search(moved.numpy(), count)
        )
        query, column = (where >= 0).nonzero(as_tuple=True)
        far = self._distances(queries, query, where[query, column])
        found = Neighbours.none(queries, k).joined(
            query, Neighbours(far, where[query, column], far)
        )
        if self._exhaustive and count < len(self.bank):
            last, farthest = scores[:, -1].double(), found.distances[:, -1]
            error = product_error(queries.size(1)) + 2.0**-20
            if self.metric == 'cosine':
                sure &= 1 - farthest > last + error
            else:
                # Of a pixel at distance d, faiss' squared distance is off by
                # less than error (2 |q| + d)^2.
                scaled = (farthest * self._exact.scores.scale).square()
                least = last - 8 * error * squared
                sure &= scaled * (1 + 3 * error) < least
        return found, sure

    def _distances(self, queries: Tensor, query: Tensor, index: Tensor):
        exact = prepared(queries, self.metric)
        far = [exact.new_empty(0)]
        size = max(1, 2**20 // exact.size(1))
        for own, others in zip(query.split(size), index.split(size)):
            memory = prepared(self.bank.vectors(others), self.metric)
            far.append(distances(exact[own], memory, self.metric))
        return torch.cat(far)


def _faiss(factory: str):
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"engine='faiss:{factory}' needs faiss; pip install 'u1_plugin"
            "[faiss]', or take engine='exact'"
        ) from error
    return faiss


def empty_index(factory: str, metric: str, channels: int):
    """An index of faiss without vectors.

    Raises:
        ImportError: Without faiss.
        ValueError: If faiss has no such index for vectors of this dimension.
    """
    faiss = _faiss(factory)
    inner = faiss.METRIC_INNER_PRODUCT
    kind = inner if metric == 'cosine' else faiss.METRIC_L2
    reason = 'no number may be 0, nor a graph have one edge'
    if not _REFUSED.search(factory):
        try:
            return faiss.index_factory(channels, factory, kind)
        except (RuntimeError, MemoryError) as error:
            reason = _reason(error)
    raise ValueError(
        f'factory={shown(factory)} is no index of faiss for {metric!r} and '
        f"{channels} channels ({reason}); see faiss' index factory"
    )


def _reason(error: Exception) -> str:
    """The end of faiss' message, without its source's places."""
    return re.sub(r'^.*?\.cpp:\d+: ', '', str(error), flags=re.S)[:200]
