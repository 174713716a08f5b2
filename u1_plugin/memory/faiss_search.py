"""Nearest neighbours by faiss, whose answers are compared in float64."""

import logging
from typing import Optional, Tuple, cast

import numpy as np
import torch
from torch import Tensor

from ..options import Count, Seed, Share, checked, shown
from .bank import MemoryBank
from .exact_search import ExactSearch
from .faiss_index import cells_of, check_faiss, load_faiss, reason
from .precise import distances, prepared, total, unit
from .recall import HeldOut, Recall, least
from .scores import MOST_SQUARED, product_error, sample_of
from .search import Bias, Metric, Neighbours, check_queries

_logger = logging.getLogger('u1_plugin')
_RECALL = 0.95  # that is tried for where nobody says how far to look
_TRAINING = 2**18  # vectors that faiss learns cells and codes from, at most
_SPARE = 8  # candidates of an exhaustive index beside the k asked for


class FaissSearch:
    """Any index that faiss' factory can name.

    The distances of what it finds are those of float64, and so is their order;
    at equal distances the smaller index comes first. ``'Flat'`` finds what
    :class:`ExactSearch` does: queries of which float32 cannot tell the k
    nearest are left to that. Of other indices the recall is measured on pixels
    held out from the bank, and logged; a warning, where it is below what was
    asked for, or below 0.95.

    Cells and codes are learnt from at most 2**18 vectors. The index goes to
    the GPUs where faiss has been built for them and its type exists there.

    Args:
        bank (MemoryBank): Not empty; faiss keeps its own copy of it. It may
            change: the index is then built again.
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
        ValueError: If faiss does not know the name, or cannot build such an
            index of this bank; if an option is out of its range or not read
            by the index; or if no nprobe reaches a recall that is given.

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
        self.bank = bank
        self.factory = factory
        self.metric = metric
        self.nprobe, self.recall = nprobe, recall
        self.k, self.queries, self.seed = k, queries, seed
        self._build()

    def __str__(self) -> str:
        found = '' if self.measured is None else f', {self.measured}'
        return f'faiss {self.factory}{found}'

    def _build(self) -> None:
        self._exact = ExactSearch(self.bank, self.metric)
        self.index = check_faiss(
            self.factory,
            self.nprobe,
            self.recall,
            self.metric,
            self.bank.channels or 0,
        )
        faiss = load_faiss(self.factory)
        self._exhaustive = isinstance(self.index, faiss.IndexFlat)
        try:
            if not self.index.is_trained:
                self.index.train(self._moved(sample_of(self.bank, _TRAINING)))
            for block in self.bank.blocks():
                self.index.add(self._moved(block))
        except (RuntimeError, MemoryError) as error:
            raise ValueError(
                f'factory={shown(self.factory)} does not fit {len(self.bank)} '
                f'vectors: {reason(error)}'
            ) from error
        self.measured: Optional[Recall] = None
        if not self._exhaustive:
            self.measured = self._measure()
        if faiss.get_num_gpus():
            try:
                self.index = faiss.index_cpu_to_all_gpus(self.index)
            except RuntimeError:  # a type that has no GPU version, as HNSW
                pass
        self._changes = self.bank.changes

    def _measure(self) -> Recall:
        """Choose nprobe, if nobody did, and say what is found with it."""
        cells = cells_of(self.index)
        by_image = cells is not None
        held = HeldOut(self._exact, self.k, self.queries, self.seed, by_image)
        if cells is None:
            nprobe, share = None, self._share(held)
        elif self.nprobe is not None:
            nprobe, share = self.nprobe, self._share(held, self.nprobe)
        else:
            nprobe, share = least(
                lambda cells: self._share(held, cells),
                cells.nlist,
                self.recall or _RECALL,
            )
            cells.nprobe = nprobe
        found = Recall(
            share,
            self.k,
            len(held.vectors),
            nprobe,
            None if cells is None else cells.nlist,
        )
        self._report(found)
        return found

    def _share(self, held: HeldOut, nprobe: Optional[int] = None) -> float:
        if nprobe is not None:
            cells_of(self.index).nprobe = nprobe
        vectors = held.vectors
        _, where = self.index.search(self._moved(vectors), held.depth)
        return held.share(
            torch.from_numpy(where),
            lambda query, index: self._distances(vectors, query, index),
        )

    def _report(self, found: Recall) -> None:
        """Log what an index finds, or refuse it."""
        line = (
            f'memory: factory={shown(self.factory)}: {found}, on '
            f'{found.queries} pixels held out from the bank'
        )
        if found.share >= (self.recall or _RECALL):
            _logger.info(line)
            return
        if self.recall is not None:
            raise ValueError(
                f'recall={self.recall} is not reached by factory='
                f'{shown(self.factory)}: {found}, and there are no more; '
                'take a finer code, such as Flat, or a lower recall'
            )
        remedy = "take another factory, or engine='exact'"
        if (found.nprobe or 0) < (found.cells or 0):
            remedy = f'set a greater nprobe, or recall={_RECALL}'
        _logger.warning(
            '%s: votes come from other pixels than the nearest; %s',
            line,
            remedy,
        )

    def _moved(self, vectors: Tensor) -> np.ndarray:
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

    def _distances(
        self, queries: Tensor, query: Tensor, index: Tensor
    ) -> Tensor:
        exact = prepared(queries, self.metric)
        far = [exact.new_empty(0)]
        size = max(1, 2**20 // exact.size(1))
        for own, others in zip(query.split(size), index.split(size)):
            memory = prepared(self.bank.vectors(others), self.metric)
            far.append(distances(exact[own], memory, self.metric))
        return torch.cat(far)


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

    Measured on pixels drawn from the bank, without those of their own image,
    against the exact engine; the index is built for it.

    Args:
        bank (MemoryBank): Not empty.
        factory (str): Of an index with cells, such as ``'IVF1024,Flat'``.
        recall (float): The share to reach, in (0, 1].
        queries (int): How many pixels.
        seed (int): Of their draw.
        k (int): Neighbours.
        metric (str): ``'cosine'`` or ``'l2'``.

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
