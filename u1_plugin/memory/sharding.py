"""One memory, or the parts of one that the ranks hold."""

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from ..dist import (
    all_gather,
    all_gather_object,
    all_gather_rows,
    get_rank,
    get_world_size,
)
from ..options import Count, Seed, checked
from .bank import MemoryBank
from .engines import build_search
from .priors import PlaneCoordinates
from .search import (
    Metric,
    Neighbours,
    PriorBias,
    Search,
    check_coordinates,
    check_vectors,
)

#: Whose a pixel is and where it lies: a field's value of none.
_FIELDS: Dict[str, Tensor] = dict(
    labels=torch.zeros(0).long(),
    images=torch.zeros(0).long(),
    positions=torch.zeros(0, 2, dtype=torch.float32),
    hues=torch.zeros(0, dtype=torch.float32),
)


class LabelledNeighbours(NamedTuple):
    """The nearest pixels of each query, nearest first, and whose they are.

    Attributes:
        distances (Tensor): ``(Q, k)``, float64; infinite where there is none.
        indices (Tensor): Into the whole memory, ``(Q, k)``, int64; -1 where
            there is none.
        labels (Tensor): ``(Q, k)``, int64.
        images (Tensor): ``(Q, k)``, int64.
        positions (Tensor): ``(Q, k, 2)``.
        hues (Tensor): ``(Q, k)``, radians.
    """

    distances: Tensor
    indices: Tensor
    labels: Tensor
    images: Tensor
    positions: Tensor
    hues: Tensor

    @property
    def coordinates(self) -> PlaneCoordinates:
        """Where the neighbours lie."""
        return PlaneCoordinates(self.positions, self.hues)


class Queries(NamedTuple):
    """What is asked: vectors ``(Q, C)`` and where they lie."""

    vectors: Tensor
    positions: Tensor
    hues: Tensor

    @property
    def coordinates(self) -> PlaneCoordinates:
        """Where the queries lie."""
        return PlaneCoordinates(self.positions, self.hues)


class Memory:
    """Searches a bank whose pixels carry labels and places.

    Sharded, every rank must hold one part, in the order of the ranks, and all
    must search together: queries go to every rank, each answers from its
    part, and of the candidates the k best remain. That is the single
    process's answer: of equal distances, the pixel comes first that comes
    first in the parts joined.

    Args:
        bank (MemoryBank): Of this rank; empty only if sharded. It may change:
            the next search answers from what it then holds.
        engine (dict | str): See :func:`~.engines.parse_engine`.
        metric (str): ``'cosine'`` or ``'l2'``.
        sharded (bool): Whether the bank is one rank's part.
        shuffle (int, optional): Seed by which the whole memory's positions
            are permuted once (a control).
        k (int): Neighbours that will be asked for; see
            :func:`~.engines.build_search`.

    Raises:
        ValueError: If an option is out of its range, the whole memory is
            empty, or its parts differ in dimension.
    """

    @checked()
    def __init__(
        self,
        bank: MemoryBank,
        engine: Any = 'exact',
        metric: Metric = 'cosine',
        sharded: bool = False,
        shuffle: Optional[Seed] = None,
        k: Count = 10,
    ) -> None:
        self.sharded = sharded and get_world_size() > 1
        self.bank, self.k = bank, k
        self.engine, self.metric, self.shuffle = engine, metric, shuffle
        self._build()

    def __str__(self) -> str:
        return 'no pixels here' if self._search is None else str(self._search)

    def _build(self) -> None:
        bank = self.bank
        self._changes = bank.changes
        sizes = torch.tensor([[len(bank), bank.channels or 0]])
        if self.sharded:
            sizes = torch.cat(all_gather(sizes))
        counts, channels = sizes.T.tolist()
        self.size = sum(counts)
        if not self.size:
            raise ValueError('the bank is empty; fill it before searching')
        if len({number for number in channels if number}) > 1:
            raise ValueError(
                f'the ranks hold vectors of {channels} channels; fill the '
                'parts of one memory with one layer'
            )
        self.channels = max(channels)
        self.start = sum(counts[: get_rank()]) if self.sharded else 0
        self._search: Optional[Search] = None
        self._held: Dict[str, Tensor] = {}
        if not bank.mapped:
            for name in _FIELDS:
                self._whole(name)
        self._build_search()
        if self.shuffle is not None:
            self._shuffle(self.shuffle)

    def _whole(self, name: str) -> Tensor:
        """A field of this rank's part, in memory from now on."""
        if name not in self._held:
            filled = len(self.bank) > 0
            values = self.bank.field(name) if filled else _FIELDS[name]
            self._held[name] = values
        return self._held[name]

    def _of(self, name: str, index: Tensor) -> Tensor:
        """A field of some pixels of this rank's part; zeros if it is empty."""
        at = index.clamp_min(0).cpu()
        if not len(self.bank):
            none = _FIELDS[name]
            values = none.new_zeros(*at.shape, *none.shape[1:])
        elif name in self._held:
            values = self._held[name][at]
        else:
            values = self.bank.field(name, at.flatten())
            values = values.view(*at.shape, *values.shape[1:])
        return values.to(index.device)

    def _build_search(self) -> None:
        """Where an engine does not fit one rank's part, all ranks say so."""
        problem = None
        if len(self.bank):
            options = (self.engine, self.metric, self.k)
            try:
                self._search = build_search(self.bank, *options)
            except ValueError as error:
                problem = error
        problems = [problem]
        if self.sharded:
            problems = all_gather_object(problem and str(problem))
        for rank, other in enumerate(problems):
            if other is not None and problem is None:
                raise ValueError(f'{other} (on rank {rank})')
        if problem is not None:
            raise problem

    def _shuffle(self, seed: int) -> None:
        positions = self._whole('positions')
        if self.sharded:
            positions = torch.cat(all_gather_rows(positions))
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(self.size, generator=generator)
        indices = order[self.start : self.start + len(self.bank)]
        self._held['positions'] = positions[indices]

    def _follow(self) -> None:
        """Build anew if a bank has changed, on all ranks if on one."""
        changed = self._changes != self.bank.changes
        if self.sharded:
            changed = any(all_gather(torch.tensor([changed])))
        if changed:
            self._build()

    @checked()
    def search(
        self, queries: Queries, k: Count, bias: Optional[PriorBias] = None
    ) -> LabelledNeighbours:
        """The k nearest of the whole memory, fewer if it is smaller.

        Args:
            queries (Queries): Of this rank; finite.
            k (int): >= 1. Of a smaller memory, every pixel is a match.
            bias (PriorBias, optional): Ranks by votes instead of distances. Its
                coordinates are replaced by those of queries and memory.

        Raises:
            ValueError: If queries or bias do not fit, on every rank alike; or
                the memory has become empty.
        """
        self._follow()
        k = min(int(k), self.size)
        if not self.sharded:
            return self._search_part(queries, k, bias)[0]
        gathered = [all_gather_rows(part) for part in queries]
        counts = [len(part) for part in gathered[0]]
        all_queries = Queries(*(torch.cat(part) for part in gathered))
        matches, costs = self._search_part(all_queries, k, bias)
        first = sum(counts[: get_rank()])
        rows = slice(first, first + len(queries.vectors))
        return _merge(
            [
                torch.stack(all_gather(field.contiguous()))[:, rows]
                for field in (*matches, costs)
            ],
            k,
        )

    def _search_part(
        self, queries: Queries, k: int, bias: Optional[PriorBias]
    ) -> Tuple[LabelledNeighbours, Tensor]:
        """The nearest in this rank's part, filled up to k, and their costs."""
        check_vectors(queries.vectors, self.channels)
        check_coordinates(
            queries.coordinates, len(queries.vectors), 'the queries'
        )
        count = min(k, len(self.bank))
        distances, index, costs = Neighbours.none(queries.vectors, k)
        if self._search is not None:
            if bias is not None:
                memory = PlaneCoordinates(
                    self._whole('positions'), self._whole('hues')
                )
                bias = bias._replace(query=queries.coordinates, memory=memory)
            nearest = self._search.search(queries.vectors, count, bias)
            distances[:, :count], index[:, :count], costs[:, :count] = nearest
        fields = [self._of(name, index) for name in _FIELDS]
        where = torch.where(index < 0, index, index + self.start)
        return LabelledNeighbours(distances, where, *fields), costs


def _merge(parts: List[Tensor], k: int) -> LabelledNeighbours:
    """The k best of all ranks' candidates ``(ranks, Q, k, ...)``.

    The sorts are stable and ranks hold ascending indices, so that ties fall as
    they do in one process.
    """
    *fields, costs = (part.transpose(0, 1).flatten(1, 2) for part in parts)
    order = costs.argsort(dim=1, stable=True)
    missing = (fields[1] < 0).gather(1, order)  # a vote may be as small as 0
    order = order.gather(1, missing.long().argsort(dim=1, stable=True))[:, :k]
    rows = torch.arange(len(order), device=order.device)[:, None]
    return LabelledNeighbours(*(field[rows, order] for field in fields))
