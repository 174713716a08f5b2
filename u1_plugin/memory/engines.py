"""Nearest neighbours in a memory bank: exact in torch, or by faiss."""

from typing import Iterator, NamedTuple, Optional, Protocol, Tuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

from .bank import MemoryBank
from .vote import Sites, log_prior

METRICS = ('cosine', 'l2')
_GROUP = 64  # scores that one maximum stands for
_TRAINING = 2**18  # vectors that faiss learns cells and codes from, at most


class Neighbours(NamedTuple):
    """Of each query, nearest first.

    Attributes:
        distances (Tensor): ``(Q, k)``, >= 0: ``1 - cos`` or Euclidean.
        indices (Tensor): Into the bank, ``(Q, k)``, int64.
        costs (Tensor): What they are ordered by, ascending, ``(Q, k)``: the
            distances, or minus the log of the vote under a :class:`Bias`.
    """

    distances: Tensor
    indices: Tensor
    costs: Tensor


class Bias(NamedTuple):
    """Lets the prior into the search: the k greatest votes, not the k nearest.

    The vote of a pixel is ``w(d) prior``, with ``w(d) = exp(-d^2 / 2 h^2)``.

    Attributes:
        query (Sites): ``(Q, 2)`` and ``(Q,)``.
        memory (Sites): Of the whole bank, ``(N, 2)`` and ``(N,)``.
        plane (str): See :func:`~.vote.prior`, as kappa and sigma.
        kappa (float): >= 0.
        sigma (float): > 0.
        width (float): h, > 0.
    """

    query: Sites
    memory: Sites
    plane: str
    kappa: float
    sigma: float
    width: float

    def log_votes(self, rows: slice, columns: slice, distances: Tensor):
        """Log of the votes of some pixels for some queries, as distances."""
        device = distances.device
        query = Sites(*(s[rows][:, None].to(device) for s in self.query))
        memory = Sites(*(s[columns][None].to(device) for s in self.memory))
        place = log_prior(query, memory, self.plane, self.kappa, self.sigma)
        return place - distances.square() / (2 * self.width**2)


class Search(Protocol):
    """What every engine offers."""

    def search(
        self, queries: Tensor, k: int, bias: Optional[Bias] = None
    ) -> Neighbours:
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
    def search(
        self, queries: Tensor, k: int, bias: Optional[Bias] = None
    ) -> Neighbours:
        """See :class:`Search`.

        Raises:
            ValueError: If the dimension or k does not fit the bank.
        """
        _check_queries(self.bank, queries, k)
        if not len(queries):
            empty = queries.new_empty(0, k).float()
            return Neighbours(empty, empty.long(), empty)
        with torch.autocast(queries.device.type, enabled=False):
            chunks = [
                self._search(part, k, bias, start * self.chunk)
                for start, part in enumerate(queries.float().split(self.chunk))
            ]
        return Neighbours(*map(torch.cat, zip(*chunks)))

    def _search(
        self, queries: Tensor, k: int, bias: Optional[Bias], first: int
    ) -> Neighbours:
        if self.metric == 'cosine':
            queries = normalize(queries, dim=1)
        rows = slice(first, first + len(queries))
        # Of the best so far: what ranks them, their scores, where they are.
        best = [queries.new_empty(len(queries), 0)] * 2
        best.append(best[0].long())
        for start, scores in self._scores(queries):
            ranking = scores
            if bias is not None:
                columns = slice(start, start + scores.size(1))
                distances = self._distances(queries, scores)
                ranking = bias.log_votes(rows, columns, distances)
            values, at = _top(ranking, min(k, scores.size(1)))
            part = (values, scores.gather(1, at), at + start)
            best = [torch.cat(both, dim=1) for both in zip(best, part)]
            if best[0].size(1) > k:
                kept = best[0].topk(k, dim=1).indices
                best = [field.gather(1, kept) for field in best]
        order = best[0].argsort(dim=1, descending=True, stable=True)
        ranking, scores, where = (field.gather(1, order) for field in best)
        distances = self._distances(queries, scores)
        costs = distances if bias is None else -ranking
        return Neighbours(distances, where, costs)

    def _scores(self, queries: Tensor) -> Iterator[Tuple[int, Tensor]]:
        """Greater where a pixel is nearer, a block of the bank at a time."""
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
                yield start, scores
                start = end

    def _distances(self, queries: Tensor, scores: Tensor) -> Tensor:
        if self.metric == 'cosine':
            return (1 - scores).clamp_min(0)
        squared = queries.square().sum(1, keepdim=True) - 2 * scores
        return squared.clamp_min(0).sqrt()


def _sample(bank: MemoryBank, most: int) -> Tensor:
    """At most so many vectors, evenly over the bank, ``(n, C)``."""
    step = -(-len(bank) // most)
    parts, start = [], 0
    for block in bank.blocks():
        parts.append(block[-start % step :: step])
        start += len(block)
    return torch.cat(parts)


class FaissSearch:
    """Any index that faiss' factory can name.

    Cells and codes are learnt from at most 2**18 vectors. The index goes to
    the GPUs where faiss has been built for them and its type exists there.

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
            self.index.train(self._prepare(_sample(bank, _TRAINING)))
        for block in bank.blocks():
            self.index.add(self._prepare(block))
        if nprobe:
            faiss.extract_index_ivf(self.index).nprobe = nprobe
        if faiss.get_num_gpus():
            try:
                self.index = faiss.index_cpu_to_all_gpus(self.index)
            except RuntimeError:  # a type that has no GPU version, as HNSW
                pass

    def _prepare(self, vectors: Tensor):
        vectors = vectors.detach().cpu().float()
        if self.metric == 'cosine':
            vectors = normalize(vectors, dim=1)
        return vectors.contiguous().numpy()

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, bias: Optional[Bias] = None
    ) -> Neighbours:
        """See :class:`Search`.

        An approximate index that finds fewer than k gives index -1 and an
        infinite distance for the rest.

        Raises:
            ValueError: If the dimension or k does not fit the bank, or a bias
                is given: faiss ranks by vectors alone.
        """
        _check_queries(self.bank, queries, k)
        if bias is not None:
            raise ValueError(
                "a prior in the search needs engine='exact'; faiss ranks by "
                'vectors alone'
            )
        scores, indices = self.index.search(self._prepare(queries), k)
        scores, indices = torch.from_numpy(scores), torch.from_numpy(indices)
        if self.metric == 'cosine':
            distances = (1 - scores).clamp_min(0)
        else:
            distances = scores.clamp_min(0).sqrt()
        distances[indices < 0] = float('inf')
        device = queries.device
        distances, indices = distances.to(device), indices.to(device)
        return Neighbours(distances, indices, distances)


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
