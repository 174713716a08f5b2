"""Classification from a memory of bottleneck pixels, without training."""

from .bank import MemoryBank
from .bank_file import FILE_MARK
from .bank_state import FORMAT_VERSION
from .coreset import coreset
from .engine_configs import ExactEngine, FaissEngine, parse_engine
from .engines import build_search, check_engine
from .exact_search import ExactSearch
from .faiss_search import FaissSearch, least_nprobe
from .filling import bank_on_disk
from .kernels import KERNELS, Kernel, kernel_of
from .pixels import Pixels, bottleneck_pixels
from .recall import Recall
from .sampler import few_shot
from .scoring import Rule, class_shares
from .search import Bias, Neighbours
from .sharding import Matches, Memory, Queries, all_gather_rows
from .vote import PRIORS, Sites, prior, vote

__all__ = [
    'FILE_MARK',
    'FORMAT_VERSION',
    'KERNELS',
    'PRIORS',
    'Bias',
    'ExactEngine',
    'ExactSearch',
    'FaissEngine',
    'FaissSearch',
    'Kernel',
    'Matches',
    'Memory',
    'MemoryBank',
    'Neighbours',
    'Pixels',
    'Queries',
    'Recall',
    'Rule',
    'Sites',
    'all_gather_rows',
    'bank_on_disk',
    'bottleneck_pixels',
    'build_search',
    'check_engine',
    'class_shares',
    'coreset',
    'few_shot',
    'kernel_of',
    'least_nprobe',
    'parse_engine',
    'prior',
    'vote',
]
