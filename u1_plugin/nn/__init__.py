"""Torch modules of the method; nothing of MMPretrain or timm in them."""

from .bottleneck_angle_neck import BottleneckAngleNeck, Moment
from .branch import U1Branch
from .class_angles import ClassAngles
from .collector import MapCollector
from .feature_plane import FeaturePlane
from .layers import find_maps
from .maps import MapSource
from .taps import MapReader
from .targets import ClassPointTable, ClassTarget, Pull, as_table
from .u1_loss import U1Loss

__all__ = [
    'BottleneckAngleNeck',
    'ClassAngles',
    'ClassPointTable',
    'ClassTarget',
    'FeaturePlane',
    'MapCollector',
    'MapReader',
    'MapSource',
    'Moment',
    'Pull',
    'U1Branch',
    'U1Loss',
    'as_table',
    'find_maps',
]
