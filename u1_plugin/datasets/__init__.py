"""Harder versions of data sets: corrupted, scarce, unbalanced, mislabelled."""

from .corrupt import Corrupt
from .subsets import subset_dataset

__all__ = ['Corrupt', 'subset_dataset']
