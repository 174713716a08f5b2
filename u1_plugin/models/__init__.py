from .bottleneck_angle_neck import BottleneckAngleNeck, Moment, U1Feats
from .class_angles import ClassAngles
from .feature_plane import FeaturePlane
from .memory_bank_head import MemoryBankHead
from .u1_cls_head import U1ClsHead
from .u1_loss import U1Loss

__all__ = [
    'BottleneckAngleNeck',
    'ClassAngles',
    'FeaturePlane',
    'MemoryBankHead',
    'Moment',
    'U1ClsHead',
    'U1Feats',
    'U1Loss',
]
