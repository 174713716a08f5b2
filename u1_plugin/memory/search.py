"""What every search engine takes, gives and refuses."""

from typing import Literal, NamedTuple, Optional, Protocol, Union

import torch
from torch import Tensor

from ..options import Count, check, fits, shown
from .bank import MemoryBank
from .kernels import Kernel, kernel_of
from .priors import PlaneCoordinates, PriorPlane, log_prior

Metric = Literal['cosine', 'l2']
_Rows = Union[slice, Tensor]
_ROUNDING = 1e-12  # of a vote's log in float64, generously


class Neighbours(NamedTuple):
    """Neighbours of each query by ascending cost; ties by ascending index.

    Attributes:
        distances (Tensor): ``(Q, k)``, >= 0, float64: ``1 - cos`` or
            Euclidean. Infinite where there is none.
        indices (Tensor): Into the bank, ``(Q, k)``, int64; -1 where there is
            none.
        costs (Tensor): What they are ordered by, ``(Q, k)``, float64: the
            distances, or minus the log of the vote under a :class:`PriorBias`.
    """

    distances: Tensor
    indices: Tensor
    costs: Tensor

    @classmethod
    def none(cls, queries: Tensor, k: int) -> 'Neighbours':
        """Placeholders for k neighbours of each query, none found yet."""
        far = queries.new_full(
            (len(queries), k), torch.inf, dtype=torch.float64
        )
        return cls(far, torch.full_like(far, -1).long(), far.clone())

    def joined(self, query: Tensor, others: 'Neighbours') -> 'Neighbours':
        """The best of these and of some more.

        Args:
            query (Tensor): Whose each of the others is, ``(P,)``.
            others (Neighbours): Of ``(P,)``.
        """
        count, k = self.indices.shape
        is_found = self.indices >= 0
        query = torch.cat([is_found.nonzero()[:, 0], query])
        fields = [
            torch.cat([current[is_found], added])
            for current, added in zip(self, others)
        ]
        # By query, then cost, then index.
        order = fields[1].argsort(stable=True)
        order = order[fields[2][order].argsort(stable=True)]
        order = order[query[order].argsort(stable=True)]
        query = query[order]
        rows = torch.arange(max(count, len(query)), device=query.device)
        first = torch.searchsorted(query, rows[:count])
        place = rows[: len(query)] - first[query]
        kept = place < k
        best = Neighbours.none(self.costs, k)
        for field, values in zip(best, fields):
            field[query[kept], place[kept]] = values[order[kept]]
        return best


class PriorBias(NamedTuple):
    """Lets the prior into the search: the k greatest votes, not the k nearest.

    The vote of a pixel is ``w(d) prior``, with the ``w(d)`` of a kernel that
    falls with the distance: gaussian by a width, softmax by a temperature.

    Attributes:
        query (PlaneCoordinates): ``(Q, 2)`` and ``(Q,)``.
        memory (PlaneCoordinates): Of the whole bank, ``(N, 2)`` and ``(N,)``.
        plane (str): See :func:`~.priors.log_prior`, as kappa and sigma.
        kappa (float): >= 0.
        sigma (float): > 0.
        width (float, optional): h of ``w(d) = exp(-d^2 / 2 h^2)``, > 0.
        temperature (float, optional): T of ``w(d) = exp((1 - d) / T)``, > 0,
            instead of a width; for cosine distances.
    """

    query: PlaneCoordinates
    memory: PlaneCoordinates
    plane: PriorPlane
    kappa: float
    sigma: float
    width: Optional[float] = None
    temperature: Optional[float] = None

    @property
    def kernel(self) -> Kernel:
        """Kernel of the distance."""
        return kernel_of(None, self.width, self.temperature)

    def check(self, queries: int, pixels: int, metric: Metric) -> None:
        """Raise ValueError if shapes, coordinates or options are wrong."""
        check_coordinates(self.query, queries, "the bias' query")
        check_coordinates(self.memory, pixels, "the bias' memory")
        log_prior(self.query, self.query, self.plane, self.kappa, self.sigma)
        if self.kernel.name == 'uniform':
            raise ValueError(
                "the bias' width=None and temperature=None: one of them must "
                'say how distance and place are weighed against each other'
            )
        check_kernel(self.kernel, metric)

    def select(self, rows: _Rows) -> 'PriorBias':
        """The bias of some of the queries."""
        return self._replace(query=_take(self.query, rows))

    def of_pairs(
        self, query: Tensor, index: Tensor, distances: Tensor
    ) -> Tensor:
        """Log of the votes of pixels for queries, at these distances, float64.

        The indices of queries and pixels broadcast to the distances' shape.
        """
        query_coordinates = _take(self.query, query, distances.device)
        memory_coordinates = _take(self.memory, index, distances.device)
        place = log_prior(
            query_coordinates,
            memory_coordinates,
            self.plane,
            self.kappa,
            self.sigma,
        )
        return place + self.kernel.log(distances)

    def bounds(self, log_votes: Tensor, sign: int) -> Tensor:
        """Log votes with the error of float64 added, or subtracted."""
        error = sign * _ROUNDING
        return log_votes * (1 - error) + error * self.kappa


def _take(
    coordinates: PlaneCoordinates,
    index: _Rows,
    device: Optional[torch.device] = None,
) -> PlaneCoordinates:
    if isinstance(index, Tensor):
        index = index.to(coordinates.hues.device)
    return PlaneCoordinates(*(field[index].to(device) for field in coordinates))


class Search(Protocol):
    """What every engine offers."""

    def search(
        self, queries: Tensor, k: int, bias: Optional[PriorBias] = None
    ) -> Neighbours:
        """The k nearest pixels of each query ``(Q, C)``, k <= N."""


def check_kernel(kernel: Kernel, metric: str, name: str = '') -> None:
    """Raise ValueError if a kernel takes cosines, and a metric has none.

    ``name`` is what the user writes before both options, for messages.
    """
    if kernel.name == 'softmax' and metric != 'cosine':
        raise ValueError(
            f'{name}metric={metric!r} has no cosine, which {name}kernel='
            f"'softmax' (temperature={kernel.scale:g}) takes; set metric="
            "'cosine', or kernel='gaussian'"
        )


def check_coordinates(
    coordinates: PlaneCoordinates, count: int, name: str
) -> None:
    """Raise ValueError unless finite, ``(count, 2)`` and ``(count,)``."""
    shapes = tuple(tuple(field.shape) for field in coordinates)
    if shapes != ((count, 2), (count,)):
        raise ValueError(
            f'{name}: positions and hues {shapes} must be '
            f'{((count, 2), (count,))}'
        )
    if not all(field.isfinite().all() for field in coordinates):
        raise ValueError(f'{name}: positions or hues hold NaN or inf')


def check_vectors(queries: Tensor, channels: Optional[int]) -> None:
    """Raise ValueError unless queries are ``(Q, C)``, finite in float32."""
    if not isinstance(queries, Tensor) or not queries.is_floating_point():
        kind = getattr(queries, 'dtype', type(queries).__name__)
        raise ValueError(
            f'queries of {kind} must be floating point; convert them with '
            '.float()'
        )
    if queries.ndim != 2 or queries.size(1) != channels:
        raise ValueError(
            f'queries {tuple(queries.shape)} must be (Q, {channels}), as the '
            'bank; take the layer that filled it'
        )
    if not (queries.abs() <= torch.finfo(torch.float32).max).all():
        raise ValueError(
            'the queries hold NaN, inf or numbers beyond float32; check the '
            'backbone'
        )


def check_queries(
    bank: MemoryBank, queries: Tensor, k: int, bias: Optional[PriorBias]
) -> int:
    """k as Python's; ValueError unless an engine can answer what is asked."""
    check('bias', bias, Optional[PriorBias])
    check_vectors(queries, bank.channels)
    if not fits(k, Count) or k > len(bank):
        raise ValueError(
            f"k={shown(k)} must be in 1..{len(bank)}, the bank's size"
        )
    return int(k)
