"""Nearest neighbours by faiss, whose answers are compared in float64."""

import logging
import re
from contextlib import suppress
from functools import partial
from typing import Any, Optional, Tuple, cast

import numpy as np
import torch
from torch import Tensor

from ..options import Count, Seed, Share, checked, shown
from .bank import MemoryBank
from .exact_search import ExactSearch
from .float64 import pair_distances, prepared, total, unit
from .recall import HeldOut, Recall, least
from .scores import MOST_SQUARED, product_error, sample_of
from .search import Metric, Neighbours, PriorBias, check_queries

_logger = logging.getLogger('u1_plugin')
# Graphs of at most one edge, and numbers of 0, end the process in faiss; its
# maps of numbers need numbers that a bank does not give.
_REFUSED = re.compile(
    r'(HNSW|NSG)0*1(?![0-9])|(?<![0-9])0+(?![0-9])|IDMap|[^ -~]'
)
_RECALL = 0.95  # that is tried for where nobody says how far to look
_TRAINING = 2**18  # vectors that faiss learns cells and codes from, at most
_SPARE = 8  # candidates of an exhaustive index beside the k asked for


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
        ValueError: If faiss has no such index for vectors of this dimension,
            or it has no cells, which ``nprobe`` and ``recall`` are about.
    """
    try:
        import faiss
    except ImportError as error:
        raise ImportError(
            f"engine='faiss:{factory}' needs faiss; pip install 'u1_plugin"
            "[faiss]', or take engine='exact'"
        ) from error
    kind = faiss.METRIC_L2
    if metric == 'cosine':
        kind = faiss.METRIC_INNER_PRODUCT
    index, why = None, 'no number may be 0, nor a graph have one edge'
    if not _REFUSED.search(factory):
        try:
            index = faiss.index_factory(channels, factory, kind)
        except (RuntimeError, MemoryError) as error:
            why = _reason(error)
    if index is None:
        raise ValueError(
            f'factory={shown(factory)} is no index of faiss for {metric!r} and '
            f"{channels} channels ({why}); see faiss' index factory"
        )
    for name, value in dict(nprobe=nprobe, recall=recall).items():
        if value is not None and _cells_of(index) is None:
            raise ValueError(
                f'{name}={value} is not read by factory={shown(factory)}, '
                "which has no cells; leave it out, or take one with 'IVF'"
            )
    return index


def _cells_of(index: Any) -> Any:
    """The part of an index that has cells, or None."""
    import faiss

    return faiss.try_extract_index_ivf(index)


def _reason(error: Exception) -> str:
    # The end of faiss' message, without its source's places.
    return re.sub(r'^.*?\.cpp:\d+: ', '', str(error), flags=re.S)[:200]


class FaissSearch:
    """Any index that faiss' factory can name.

    The distances of what it finds are those of float64, and so is their order;
    at equal distances the smaller index comes first. ``'Flat'`` finds what
    :class:`ExactSearch` does: queries of which float32 cannot tell the k
    nearest are left to that. Of other indices the recall is measured on pixels
    held out from the bank, and logged; where none is asked for, the log warns
    below 0.95. Cells and codes are learnt from at most 2**18 vectors. The index
    goes to the GPUs where faiss is built for them and has its type there.

    Args:
        bank (MemoryBank): Not empty; faiss keeps a copy. It may change: the
            index is then built again.
        factory (str): Such as ``'Flat'``, ``'HNSW32'``, ``'IVF256,Flat'`` or
            ``'IVF256,PQ32'``.
        metric (str): ``'cosine'`` or ``'l2'``.
        nprobe (int, optional): Cells that an index with cells (IVF) visits.
        recall (float, optional): Share of the k nearest that an index with
            cells must find on held-out pixels; the least nprobe that does is
            taken. With neither, 0.95 is tried instead of faiss' one cell.
        k (int): Of which the recall is measured.
        queries (int): How many pixels are held out.
        seed (int): Of their draw.

    Raises:
        ImportError: Without faiss.
        ValueError: If faiss cannot build such an index of this bank, an option
            is out of its range or not read, or no nprobe reaches the recall.

    Attributes:
        measured (Recall): None of an exhaustive index.
    """

    @checked()
    def __init__(
        self,
        bank: MemoryBank,
        factory: str = 'Flat',
        metric: Metric = 'cosine',
        nprobe: Optional[Count] = None,
        recall: Optional[Share] = None,
        k: Count = 10,
        queries: Count = 256,
        seed: Seed = 0,
    ) -> None:
        self.bank, self.factory, self.metric = bank, factory, metric
        self.nprobe, self.recall = nprobe, recall
        self.k, self.queries, self.seed = k, queries, seed
        self._build()

    def __str__(self) -> str:
        recall = '' if self.measured is None else f', {self.measured}'
        return f'faiss {self.factory}{recall}'

    def _build(self) -> None:
        self._exact = ExactSearch(self.bank, self.metric)
        options = (self.factory, self.nprobe, self.recall, self.metric)
        self.index = check_faiss(*options, self.bank.channels or 0)
        import faiss

        self._exhaustive = isinstance(self.index, faiss.IndexFlat)
        try:
            if not self.index.is_trained:
                self.index.train(self._moved(sample_of(self.bank, _TRAINING)))
            for block in self.bank.blocks():
                self.index.add(self._moved(block))
        except (RuntimeError, MemoryError) as error:
            raise ValueError(
                f'factory={shown(self.factory)} does not fit {len(self.bank)} '
                f'vectors: {_reason(error)}'
            ) from error
        self.measured = None if self._exhaustive else self._measure()
        if faiss.get_num_gpus():
            with suppress(RuntimeError):  # HNSW has no GPU version, say
                self.index = faiss.index_cpu_to_all_gpus(self.index)
        self._changes = self.bank.changes

    def _measure(self) -> Recall:
        """Choose nprobe, if nobody did, and say what is found with it."""
        cells, nprobe = _cells_of(self.index), self.nprobe
        by_image = cells is not None
        held = HeldOut(self._exact, self.k, self.queries, self.seed, by_image)
        if cells is None or nprobe is not None:
            share = self._share(held, nprobe)
        else:
            share_at = partial(self._share, held)
            nprobe, share = least(share_at, cells.nlist, self.recall or _RECALL)
            cells.nprobe = nprobe
        count = None if cells is None else cells.nlist
        recall = Recall(share, self.k, len(held.vectors), nprobe, count)
        self._report(recall)
        return recall

    def _share(self, held: HeldOut, nprobe: Optional[int]) -> float:
        if nprobe is not None:
            _cells_of(self.index).nprobe = nprobe
        _, indices = self.index.search(self._moved(held.vectors), held.depth)
        return held.share(torch.from_numpy(indices))

    def _report(self, recall: Recall) -> None:
        """Log what an index finds, or refuse it."""
        line = (
            f'memory: factory={shown(self.factory)}: {recall}, on '
            f'{recall.queries} pixels held out from the bank'
        )
        if recall.share >= (self.recall or _RECALL):
            _logger.info(line)
            return
        if self.recall is not None:
            raise ValueError(
                f'recall={self.recall} is not reached by factory='
                f'{shown(self.factory)}: {recall}, and there are no more; '
                'take a finer code, such as Flat, or a lower recall'
            )
        remedy = "take another factory, or engine='exact'"
        if (recall.nprobe or 0) < (recall.cells or 0):
            remedy = f'set a greater nprobe, or recall={_RECALL}'
        _logger.warning(
            f'{line}: votes come from other pixels than the nearest; {remedy}'
        )

    def _moved(self, vectors: Tensor) -> np.ndarray:
        """Where float32 tells them apart, ``(n, C)``, for faiss."""
        if self.metric == 'cosine':
            return unit(vectors).float().contiguous().numpy()
        return self._exact.scores.moved(vectors).contiguous().numpy()

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, bias: Optional[PriorBias] = None
    ) -> Neighbours:
        """See :class:`~.search.Search`.

        An approximate index that finds fewer than k gives index -1 and an
        infinite distance for the rest.

        Raises:
            ValueError: As :class:`ExactSearch` does, or if a bias is given.
        """
        if self._changes != self.bank.changes:
            self._build()
        k = check_queries(self.bank, queries, k, bias)
        if bias is not None:
            raise ValueError(
                "a prior in the search needs engine='exact'; faiss ranks by "
                'vectors alone'
            )
        cpu_queries = queries.detach().cpu()
        neighbours, sure = self._search(cpu_queries, k)
        if not sure.all():
            exact = self._exact.search(cpu_queries[~sure], k)
            for target, values in zip(neighbours, exact):
                target[~sure] = values
        return Neighbours(*(field.to(queries.device) for field in neighbours))

    def _search(self, queries: Tensor, k: int) -> Tuple[Neighbours, Tensor]:
        """What faiss finds, in exact order; and which of it is sure."""
        moved = torch.from_numpy(self._moved(queries)).double()
        squared = total(moved.square())
        sure = squared < MOST_SQUARED
        moved = torch.where(sure[:, None], moved, 0.0).float()
        count = min(k + _SPARE, len(self.bank)) if self._exhaustive else k
        answer = self.index.search(moved.numpy(), count)
        scores, where = map(torch.from_numpy, answer)
        query, column = (where >= 0).nonzero(as_tuple=True)
        index, exact = where[query, column], prepared(queries, self.metric)
        vectors = self.bank.vectors
        far = pair_distances(exact, query, index, vectors, self.metric)
        neighbours = Neighbours.none(queries, k)
        neighbours = neighbours.joined(query, Neighbours(far, index, far))
        if self._exhaustive and count < len(self.bank):
            last, farthest = scores[:, -1].double(), neighbours.distances[:, -1]
            error = product_error(queries.size(1)) + 2.0**-20
            if self.metric == 'cosine':
                sure &= 1 - farthest > last + error
            else:
                # Of a pixel at distance d, faiss' squared distance is off by
                # less than error (2 |q| + d)^2.
                scaled = (farthest * self._exact.scores.scale).square()
                sure &= scaled * (1 + 3 * error) < last - 8 * error * squared
        return neighbours, sure


@checked()
def least_nprobe(
    bank: MemoryBank,
    factory: str,
    recall: Share = 0.95,
    queries: Count = 256,
    seed: Seed = 0,
    k: Count = 10,
    metric: Metric = 'cosine',
) -> Recall:
    """The least nprobe with which an index finds a share of the k nearest.

    It is measured as :class:`FaissSearch` does, which builds the index.

    Args:
        factory (str): Of an index with cells, such as ``'IVF1024,Flat'``; all
            other options are as there.

    Returns:
        Recall: With ``nprobe`` and the share reached.

    Raises:
        ImportError: Without faiss.
        ValueError: If an option is out of its range, the index has no cells
            or does not fit the bank, or no nprobe reaches the share.
    """
    search = FaissSearch(bank, factory, metric, None, recall, k, queries, seed)
    # An index without cells has been refused, with the recall.
    return cast(Recall, search.measured)
