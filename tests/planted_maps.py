"""Maps of which one channel tells the class."""

import numpy as np
import torch
from mmpretrain.registry import MODELS


def planted(images=60, classes=3, channels=8):
    """Maps whose class is plain to see, and whose classes are balanced."""
    generator = torch.Generator().manual_seed(0)
    labels = np.arange(images) % classes
    maps = torch.rand(images, channels, 2, 2, generator=generator)
    maps[torch.arange(images), labels] += 5
    plane = MODELS.build(dict(type='FeaturePlane', in_channels=channels))
    return maps, labels, plane
