"""What the laboratory registers, and where."""

from mmengine.registry import DATASETS, HOOKS
from mmpretrain.registry import MODELS, TRANSFORMS

from .auxiliary_classifier import AuxiliaryImageClassifier
from .auxiliary_losses import (
    CenterLoss,
    HypersphericalPrototypeLoss,
    RandomPlaneLoss,
)
from .corrupt import Corrupt
from .divergence_hook import DivergenceHook
from .paired_start_hook import PairedStartHook
from .permute_angles_hook import PermuteAnglesHook
from .run_record_hook import RunRecordHook
from .sample_seed_hook import SampleSeedHook
from .simplex_head import SimplexClsHead
from .squeezenet import SqueezeNet, SqueezeNetHead
from .subsets import subset_dataset
from .target_losses import (
    OrthogonalProjectionLoss,
    SphereTargetLoss,
    SuperclassLoss,
)

COMPONENTS = (
    (
        MODELS,
        (
            AuxiliaryImageClassifier,
            CenterLoss,
            HypersphericalPrototypeLoss,
            OrthogonalProjectionLoss,
            RandomPlaneLoss,
            SimplexClsHead,
            SphereTargetLoss,
            SqueezeNet,
            SqueezeNetHead,
            SuperclassLoss,
        ),
    ),
    (
        HOOKS,
        (
            DivergenceHook,
            PairedStartHook,
            PermuteAnglesHook,
            RunRecordHook,
            SampleSeedHook,
        ),
    ),
    (TRANSFORMS, (Corrupt,)),
)


def register() -> None:
    """Register every component, once."""
    for registry, components in COMPONENTS:
        for component in components:
            registry.register_module(module=component)
    DATASETS.register_module(name='SubsetDataset', module=subset_dataset)
