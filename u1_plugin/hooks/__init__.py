"""Hooks of the plugin."""

from .angle_stats_hook import AngleStatsHook
from .energy_map_hook import EnergyMapHook
from .measure_class_angles_hook import MeasureClassAnglesHook
from .memory_bank_hook import MemoryBankHook
from .paired_start_hook import PairedStartHook
from .permute_angles_hook import PermuteAnglesHook
from .run_record_hook import RunRecordHook

__all__ = [
    'AngleStatsHook',
    'EnergyMapHook',
    'MeasureClassAnglesHook',
    'MemoryBankHook',
    'PairedStartHook',
    'PermuteAnglesHook',
    'RunRecordHook',
]
