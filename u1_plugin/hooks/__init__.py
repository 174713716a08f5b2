"""Hooks of the plugin."""

from .angle_stats_hook import AngleStatsHook
from .energy_map_hook import EnergyMapHook
from .memory_bank_hook import MemoryBankHook

__all__ = [
    'AngleStatsHook',
    'EnergyMapHook',
    'MemoryBankHook',
]
