"""Classification from a memory of bottleneck pixels, without training."""

from .bank import FORMAT_VERSION, MemoryBank, Pixels, bottleneck_pixels
from .engines import ExactSearch, FaissSearch, Neighbours, build_search
from .vote import PRIORS, Sites, prior, vote

__all__ = [
    'FORMAT_VERSION',
    'PRIORS',
    'ExactSearch',
    'FaissSearch',
    'MemoryBank',
    'Neighbours',
    'Pixels',
    'Sites',
    'bottleneck_pixels',
    'build_search',
    'prior',
    'vote',
]
