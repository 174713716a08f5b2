"""Nearest neighbours in a memory bank: exact in torch, or by faiss."""

from typing import NamedTuple, Protocol, Tuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .bank import MemoryBank

METRICS = ('cosine', 'l2')
_GROUP = 64  # scores that one maximum stands for


class Neighbours(NamedTuple):
    """Of each query, nearest first.

    Attributes:
        distances (Tensor): ``(Q, k)``, >= 0: ``1 - cos`` or Euclidean.
        indices (Tensor): Into the bank, ``(Q, k)``, int64.
    """

    distances: Tensor
    indices: Tensor


class Search(Protocol):
    """What every engine offers."""

    def search(self, queries: Tensor, k: int) -> Neighbours:
        """The k nearest pixels of each query ``(Q, C)``."""


def _check(metric: str, bank: MemoryBank) -> None:
    if metric not in METRICS:
        raise ValueError(f'metric={metric!r} must be one of {METRICS}')
    if not len(bank):
        raise ValueError('the bank is empty; fill it before searching')


def _check_queries(bank: MemoryBank, queries: Tensor, k: int) -> None:
    if queries.ndim != 2 or queries.size(1) != bank.channels:
        raise ValueError(
            f'queries {tuple(queries.shape)} must be (Q, {bank.channels}), as '
            'the bank; take the layer that filled it'
        )
    if not 1 <= k <= len(bank):
        raise ValueError(f"k={k} must be in 1..{len(bank)}, the bank's size")


def _top(scores: Tensor, k: int) -> Tuple[Tensor, Tensor]:
    """Exact ``scores.topk(k)``, faster on long rows.

    The k greatest lie in the k groups with the greatest maxima, and a maximum
    is cheaper than a selection.
    """
    queries, count = scores.shape
    groups = count // _GROUP
    if groups < 4 * k:
        return scores.topk(k, dim=1)
    head = scores[:, : groups * _GROUP].unflatten(1, (groups, _GROUP))
    chosen = head.amax(2).topk(k, dim=1).indices
    within = torch.arange(_GROUP, device=scores.device)
    columns = (chosen[..., None] * _GROUP + within).flatten(1)
    rest = torch.arange(groups * _GROUP, count, device=scores.device)
    columns = torch.cat([columns, rest.expand(queries, len(rest))], dim=1)
    values, position = scores.gather(1, columns).topk(k, dim=1)
    return values, columns.gather(1, position)


class ExactSearch:
    """Blocked matrix products and a running top-k.

    Beside the bank it needs ``chunk * block`` scores, one number a pixel and
    one block in float32. Runs where the queries are, in float32 also under
    autocast.

    Args:
        bank (MemoryBank): Not empty.
        metric (str): ``'cosine'`` or ``'l2'``.
        chunk (int): Queries at a time.
        block (int): Pixels at a time.

    Raises:
        ValueError: If the metric is unknown or the bank empty.
    """

    def __init__(
        self,
        bank: MemoryBank,
        metric: str = 'cosine',
        chunk: int = 1024,
        block: int = 16384,
    ) -> None:
        _check(metric, bank)
        self.bank = bank
        self.metric = metric
        self.chunk = chunk
        self.block = block
        norms = [vectors.norm(dim=1) for vectors in bank.blocks()]
        # As torch's own `normalize`: a zero vector stays one.
        self._norms = torch.cat(norms).clamp_min(1e-12)

    @torch.no_grad()
    def search(self, queries: Tensor, k: int) -> Neighbours:
        """See :class:`Search`.

        Raises:
            ValueError: If the dimension or k does not fit the bank.
        """
        _check_queries(self.bank, queries, k)
        with torch.autocast(queries.device.type, enabled=False):
            chunks = [
                self._search(part, k)
                for part in queries.float().split(self.chunk)
            ]
        if not chunks:
            empty = queries.new_empty(0, k)
            return Neighbours(empty.float(), empty.long())
        return Neighbours(*map(torch.cat, zip(*chunks)))

    def _search(self, queries: Tensor, k: int) -> Neighbours:
        if self.metric == 'cosine':
            queries = normalize(queries, dim=1)
        best = queries.new_empty(len(queries), 0)
        where = best.long()
        start = 0
        for vectors in self.bank.blocks():
            for block in vectors.split(self.block):
                end = start + len(block)
                norms = self._norms[start:end].to(queries.device)
                scores = queries @ block.to(queries.device).T
                if self.metric == 'cosine':
                    scores /= norms
                else:  # q.v - |v|^2 / 2 is greater where v is nearer
                    scores -= norms.square() / 2
                values, indices = _top(scores, min(k, scores.size(1)))
                best = torch.cat([best, values], dim=1)
                where = torch.cat([where, indices + start], dim=1)
                if best.size(1) > k:
                    kept = best.topk(k, dim=1)
                    best = kept.values
                    where = where.gather(1, kept.indices)
                start = end
        order = best.argsort(dim=1, descending=True, stable=True)
        best, where = best.gather(1, order), where.gather(1, order)
        return Neighbours(self._distances(queries, best), where)

    def _distances(self, queries: Tensor, scores: Tensor) -> Tensor:
        if self.metric == 'cosine':
            return (1 - scores).clamp_min(0)
        squared = queries.square().sum(1, keepdim=True) - 2 * scores
        return squared.clamp_min(0).sqrt()


class FaissSearch:
    """Any index that faiss' factory can name.

    Args:
        bank (MemoryBank): Not empty; faiss keeps its own copy of it.
        factory (str): Such as ``'Flat'``, ``'HNSW32'``, ``'IVF256,Flat'`` or
            ``'IVF256,PQ32'``.
        metric (str): ``'cosine'`` or ``'l2'``.
        nprobe (int, optional): Cells that an IVF index visits.

    Raises:
        ImportError: Without faiss.
        ValueError: If faiss does not know the name.
    """

    def __init__(
        self,
        bank: MemoryBank,
        factory: str = 'Flat',
        metric: str = 'cosine',
        nprobe: int = 0,
    ) -> None:
        _check(metric, bank)
        try:
            import faiss
        except ImportError as error:
            raise ImportError(
                f"engine=faiss:{factory} needs faiss; pip install 'u1_plugin"
                "[faiss]', or take engine='exact'"
            ) from error
        self.bank = bank
        self.metric = metric
        inner = faiss.METRIC_INNER_PRODUCT
        kind = inner if metric == 'cosine' else faiss.METRIC_L2
        try:
            self.index = faiss.index_factory(bank.channels, factory, kind)
        except RuntimeError as error:
            raise ValueError(
                f'factory={factory!r} is unknown to faiss for '
                f'{bank.channels} channels: {error}'
            ) from error
        if not self.index.is_trained:
            # faiss learns cells and codes from a sample, as it does itself.
            self.index.train(self._prepare(torch.cat(list(bank.blocks()))))
        for block in bank.blocks():
            self.index.add(self._prepare(block))
        if nprobe:
            faiss.extract_index_ivf(self.index).nprobe = nprobe

    def _prepare(self, vectors: Tensor):
        vectors = vectors.detach().cpu().float()
        if self.metric == 'cosine':
            vectors = normalize(vectors, dim=1)
        return vectors.contiguous().numpy()

    @torch.no_grad()
    def search(self, queries: Tensor, k: int) -> Neighbours:
        """See :class:`Search`.

        An approximate index that finds fewer than k gives index -1 and an
        infinite distance for the rest.

        Raises:
            ValueError: If the dimension or k does not fit the bank.
        """
        _check_queries(self.bank, queries, k)
        scores, indices = self.index.search(self._prepare(queries), k)
        scores, indices = torch.from_numpy(scores), torch.from_numpy(indices)
        if self.metric == 'cosine':
            distances = (1 - scores).clamp_min(0)
        else:
            distances = scores.clamp_min(0).sqrt()
        distances[indices < 0] = float('inf')
        device = queries.device
        return Neighbours(distances.to(device), indices.to(device))


def build_search(
    bank: MemoryBank, engine: str = 'exact', metric: str = 'cosine'
) -> Search:
    """The engine of a name.

    Args:
        bank (MemoryBank): Not empty.
        engine (str): ``'exact'``, or ``'faiss:'`` and a factory string.
        metric (str): ``'cosine'`` or ``'l2'``.

    Raises:
        ValueError: If there is no such engine.
    """
    if engine == 'exact':
        return ExactSearch(bank, metric)
    if engine.startswith('faiss:'):
        return FaissSearch(bank, engine[len('faiss:') :], metric)
    raise ValueError(
        f"engine={engine!r} must be 'exact' or 'faiss:FACTORY', such as "
        "'faiss:HNSW32'"
    )
