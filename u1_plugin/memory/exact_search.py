"""Exact nearest neighbours, mostly at the cost of a matrix product."""

from functools import partial
from typing import Callable, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..options import Count, checked
from .bank import MemoryBank
from .device_copy import DeviceCopy, Vectors
from .engine_configs import ExactEngine
from .precise import distances, prepared
from .scores import Asked, ScoreDtype, Scores
from .search import Bias, Metric, Neighbours, check_bank, check_queries

_GROUP = 64  # scores that one maximum stands for
_SPARE = 8  # candidates beside the k that are asked for, at least
#: Times as many of them, where scores are that coarse.
_MORE = dict(float32=1, float16=16, bfloat16=64)
_NUMBERS = 2**20  # in a temporary of float64, about
_FEW = 64  # queries at a time that look at all pixels again


class _Question(NamedTuple):
    """Some queries, as products, float64 and votes need them."""

    asked: Asked
    exact: Tensor
    bias: Optional[Bias]

    def select(self, rows: Tensor) -> '_Question':
        bias = None if self.bias is None else self.bias.select(rows)
        return _Question(self.asked.select(rows), self.exact[rows], bias)


class _Candidates(NamedTuple):
    """The pixels with the greatest upper bounds, ``(Q, n)``.

    Attributes:
        most (Tensor): Upper bounds of what ranks them, descending.
        closeness (Tensor): Upper bounds; see :class:`Asked`.
        indices (Tensor): Into the bank.
    """

    most: Tensor
    closeness: Tensor
    indices: Tensor


class ExactSearch:
    """Blocked matrix products, and float64 for what they cannot tell.

    Products in float32 or narrower, with a bound on their error, leave a few
    candidates for each query. Their distances are those of float64, and so is
    their order; at equal distances the smaller index comes first. A query of
    which more pixels than usual may be among the nearest looks at all of those.

    Beside the bank it needs ``chunk * block`` scores, one number a pixel and
    one block in float32. Runs where the queries are, or on a ``device``: name
    a GPU, or the bank moves there for every chunk of queries.

    Args:
        bank (MemoryBank): Not empty. It may change: the answers follow.
        metric (str): ``'cosine'`` or ``'l2'``.
        chunk (int): Queries at a time.
        block (int): Pixels at a time.
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
        block: Count = 16384,
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
        return str(ExactEngine(self.dtype, self.device))

    def _follow(self) -> None:
        check_bank(self.bank)
        # With these an old copy goes before a new one comes.
        vars(self).pop('scores', None)
        self._stored: Vectors = self.bank
        if self.device is not None:
            self._stored = DeviceCopy(self.bank, self.device)
        self.scores = Scores(self._stored, self.metric, self.dtype)
        self._changes = self.bank.changes

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, bias: Optional[Bias] = None
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
            chunk = -(-chunk // 8)  # votes need several temporaries of float64
        home = queries.device
        queries = queries.to(self.device or home)
        found = Neighbours.none(queries, k)
        with torch.autocast(queries.device.type, enabled=False):
            for start in range(0, len(queries), chunk):
                rows = slice(start, start + chunk)
                part = self._search(self._question(queries, rows, bias), k)
                for whole, values in zip(found, part):
                    whole[rows] = values
        return Neighbours(*(field.to(home) for field in found))

    def _question(
        self, queries: Tensor, rows: slice, bias: Optional[Bias]
    ) -> _Question:
        exact = queries[rows].double()
        return _Question(
            self.scores.asked(exact),
            prepared(exact, self.metric),
            None if bias is None else bias.select(rows),
        )

    def _search(self, question: _Question, k: int) -> Neighbours:
        count = min(k + max(_SPARE, k // 4), len(self.bank))
        count = min(count * _MORE[self.dtype], len(self.bank))
        candidates = self._candidates(question, count)
        # A pixel whose bound lies below this one is not among the k nearest.
        needed = self._least(question, candidates).topk(k, dim=1).values[:, -1:]
        unknown = question.asked.slack.isinf()
        needed[unknown] = -torch.inf
        again = unknown
        if count < len(self.bank):
            again = again | (candidates.most[:, -1:] >= needed)[:, 0]
        sure = (candidates.most >= needed) & ~again[:, None]
        query, column = sure.nonzero(as_tuple=True)
        found = self._joined(
            Neighbours.none(question.exact, k),
            question,
            query,
            candidates.indices[query, column],
            self._vectors,
        )
        for rows in again.nonzero()[:, 0].split(_FEW):
            part = self._look_again(question.select(rows), needed[rows], k)
            for whole, values in zip(found, part):
                whole[rows] = values
        return found

    def _vectors(self, index: Tensor) -> Tensor:
        if self.device is None:
            return self.bank.vectors(index.cpu()).to(index.device)
        return self._stored.vectors(index).to(index.device)

    def _candidates(self, question: _Question, count: int) -> _Candidates:
        asked, bias = question.asked, question.bias
        # What ranks the best so far, their scores and indices, best first.
        best: Tuple[Tensor, ...] = ()
        for start, _, scores in self.scores.blocks(asked, self.block):
            ranking = scores
            if bias is not None:
                ranking = self._upper(question, scores, start)
            # A GPU would have to wait for what is left to do.
            full = bool(best) and best[0].size(1) == count
            least = best[0][:, -1:] if full and not scores.is_cuda else None
            values, at = _top(ranking, min(count, scores.size(1)), least)
            part: Tuple[Tensor, ...] = (
                values,
                scores.gather(1, at),
                at + start,
            )
            if best and at.size(1):
                joined = [torch.cat(both, dim=1) for both in zip(best, part)]
                kept = min(count, joined[0].size(1))
                order = joined[0].topk(kept, dim=1).indices
                part = tuple(field.gather(1, order) for field in joined)
            best = part if at.size(1) else best
        most, scores, indices = best
        closeness = scores + asked.slack[:, None]
        return _Candidates(
            closeness if bias is None else most, closeness, indices
        )

    def _upper(self, question: _Question, scores: Tensor, start: int) -> Tensor:
        """Upper bounds of closeness, or of log votes, of a block's pixels."""
        asked, bias = question.asked, question.bias
        closeness = scores + asked.slack[:, None]
        if bias is None:
            return closeness
        nearest = self.scores.distances(asked, closeness)
        query = torch.arange(len(scores))[:, None]
        index = torch.arange(start, start + scores.size(1))[None]
        return bias.bounds(bias.of_pairs(query, index, nearest), 1)

    def _least(self, question: _Question, candidates: _Candidates) -> Tensor:
        """Lower bounds of what ranks the candidates."""
        asked, bias, index = question.asked, question.bias, candidates.indices
        span = self.scores.span(index, asked.vectors.size(1))
        closeness = candidates.closeness - 2 * asked.slack[:, None] - span
        if bias is None:
            return closeness
        farthest = self.scores.distances(asked, closeness)
        query = torch.arange(len(index))[:, None]
        return bias.bounds(bias.of_pairs(query, index, farthest), -1)

    def _look_again(
        self, question: _Question, needed: Tensor, k: int
    ) -> Neighbours:
        """Compare all pixels that may be among the nearest, in float64."""
        found = Neighbours.none(question.exact, k)
        # Ascending indices: later pixels do not replace any at this cost.
        least = torch.zeros(len(needed), device=needed.device)
        if self.metric == 'cosine':
            least[~question.exact.any(1)] = 1
        if question.bias is not None:
            least -= torch.inf
        for start, block, scores in self.scores.blocks(
            question.asked, self.block
        ):
            near = self._upper(question, scores, start) >= needed
            query, column = near.nonzero(as_tuple=True)
            found = self._joined(
                found,
                question,
                query,
                column + start,
                partial(_rows_of, block, start),
            )
            needed[found.costs[:, -1] <= least] = torch.inf
        return found

    def _joined(
        self,
        found: Neighbours,
        question: _Question,
        query: Tensor,
        index: Tensor,
        vectors: Callable[[Tensor], Tensor],
    ) -> Neighbours:
        """What is found, with some pairs of a query and a pixel."""
        size = max(1, _NUMBERS // question.exact.size(1))
        parts = [question.exact.new_empty(0)]
        for own, others in zip(query.split(size), index.split(size)):
            used, at = others.unique(return_inverse=True)
            memory = prepared(vectors(used), self.metric)
            first, second = question.exact[own], memory[at]
            parts.append(distances(first, second, self.metric))
        far = costs = torch.cat(parts)
        if question.bias is not None:
            costs = -question.bias.of_pairs(query, index, far)
        return found.joined(query, Neighbours(far, index, costs))


def _rows_of(block: Tensor, start: int, index: Tensor) -> Tensor:
    """Vectors of a block that begins at some index of the bank."""
    return block[index - start]


def _top(
    scores: Tensor, k: int, least: Optional[Tensor] = None
) -> Tuple[Tensor, Tensor]:
    """``scores.topk(k)``, faster on long rows.

    The k greatest lie in the k groups with the greatest maxima, and a maximum
    is cheaper than a selection.

    Args:
        scores (Tensor): ``(Q, n)``.
        k (int): In ``1..n``.
        least (Tensor, optional): ``(Q, 1)``: only greater ones are wanted, and
            others, down to none, may be left out.

    Returns:
        tuple: Values and columns, each ``(Q, m)`` with m <= k, descending.
    """
    queries, count = scores.shape
    groups = count // _GROUP
    if groups < 4 * k:
        return scores.topk(k, dim=1)
    head = scores[:, : groups * _GROUP].unflatten(1, (groups, _GROUP))
    maxima, used = head.amax(2), k
    if least is not None:
        used = min(k, int((maxima > least).sum(1).max()))
    chosen = maxima.topk(used, dim=1).indices
    within = torch.arange(_GROUP, device=scores.device)
    columns = (chosen[..., None] * _GROUP + within).flatten(1)
    rest = torch.arange(groups * _GROUP, count, device=scores.device)
    columns = torch.cat([columns, rest.expand(queries, len(rest))], dim=1)
    found = scores.gather(1, columns).topk(min(k, columns.size(1)), dim=1)
    return found.values, columns.gather(1, found.indices)
