"""What an approximate index finds of the nearest, on pixels of its bank."""

from typing import Callable, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from .exact_search import ExactSearch
from .float64 import pair_distances, prepared


class Recall(NamedTuple):
    """How much an index finds, and how far it looks for it.

    Attributes:
        share (float): Of the exact k nearest neighbours that are found, in
            [0, 1]. What lies no farther than the k-th counts as found.
        k (int): Neighbours of each held-out pixel.
        queries (int): How many held-out pixels.
        nprobe (int, optional): Cells that are visited; None without cells.
        cells (int, optional): How many there are.
    """

    share: float
    k: int
    queries: int
    nprobe: Optional[int] = None
    cells: Optional[int] = None

    def __str__(self) -> str:
        visited = ''
        if self.cells is not None:
            visited = f'nprobe {self.nprobe} of {self.cells} cells, '
        return f'{visited}recall@{self.k} {self.share:.3f}'


class HeldOut:
    """Pixels drawn from a bank, and their k nearest among the others.

    With ``by_image`` the pixels of a query's own image are left out, as a new
    image has none in the memory; else, or in a bank of one image, the query
    itself alone.

    Attributes:
        vectors (Tensor): Of the queries, ``(Q, C)``.
        depth (int): Neighbours to ask for, so that k remain.
    """

    def __init__(
        self,
        exact: ExactSearch,
        k: int,
        queries: int,
        seed: int,
        by_image: bool = True,
    ) -> None:
        bank, count = exact.bank, len(exact.bank)
        generator = np.random.default_rng(seed)
        chosen = generator.choice(count, min(queries, count), replace=False)
        drawn = torch.from_numpy(np.sort(chosen))
        self._owners = torch.arange(count)
        if by_image:
            images = bank.field('images')
            if (images != images[0]).any():
                self._owners = images
        self._query_owners = self._owners[drawn]
        _, owner_index, sizes = self._owners.unique(
            return_inverse=True, return_counts=True
        )
        self.k, self._exact = k, exact
        self.vectors = bank.vectors(drawn)
        self.depth = min(k + int(sizes[owner_index[drawn]].max()), count)
        nearest = exact.search(self.vectors, self.depth)
        kept = self._first(nearest.indices)
        self._expected = int(kept.sum())
        self._limits = torch.where(kept, nearest.distances, -torch.inf).amax(1)

    def _first(self, indices: Tensor) -> Tensor:
        """Which are the k first of others, ``(Q, depth)``, bool."""
        is_other = (
            self._owners[indices.clamp_min(0)] != self._query_owners[:, None]
        )
        is_other &= indices >= 0
        return is_other & (is_other.cumsum(1) <= self.k)

    def share(self, indices: Tensor) -> float:
        """Recall of an index that found these, best first, ``(Q, depth)``.

        -1 is no pixel; where there is nothing to find, the recall is 1.
        """
        query, column = self._first(indices).nonzero(as_tuple=True)
        far = pair_distances(
            prepared(self.vectors, self._exact.metric),
            query,
            indices[query, column],
            self._exact.bank.vectors,
            self._exact.metric,
        )
        near = int((far <= self._limits[query]).sum())
        return near / self._expected if self._expected else 1.0


def least(
    share_at: Callable[[int], float], most: int, target: float
) -> Tuple[int, float]:
    """The least number in ``1..most`` at which a share is reached, and that.

    By doubling, then by halving: where the share does not grow with the
    number everywhere, one less does not reach it. It is ``most`` where none
    does.
    """
    below, number = 0, 1
    share = share_at(number)
    while share < target and number < most:
        below, number = number, min(2 * number, most)
        share = share_at(number)
    while share >= target and number - below > 1:
        middle = (below + number) // 2
        middle_share = share_at(middle)
        if middle_share >= target:
            number, share = middle, middle_share
        else:
            below = middle
    return number, share
