"""Classification from a memory of bottleneck pixels, without training."""

from .bank import FORMAT_VERSION, MemoryBank, Pixels, bottleneck_pixels
from .coreset import coreset
from .engines import Bias, ExactSearch, FaissSearch, Neighbours, build_search
from .sampler import few_shot
from .sharding import Matches, Memory, Queries, all_gather_rows
from .vote import PRIORS, Sites, prior, vote

__all__ = [
    'FORMAT_VERSION',
    'PRIORS',
    'Bias',
    'ExactSearch',
    'FaissSearch',
    'Matches',
    'Memory',
    'MemoryBank',
    'Neighbours',
    'Pixels',
    'Queries',
    'Sites',
    'all_gather_rows',
    'bottleneck_pixels',
    'build_search',
    'coreset',
    'few_shot',
    'prior',
    'vote',
]
