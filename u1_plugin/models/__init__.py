from .auxiliary_losses import (
    AuxiliaryClsHead,
    CenterLoss,
    HypersphericalPrototypeLoss,
    RandomPlaneLoss,
)
from .bottleneck_angle_neck import BottleneckAngleNeck, Moment, U1Feats
from .class_angles import ClassAngles
from .feature_plane import FeaturePlane
from .memory_bank_head import MemoryBankHead
from .u1_cls_head import U1ClsHead
from .u1_loss import U1Loss
from .wrapping import WrappedClsHead

__all__ = [
    'AuxiliaryClsHead',
    'BottleneckAngleNeck',
    'CenterLoss',
    'ClassAngles',
    'FeaturePlane',
    'HypersphericalPrototypeLoss',
    'MemoryBankHead',
    'Moment',
    'RandomPlaneLoss',
    'U1ClsHead',
    'U1Feats',
    'U1Loss',
    'WrappedClsHead',
]
