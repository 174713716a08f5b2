"""Matrix products in float32 that rank pixels, and bounds on their error.

A score alone may rank wrongly. With a bound on what rounding did to it, it
says which pixels can be among the nearest; those are then compared in float64.
"""

from typing import Any, Iterator, List, Literal, NamedTuple, Optional, Tuple

import torch
from torch import Tensor

from .device_copy import Vectors
from .float64 import total, unit
from .search import PriorBias

#: In which vectors may be multiplied.
ScoreDtype = Literal['float32', 'float16', 'bfloat16']
_ROUNDOFF = 2.0**-24  # of float32
_SAMPLE = 4096  # vectors from which the centre is taken
_SAFE = 1e15  # squares of larger numbers may leave float32, in sums
MOST_SQUARED = _SAFE**2
_UNIT = 2.0**-20  # lengths that differ from 1 by less need no division
_FLAT = 8  # the centre is subtracted where it dwarfs the spread so many times


class PreparedQueries(NamedTuple):
    """Queries in the form in which they are scored.

    With the exact distance d, a pixel's *closeness* is ``base - d`` under
    ``'cosine'`` and ``base - (scale d)^2 / 2`` under ``'l2'``; it lies between
    ``score - slack - span`` and ``score + slack``.

    Attributes:
        exact (Tensor): As :func:`~.float64.distances` takes them, ``(Q, C)``.
        vectors (Tensor): As they are multiplied, ``(Q, C)``, float32.
        base (Tensor): Closeness at distance 0, ``(Q,)``, float64.
        slack (Tensor): ``(Q,)``, float64; infinite for a query that scores
            say nothing about, as it is too large for float32, or zero.
        bias (PriorBias, optional): Of these queries.
    """

    exact: Tensor
    vectors: Tensor
    base: Tensor
    slack: Tensor
    bias: Optional[PriorBias] = None


class Scores:
    """Scores of a bank's pixels.

    As a rule a score is the product of a query and a stored vector. Where a
    common offset dwarfs the differences, or a scale leaves float32, each block
    is moved to its centre and scaled on the way.

    The bounds hold for sums in any order (Higham, *Accuracy and Stability of
    Numerical Algorithms*, 2002, section 3.1): with u = 2^-24, a product of C
    terms is off by at most ``C u / (1 - C u) |q| |v|``. Vectors of half the
    width are rounded before they are multiplied, each scaled to a largest
    entry of 1, and their products are summed in float32.
    """

    def __init__(
        self, bank: Vectors, metric: str, dtype: ScoreDtype = 'float32'
    ) -> None:
        self.bank, self.cosine, self.dtype = bank, metric == 'cosine', dtype
        lengths = torch.cat([_lengths(block) for block in bank.lent_blocks()])
        longest = lengths.max()
        self._zeros = lengths == 0 if self.cosine else None
        # The inverse of the greatest length, but for a factor below 2.
        power = 0 if self.cosine else -int(torch.frexp(longest).exponent)
        self.scale = 2.0**power
        sample = sample_of(bank, _SAMPLE).double()
        sample = unit(sample) if self.cosine else sample * self.scale
        self._centre = sample.mean(0).float()  # any will do, if it is exact
        spread = (sample - self._centre).square().sum(1).mean()
        flat = sample.square().sum(1).mean() > _FLAT * spread
        nonzero = lengths[lengths > 0]
        least = nonzero.min() if self.cosine and len(nonzero) else longest
        safe = longest == 0 or 1 / _SAFE < least <= longest < _SAFE
        self.plain = bool(safe and not flat)
        if self.plain:
            self.scale = 1.0
        away = (lengths - 1).abs().max()
        self._unit = self.cosine and self.plain and bool(away <= _UNIT)
        self._factors: Optional[Tensor] = None
        self._numbers = self._fitted(lengths).float()

    def _fitted(self, lengths: Tensor) -> Tensor:
        """One number a pixel: its length, else half the square of it."""
        if self.plain and self.cosine:
            return lengths.clamp_min(1e-30)
        if not self.plain:
            if self.cosine:
                self._factors = torch.where(lengths > 0, 1 / lengths, 0.0)
            moved, start = [], 0
            for block in self.bank.lent_blocks():
                rows = slice(start, start + len(block))
                moved.append(_lengths(self.moved(block, rows)))
                start = rows.stop
            lengths = torch.cat(moved)
        return lengths.square() / 2

    def moved(self, vectors: Tensor, rows: slice = slice(None)) -> Tensor:
        """The bank's ``rows``, ``(n, C)``, scaled and centred, in float32.

        Under l2, also queries.
        """
        if self.plain:
            return vectors.float()
        centre = self._centre.to(vectors.device)
        narrow = vectors.dtype == torch.float32 and self.scale < _SAFE
        if narrow and not self.cosine:
            return vectors * self.scale - centre
        factors = self._factors
        if factors is not None:
            factors = factors[rows, None].to(vectors.device)
        moved = torch.empty_like(vectors, dtype=torch.float32)
        size = _pieces(vectors)
        for start in range(0, len(vectors), size):
            part = slice(start, start + size)
            factor = self.scale if factors is None else factors[part]
            moved[part] = vectors[part].double() * factor - centre
        return moved

    def prepare(
        self, queries: Tensor, bias: Optional[PriorBias] = None
    ) -> PreparedQueries:
        """Queries ``(Q, C)``, finite."""
        exact = unit(queries) if self.cosine else queries.double()
        vectors = exact if self.cosine else exact * self.scale
        if not self.plain:
            vectors = vectors - self._centre.to(vectors.device)
        half = total(vectors.square()) / 2
        usable = half < MOST_SQUARED / 2
        if self.cosine and not self.plain:
            # Its distances are 1 by definition, not by a difference.
            usable &= exact.any(1)
        vectors = torch.where(usable[:, None], vectors, 0.0).float()
        channels = vectors.size(1)
        product = product_error(channels, self.dtype)
        underflow = channels * 2.0**-125
        if self.dtype != 'float32':  # a small scale, then a large one
            underflow *= _SAFE
        if self.plain and self.cosine:
            base = torch.ones_like(half)
            slack = base * (product + 6 * _ROUNDOFF + underflow * _SAFE)
            slack += 2 * _UNIT * self._unit
        else:
            base = half
            slack = self._error(channels) * 2 * half + underflow
            if self._zeros is not None:
                slack += 1e-13  # unit vectors are rounded in float64
                slack += 4 * _ROUNDOFF * bool(self._zeros.any())
        slack = torch.where(usable, slack, torch.inf)
        return PreparedQueries(exact, vectors, base, slack, bias)

    def _error(self, channels: int) -> float:
        """The error of a score, in units of ``|q|^2 + |v|^2``."""
        return product_error(channels, self.dtype) / 2 + 6 * _ROUNDOFF

    def blocks(
        self, prepared: PreparedQueries, size: int
    ) -> Iterator[Tuple[int, Tensor, Tensor]]:
        """Scores of the whole bank, ``size`` pixels at a time.

        Yields:
            tuple: Index of the first pixel, the stored vectors ``(n, C)`` and
            their scores ``(Q, n)``, float32. The next scores of products in
            float32 take the place of these: memory that is fresh for each block
            costs a fifth of the time of the products.
        """
        start, queries = 0, len(prepared.vectors)
        room = out = None
        if self.dtype == 'float32':
            most = min(size, len(self._numbers))
            room = prepared.vectors.new_empty(queries * most)
        for block in self.bank.lent_blocks(size):
            rows = slice(start, start + len(block))
            block = block.to(prepared.vectors.device)
            if room is not None:
                out = room[: queries * len(block)].view(queries, len(block))
            yield start, block, self._score(prepared, block, rows, out)
            start = rows.stop

    def _score(
        self,
        prepared: PreparedQueries,
        block: Tensor,
        rows: slice,
        out: Optional[Tensor],
    ) -> Tensor:
        device = block.device
        if self.plain and self.cosine:
            scores = products(prepared.vectors, block, self.dtype, out)
            if self._unit:  # a pass over the scores less
                return scores
            return scores.div_(self._numbers[rows].to(device))
        moved = block if self.plain else self.moved(block, rows)
        scores = products(prepared.vectors, moved, self.dtype, out)
        share = 1 - 2 * self._error(block.size(1))
        scores -= self._numbers[rows].to(device) * share
        if self._zeros is not None and bool(self._zeros[rows].any()):
            zero = self._zeros[rows].to(device)
            scores[:, zero] = (prepared.base[:, None] - 1).float()
        return scores

    def span(self, index: Tensor, channels: int) -> Tensor:
        """Between the bounds of a pixel's closeness, beside the slack."""
        if self.plain and self.cosine:
            return torch.zeros_like(index, dtype=torch.float64)
        halves = self._numbers[index.cpu()].to(index.device).double()
        return 4 * self._error(channels) * halves

    def distances(self, prepared: PreparedQueries, closeness: Tensor) -> Tensor:
        """Distances at some closeness ``(Q, n)``, float64."""
        rest = (prepared.base[:, None] - closeness).clamp_min(0)
        # Bounds may exceed 2, which no distance does.
        most = rest.clamp_max(2 + 1e-6)
        return most if self.cosine else (2 * rest).sqrt() / self.scale


def _pieces(vectors: Tensor) -> int:
    """How many vectors fit into a cache in float64."""
    return max(1, 2**17 // vectors.size(1))


def _lengths(vectors: Tensor) -> Tensor:
    """In float64, ``(n,)``."""
    return torch.cat(
        [
            torch.linalg.vector_norm(part, dim=1, dtype=torch.float64)
            for part in vectors.split(_pieces(vectors))
        ]
    )


def products(
    queries: Tensor, vectors: Tensor, dtype: str, out: Optional[Tensor] = None
) -> Tensor:
    """Products of all pairs of ``(Q, C)`` and ``(n, C)``: ``(Q, n)``, float32.

    Both are rounded to ``dtype``, each in a scale of its own; products in
    float32 are written to ``out``.
    """
    long = dtype == 'float16' and vectors.size(1) > 2**15  # its sums overflow
    if dtype == 'float32' or long:
        return torch.mm(queries, vectors.T, out=out)
    (first, query_scales), (second, vector_scales) = (
        _narrow(part, getattr(torch, dtype)) for part in (queries, vectors)
    )
    if first.device.type == 'cuda':
        scores = torch.mm(first, second.T, out_dtype=torch.float32)
    else:
        scores = (first @ second.T).float()
    return scores.mul_(query_scales[:, None]).mul_(vector_scales)


def _narrow(vectors: Tensor, dtype: torch.dtype) -> Tuple[Tensor, Tensor]:
    """Vectors whose largest entry is 1, and what they were divided by."""
    largest = vectors.abs().amax(1)
    largest = torch.where(largest > 0, largest, 1.0)
    return (vectors / largest[:, None]).to(dtype), largest


def product_error(channels: int, dtype: str = 'float32') -> float:
    """The error of a product of vectors, in units of ``|q| |v|``."""
    error = channels * _ROUNDOFF / (1 - channels * _ROUNDOFF)
    # TensorFloat32 and bfloat16 round what they multiply to 8 bits or more.
    error += 0 if _products_are_float32() else 2.0**-7
    if dtype == 'float32':
        return error
    # Both vectors are rounded, and on a CPU their product; entries below the
    # least normal number of float16 to a multiple of 2^-24.
    unit_roundoff = torch.finfo(getattr(torch, dtype)).eps / 2
    narrow: float = 4 * unit_roundoff + 2.0**-22 * channels**0.5
    return error * (1 + narrow) + narrow


def _products_are_float32() -> bool:
    try:
        if torch.get_float32_matmul_precision() != 'highest':
            return False
    except RuntimeError:  # torch mixes no older with newer settings
        return False
    parts: List[Any] = [torch.backends]
    parts += [
        getattr(getattr(torch.backends, name, None), 'matmul', None)
        for name in ('cuda', 'mkldnn')
    ]
    return not any(
        getattr(part, 'fp32_precision', '') in ('tf32', 'bf16')
        for part in parts
    )


def sample_of(bank: Vectors, most: int) -> Tensor:
    """At most so many vectors, evenly over the bank, ``(n, C)``."""
    return bank.vectors(torch.arange(0, len(bank), -(-len(bank) // most)))
