"""A part of the memory that covers the whole, and images drawn for one.

Greedy k-centre selection, as PatchCore does (Roth et al., "Towards Total Recall
in Industrial Anomaly Detection", CVPR 2022): each step takes the vector that is
farthest from all taken ones, measured after a random projection (Johnson and
Lindenstrauss). Of a memory too large for that, a part drawn at random is
covered instead.
"""

from typing import List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor

from ..dist import all_gather, get_rank, get_world_size
from ..options import Count, Seed, Share, checked
from .bank import MemoryBank
from .float64 import unit
from .search import Metric

_ROWS = 16384  # at a time
_NUMBERS = 2**20  # in a temporary of float64


def _sizes(count: int, sharded: bool) -> List[int]:
    """Sizes of this rank's part, or of every rank's."""
    counts = torch.tensor([count])
    return [int(n) for n in (all_gather(counts) if sharded else counts)]


def _drawn(counts: List[int], rank: int, sample: Share, seed: int) -> Tensor:
    """The rank's part of a share of all pixels, ascending, ``(m,)``."""
    size = max(1, round(sample * sum(counts)))
    generator = np.random.default_rng(seed)
    drawn = np.sort(generator.choice(sum(counts), size, replace=False))
    start = sum(counts[:rank])
    is_local = (drawn >= start) & (drawn < start + counts[rank])
    return torch.from_numpy(drawn[is_local] - start)


def _largest(bank: MemoryBank, sharded: bool) -> float:
    """Size of the largest entry of the (whole) memory."""
    sizes = [float(part.abs().max()) for part in bank.lent_blocks()]
    largest = torch.tensor(max(sizes), dtype=torch.float64)
    return float(torch.stack(all_gather(largest)).max() if sharded else largest)


def _projected(
    bank: MemoryBank, index: Tensor, width: int, seed: int, scale: float
) -> Tensor:
    """Vectors of an index, projected: ``(n, min(width, C))``.

    Of length 1, or with a scale > 0 divided by that.
    """
    generator = torch.Generator().manual_seed(seed)
    channels = bank.channels or 0
    matrix = None
    if width < channels:
        matrix = torch.randn(
            channels, width, generator=generator, dtype=torch.float32
        )
        matrix = (matrix / width**0.5).double()
    shape = len(index), min(width, channels)
    projected = torch.empty(shape, dtype=torch.float32)
    rows = max(1, _NUMBERS // channels)
    for start in range(0, len(index), rows):
        part = slice(start, start + rows)
        vectors = bank.vectors(index[part])
        units = vectors.double() / scale if scale else unit(vectors)
        # The last bits of a product may depend on the size of the block; in
        # float64 these are none of float32's.
        projected[part] = units if matrix is None else units @ matrix
    return projected


def _farthest(
    distances: Tensor, vectors: Tensor, sharded: bool
) -> Tuple[int, int, Tensor]:
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
    sample: Optional[Share] = None,
    metric: Metric = 'cosine',
) -> Tensor:
    """Which pixels to keep, ascending, ``(n,)``; of equals the first.

    Needs ``N * width`` numbers and ``n * N * width`` operations; with a
    ``sample``, that share of both. Vectors are read once, a part at a time.

    Args:
        bank (MemoryBank): Not empty.
        share (float): Of the (whole) memory to keep, in (0, 1].
        width (int): Dimension of the random projection.
        seed (int): Of the projection and of the first vector.
        sharded (bool): Whether the bank is one rank's part; the ranks then
            choose together what one process would.
        sample (float, optional): Draw this share of the (whole) memory at
            random first, and choose among that, not less than ``share``; None
            draws nothing.
        metric (str): ``'cosine'``, of directions alone, or ``'l2'``, as the
            memory will be searched.

    Raises:
        ValueError: If an option is out of its range, a bank is empty, or no
            pixel of a rank's part is drawn.
    """
    sharded = sharded and get_world_size() > 1
    counts = _sizes(len(bank), sharded)
    if not all(counts):
        raise ValueError(
            f'the bank is empty on a rank (sizes {counts}); a coreset needs '
            'at least an image a rank'
        )
    rank = get_rank() if sharded else 0
    index = torch.arange(len(bank))
    steps = max(1, round(share * sum(counts)))
    if sample is not None:
        check_sample(sample, share)
        index = _drawn(counts, rank, sample, seed)
        counts = _sizes(len(index), sharded)
        if not all(counts):
            raise ValueError(
                f'sample={sample} draws {counts} pixels of the ranks, and each '
                'needs one; draw more'
            )
    # By the largest, so that no square overflows.
    scale = (_largest(bank, sharded) or 1.0) if metric == 'l2' else 0.0
    vectors = _projected(bank, index, width, seed, scale)
    generator = torch.Generator().manual_seed(seed)
    first = int(torch.randint(sum(counts), (1,), generator=generator))
    start = sum(counts[:rank])
    # The first vector counts as farther than any other.
    most = torch.finfo(vectors.dtype).max / 2
    distances = vectors.new_full((len(index),), most)
    if start <= first < start + len(index):
        distances[first - start] *= 2
    chosen = []
    for _ in range(min(steps, sum(counts))):
        owner, farthest, vector = _farthest(distances, vectors, sharded)
        if owner == rank:
            chosen.append(farthest)
            distances[farthest] = -1.0  # never again, not even among doubles
        for block, far in zip(vectors.split(_ROWS), distances.split(_ROWS)):
            torch.minimum(far, (block - vector).square().sum(1), out=far)
    return index[torch.tensor(sorted(chosen), dtype=torch.long)]


def check_sample(sample: float, share: float, name: str = '') -> None:
    """Raise ValueError if less is drawn at random than is to be kept of it.

    ``name`` is what the user writes before both options, for messages.
    """
    if sample < share:
        raise ValueError(
            f'{name}sample={sample} of the memory is less than the share '
            f'{share} to be kept of it; draw more, or keep less'
        )


@checked()
def few_shot(labels: np.ndarray, shots: Count, seed: Seed) -> np.ndarray:
    """Positions of so many images of every class, in ascending order.

    Args:
        labels (np.ndarray): Classes of the images, ``(N,)``, integers.
        shots (int): n of each class, >= 1.
        seed (int): Of the draw.

    Raises:
        ValueError: If an option is out of its range, there are no labels, or
            a class has fewer images.
    """
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in 'iu':
        raise ValueError(
            f'labels {labels.shape} of {labels.dtype} must be integers (N,), '
            'one an image'
        )
    generator = np.random.default_rng(seed)
    chosen: List[np.ndarray] = []
    for label in np.unique(labels):
        indices = np.flatnonzero(labels == label)
        if len(indices) < shots:
            raise ValueError(
                f'shots={shots}, but class {label} has {len(indices)} training '
                'images; choose fewer'
            )
        chosen.append(generator.choice(indices, shots, replace=False))
    return np.sort(np.concatenate(chosen))
