"""Classification from a memory of bottleneck pixels, without training."""

from .bank import MemoryBank
from .coreset import coreset, few_shot
from .engines import (
    ExactEngine,
    FaissEngine,
    build_search,
    check_engine,
    parse_engine,
)
from .exact_search import ExactSearch
from .faiss_search import FaissSearch, least_nprobe
from .filling import bank_on_disk
from .kernels import KERNELS, Kernel, kernel_of
from .pixels import Pixels, bottleneck_pixels
from .priors import PRIORS, PlaneCoordinates
from .recall import Recall
from .search import Neighbours, PriorBias
from .sharding import LabelledNeighbours, Memory, Queries
from .voting import VotingRule, class_shares

__all__ = [
    'ExactEngine',
    'ExactSearch',
    'FaissEngine',
    'FaissSearch',
    'KERNELS',
    'Kernel',
    'LabelledNeighbours',
    'Memory',
    'MemoryBank',
    'Neighbours',
    'PRIORS',
    'Pixels',
    'PlaneCoordinates',
    'PriorBias',
    'Queries',
    'Recall',
    'VotingRule',
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
]
