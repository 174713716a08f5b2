"""Exact nearest neighbours, mostly at the cost of a matrix product."""

from typing import NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..geometry.scales import without_autocast
from ..options import Count, checked
from .bank import MemoryBank
from .device_copy import DeviceCopy, Vectors
from .float64 import pair_distances
from .scores import PreparedQueries, ScoreDtype, Scores
from .search import Metric, Neighbours, PriorBias, check_queries
from .selection import above, greatest

_SPARE = 8  # candidates beside the k that are asked for, at least
#: Times as many of them, where scores are that coarse.
_MORE = dict(float32=1, float16=16, bfloat16=64)
_RESCAN_BATCH = 64  # queries at a time that look at all pixels again
#: Numbers of a block's scores, and of its vectors. Every step waits for the
#: slowest core, so fewer and larger ones cost less where cores are shared.
_SCORES, _VECTORS = 2**24, 2**24
#: The latter of a block that a CPU reads, decodes or moves to other memory
#: first: what is small is reused while it is in the caches.
_COPIED = 2**21
#: Both on a GPU, where a block costs some thirty launches whatever its size:
#: 128 queries of 10^6 x 512 take 11.3 ms with 2^24 numbers of vectors, 6.9 with
#: 2^24 scores, 6.3 with 2^25 and 5.9 with all at once (an H200).
_ON_GPU = 2**26
_TEMPORARIES = 8  # of a block's scores, where bounds are of float64


class _Candidates(NamedTuple):
    """The pixels with the greatest upper bounds, ``(Q, n)``."""

    most: Tensor  # upper bounds of what ranks them, descending
    closeness: Tensor  # upper bounds; see `PreparedQueries`
    indices: Tensor


class ExactSearch:
    """Blocked matrix products, and float64 for what they cannot tell.

    Products in float32 or narrower, with a bound on their error, leave a few
    candidates for each query. Their distances are those of float64, and so is
    their order; at equal distances the smaller index comes first. A query of
    which more pixels than usual may be among the nearest looks at all of those.

    Beside the bank it needs ``chunk * block`` scores, one number a pixel and
    one block in float32: 128 MiB at most, on a GPU 512, and the number, by
    default. Narrower products copy blocks and scores. Runs where the queries
    are, or on a ``device``: name a GPU, or the bank moves there for every chunk
    of queries.

    Args:
        bank (MemoryBank): Not empty. It may change: the answers follow.
        metric (str): ``'cosine'`` or ``'l2'``.
        chunk (int): Queries at a time.
        block (int, optional): Pixels at a time; None takes as many as make
            2^24 scores or 2^24 numbers of vectors, whichever is less, and
            2^21 where what is multiplied does not lie in memory; on a GPU
            2^26 of either, and of vectors that lie there as many as one likes.
        dtype (str): Of the products: ``'float32'``, ``'float16'`` or
            ``'bfloat16'``. The answer is the same; coarser products leave
            more pixels to compare, and pay where the hardware multiplies
            them so much faster.
        device (str, optional): Where to search, such as ``'cuda'``, and to
            keep a copy of the vectors, as far as it fits (see
            :class:`~.device_copy.DeviceCopy`); None keeps none.

    Raises:
        ValueError: If an option is out of its range or the bank empty.
    """

    @checked()
    def __init__(
        self,
        bank: MemoryBank,
        metric: Metric = 'cosine',
        chunk: Count = 1024,
        block: Optional[Count] = None,
        dtype: ScoreDtype = 'float32',
        device: Optional[str] = None,
    ) -> None:
        self.bank = bank
        self.device = device
        self.metric = metric
        self.dtype = dtype
        self.chunk = chunk
        self.block = block
        self._follow()

    def __str__(self) -> str:
        narrow = '' if self.dtype == 'float32' else f', {self.dtype} scores'
        return f'exact{narrow}' + f' on {self.device}' * bool(self.device)

    def _follow(self) -> None:
        if not len(self.bank):
            raise ValueError('the bank is empty; fill it before searching')
        # With these an old copy goes before a new one comes.
        vars(self).pop('scores', None)
        self._stored: Vectors = self.bank
        if self.device is not None:
            self._stored = DeviceCopy(self.bank, self.device)
        self.scores = Scores(self._stored, self.metric, self.dtype)
        self._changes = self.bank.changes

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, bias: Optional[PriorBias] = None
    ) -> Neighbours:
        """See :class:`~.search.Search`.

        Raises:
            ValueError: If the dimension, k or the bias does not fit the bank,
                or a query is not finite.
        """
        if self._changes != self.bank.changes:
            self._follow()
        k = check_queries(self.bank, queries, k, bias)
        chunk = self.chunk
        if bias is not None:
            bias.check(len(queries), len(self.bank), self.metric)
            chunk = -(-chunk // _TEMPORARIES)
        home = queries.device
        queries = queries.to(self.device or home)
        neighbours = Neighbours.none(queries, k)
        with without_autocast(queries.device):
            for start in range(0, len(queries), chunk):
                rows = slice(start, start + chunk)
                chunk_bias = None if bias is None else bias.select(rows)
                part = self._search(queries[rows], chunk_bias, k)
                for target, values in zip(neighbours, part):
                    target[rows] = values
        return Neighbours(*(field.to(home) for field in neighbours))

    def _rows(self, prepared: PreparedQueries, copies: int) -> int:
        """Pixels at a time, where so many scores of each are held."""
        queries, channels = (max(1, n) for n in prepared.vectors.shape)
        lent = self.bank.dtype == 'float32' and not self.bank.mapped
        lent = lent and self.scores.plain
        if prepared.vectors.device.type == 'cpu':
            scores, vectors = _SCORES, _VECTORS if lent else _COPIED
        else:
            held = isinstance(self._stored, DeviceCopy) and self._stored.whole
            lent = lent and held and self.dtype == 'float32'
            scores = _ON_GPU
            vectors = channels * len(self.bank) if lent else _ON_GPU
        most = min(scores // (copies * queries), vectors // channels)
        return self.block or max(1, most)

    def _search(
        self, queries: Tensor, bias: Optional[PriorBias], k: int
    ) -> Neighbours:
        prepared = self.scores.prepare(queries, bias)
        count = min(k + max(_SPARE, k // 4), len(self.bank))
        count = min(count * _MORE[self.dtype], len(self.bank))
        candidates = self._candidates(prepared, count)
        # A pixel whose bound lies below this one is not among the k nearest.
        needed = self._least(prepared, candidates).topk(k, dim=1).values[:, -1:]
        unknown = prepared.slack.isinf()
        needed[unknown] = -torch.inf
        again = unknown
        if count < len(self.bank):
            again = again | (candidates.most[:, -1:] >= needed)[:, 0]
        sure = (candidates.most >= needed) & ~again[:, None]
        query, column = sure.nonzero(as_tuple=True)
        nearest, index = Neighbours.none(prepared.exact, k), candidates.indices
        nearest = self._joined(nearest, prepared, query, index[query, column])
        for rows in again.nonzero()[:, 0].split(_RESCAN_BATCH):
            if not len(rows):
                break  # the split of nothing
            rows_bias = None if bias is None else bias.select(rows)
            prepared = self.scores.prepare(queries[rows], rows_bias)
            part = self._look_again(prepared, needed[rows], k)
            for target, values in zip(nearest, part):
                target[rows] = values
        return nearest

    def _candidates(self, prepared: PreparedQueries, count: int) -> _Candidates:
        # What ranks the best so far, their scores and indices, best first.
        none = prepared.vectors.new_empty(len(prepared.vectors), 0)
        best: Tuple[Tensor, ...] = (none, none, none.long())
        rows = self._rows(
            prepared, 1 if prepared.bias is None else _TEMPORARIES
        )
        for start, _, scores in self.scores.blocks(prepared, rows):
            ranking = scores
            if prepared.bias is not None:
                ranking = self._upper(prepared, scores, start)
            # A GPU would have to wait for the number of those that are greater.
            full = best[0].size(1) == count and scores.device.type == 'cpu'
            if full and bool(best[0][:, -1].isfinite().all()):
                values, at = above(ranking, best[0][:, -1:])
            else:
                values, at = greatest(ranking, min(count, scores.size(1)))
            if not at.size(1):
                continue  # as in most later blocks, of few queries
            part = (values, scores.gather(1, at), at + start)
            joined = [torch.cat(both, dim=1) for both in zip(best, part)]
            kept = min(count, joined[0].size(1))
            order = joined[0].topk(kept, dim=1).indices
            best = tuple(field.gather(1, order) for field in joined)
        most, scores, indices = best
        closeness = scores + prepared.slack[:, None]
        return _Candidates(
            closeness if prepared.bias is None else most, closeness, indices
        )

    def _upper(
        self, prepared: PreparedQueries, scores: Tensor, start: int
    ) -> Tensor:
        """Upper bounds of closeness, or of log votes, of a block's pixels."""
        closeness = scores + prepared.slack[:, None]
        index = torch.arange(start, start + scores.size(1))[None]
        return self._ranking(prepared, closeness, index, 1)

    def _least(
        self, prepared: PreparedQueries, candidates: _Candidates
    ) -> Tensor:
        """Lower bounds of what ranks the candidates."""
        index, slack = candidates.indices, prepared.slack[:, None]
        span = self.scores.span(index, prepared.vectors.size(1))
        closeness = candidates.closeness - 2 * slack - span
        return self._ranking(prepared, closeness, index, -1)

    def _ranking(
        self,
        prepared: PreparedQueries,
        closeness: Tensor,
        index: Tensor,
        sign: int,
    ) -> Tensor:
        """Bounds of what ranks pixels, upper or lower ones as the closeness."""
        if prepared.bias is None:
            return closeness
        distances = self.scores.distances(prepared, closeness)
        query = torch.arange(len(closeness))[:, None]
        logs = prepared.bias.of_pairs(query, index, distances)
        return prepared.bias.bounds(logs, sign)

    def _look_again(
        self, prepared: PreparedQueries, needed: Tensor, k: int
    ) -> Neighbours:
        """Compare all pixels that may be among the nearest, in float64."""
        nearest = Neighbours.none(prepared.exact, k)
        # Ascending indices: later pixels do not replace any at this cost.
        least = torch.zeros(len(needed), device=needed.device)
        if self.metric == 'cosine':
            least[~prepared.exact.any(1)] = 1
        if prepared.bias is not None:
            least -= torch.inf
        rows = self._rows(prepared, _TEMPORARIES)
        for start, block, scores in self.scores.blocks(prepared, rows):
            is_candidate = self._upper(prepared, scores, start) >= needed
            query, column = is_candidate.nonzero(as_tuple=True)
            index = column + start
            nearest = self._joined(
                nearest, prepared, query, index, block, start
            )
            needed[nearest.costs[:, -1] <= least] = torch.inf
        return nearest

    def _joined(
        self,
        neighbours: Neighbours,
        prepared: PreparedQueries,
        query: Tensor,
        index: Tensor,
        block: Optional[Tensor] = None,
        start: int = 0,
    ) -> Neighbours:
        """What is found, with some pairs of a query and a pixel."""

        def vectors(used: Tensor) -> Tensor:
            if block is not None:
                return block[used - start]
            place = 'cpu' if self.device is None else self.device
            return self._stored.vectors(used.to(place)).to(used.device)

        far = costs = pair_distances(
            prepared.exact, query, index, vectors, self.metric
        )
        if prepared.bias is not None:
            costs = -prepared.bias.of_pairs(query, index, far)
        return neighbours.joined(query, Neighbours(far, index, costs))
