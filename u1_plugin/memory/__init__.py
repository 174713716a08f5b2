"""Classification from a memory of bottleneck pixels, without training."""

from .bank import MemoryBank
from .bank_file import FILE_MARK
from .bank_state import FORMAT_VERSION
from .coreset import coreset
from .engines import build_search, check_engine
from .exact_search import ExactSearch
from .faiss_search import FaissSearch
from .pixels import Pixels, bottleneck_pixels
from .sampler import few_shot
from .search import Bias, Neighbours
from .sharding import Matches, Memory, Queries, all_gather_rows
from .vote import PRIORS, Sites, prior, vote

__all__ = [
    'FILE_MARK',
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
    'check_engine',
    'coreset',
    'few_shot',
    'prior',
    'vote',
]
