"""What the laboratory registers, and where."""

from mmengine.registry import DATASETS, HOOKS
from mmpretrain.registry import MODELS, TRANSFORMS

from .auxiliary_losses import (
    AuxiliaryImageClassifier,
    CenterLoss,
    HypersphericalPrototypeLoss,
    RandomPlaneLoss,
)
from .corrupt import Corrupt
from .paired_start_hook import PairedStartHook
from .permute_angles_hook import PermuteAnglesHook
from .run_record_hook import RunRecordHook
from .subsets import subset_dataset

COMPONENTS = (
    (
        MODELS,
        (
            AuxiliaryImageClassifier,
            CenterLoss,
            HypersphericalPrototypeLoss,
            RandomPlaneLoss,
        ),
    ),
    (HOOKS, (PairedStartHook, PermuteAnglesHook, RunRecordHook)),
    (TRANSFORMS, (Corrupt,)),
)


def register() -> None:
    """Register every component, once."""
    for registry, components in COMPONENTS:
        for component in components:
            registry.register_module(module=component)
    DATASETS.register_module(name='SubsetDataset', module=subset_dataset)
