"""Metrics of the plugin."""

from .symmetry_breaking import SymmetryBreaking

__all__ = ['SymmetryBreaking']
