"""What the plugin registers, and where; importing this module does it."""

import logging

from mmengine.logging import MMLogger
from mmengine.registry import DATA_SAMPLERS, HOOKS, METRICS
from mmpretrain.registry import MODELS, OPTIM_WRAPPERS

from ..nn import BottleneckAngleNeck, ClassAngles, FeaturePlane, U1Loss
from ..nn.base import RESOLVERS
from .classifiers import (
    U1HuggingFaceClassifier,
    U1ImageClassifier,
    U1TimmClassifier,
)
from .hooks.angle_stats_hook import AngleStatsHook
from .hooks.energy_map_hook import EnergyMapHook
from .hooks.measure_class_angles_hook import MeasureClassAnglesHook
from .hooks.memory_bank_hook import MemoryBankHook
from .hooks.visualization_hook import U1VisualizationHook
from .hooks.whole_checkpoint_hook import WholeCheckpointHook
from .launch import CPUAmpOptimWrapper
from .memory_bank_head import MemoryBankHead
from .memory_loader import MemorySampler
from .symmetry_breaking import SymmetryBreaking

COMPONENTS = (
    (
        MODELS,
        (
            U1ImageClassifier,
            U1TimmClassifier,
            U1HuggingFaceClassifier,
            BottleneckAngleNeck,
            FeaturePlane,
            ClassAngles,
            U1Loss,
            MemoryBankHead,
        ),
    ),
    (
        HOOKS,
        (
            AngleStatsHook,
            EnergyMapHook,
            MeasureClassAnglesHook,
            MemoryBankHook,
            U1VisualizationHook,
            WholeCheckpointHook,
        ),
    ),
    (METRICS, (SymmetryBreaking,)),
    (DATA_SAMPLERS, (MemorySampler,)),
    (OPTIM_WRAPPERS, (CPUAmpOptimWrapper,)),
)


class _ToMMEngine(logging.Handler):
    """Hands what the rooms without MMEngine log to the current runner's log."""

    def emit(self, record: logging.LogRecord) -> None:
        MMLogger.get_current_instance().handle(record)


for _registry, _components in COMPONENTS:
    for _component in _components:
        _registry.register_module(module=_component)
RESOLVERS.append(MODELS.get)
_logger = logging.getLogger('u1_plugin')
_logger.addHandler(_ToMMEngine())
_logger.setLevel(logging.INFO)
_logger.propagate = False
