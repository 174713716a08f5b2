"""A part of the memory that covers the whole: greedy k-centre selection.

As PatchCore does (Roth et al., "Towards Total Recall in Industrial Anomaly
Detection", CVPR 2022): each step takes the vector that is farthest from all
taken ones, measured after a random projection (Johnson and Lindenstrauss).
"""

import torch
from torch import Tensor

from ..dist import all_gather, get_rank, get_world_size
from ..options import Count, Seed, Share, checked
from .bank import MemoryBank
from .precise import unit


def _projected(bank: MemoryBank, width: int, seed: int) -> Tensor:
    """Unit vectors, projected: ``(N, min(width, C))``."""
    generator = torch.Generator().manual_seed(seed)
    channels = bank.channels
    matrix = None
    if width < channels:
        matrix = torch.randn(channels, width, generator=generator)
        matrix = (matrix / width**0.5).double()
    parts = []
    for block in bank.blocks():
        units = unit(block)
        # The last bits of a product may depend on the size of the block; in
        # float64 these are none of float32's.
        parts.append((units if matrix is None else units @ matrix).float())
    return torch.cat(parts)


def _farthest(distances: Tensor, vectors: Tensor, sharded: bool):
    """Owner's rank, its index there, and the vector."""
    index = int(distances.argmax())
    if not sharded:
        return 0, index, vectors[index]
    # One message a step: distance, then the vector.
    message = torch.cat([distances[index : index + 1], vectors[index]])
    gathered = torch.stack(all_gather(message))
    owner = int(gathered[:, 0].argmax())  # the first of equals
    return owner, index, gathered[owner, 1:]


@checked('coreset')
@torch.no_grad()
def coreset(
    bank: MemoryBank,
    share: Share,
    width: Count = 128,
    seed: Seed = 0,
    sharded: bool = False,
) -> Tensor:
    """Which pixels to keep, ascending, ``(n,)``; of equals the first.

    Needs ``N * width`` numbers and ``n * N * width`` operations.

    Args:
        bank (MemoryBank): Not empty.
        share (float): Of the (whole) memory to keep, in (0, 1].
        width (int): Dimension of the random projection.
        seed (int): Of the projection and of the first vector.
        sharded (bool): Whether the bank is one rank's part; the ranks then
            choose together what one process would.

    Raises:
        ValueError: If an option is out of its range or a bank is empty.
    """
    sharded = sharded and get_world_size() > 1
    counts = [len(bank)]
    if sharded:
        counts = [int(n) for n in all_gather(torch.tensor(counts))]
    if not all(counts):
        raise ValueError(
            f'the bank is empty on a rank (sizes {counts}); a coreset needs '
            'at least an image a rank'
        )
    vectors = _projected(bank, width, seed)
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(sum(counts), (1,), generator=generator))
    start = sum(counts[: get_rank()]) if sharded else 0
    # The first vector counts as farther than any other.
    distances = torch.full((len(bank),), torch.finfo(vectors.dtype).max / 2)
    if start <= first < start + len(bank):
        distances[first - start] *= 2
    rank = get_rank() if sharded else 0
    chosen = []
    for _ in range(max(1, round(share * sum(counts)))):
        owner, index, vector = _farthest(distances, vectors, sharded)
        if owner == rank:
            chosen.append(index)
            distances[index] = -1.0  # never again, not even among doubles
        away = (vectors - vector).square().sum(1)
        distances = torch.minimum(distances, away)
    return torch.tensor(sorted(chosen), dtype=torch.long)
