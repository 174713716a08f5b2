"""Points of five classes on the circle, and where a target pulls."""

import torch

from u1_plugin.nn import ClassAngles, ClassTarget
from u1_plugin.nn.targets import as_table

K = 5


def points(windings: int = 1) -> torch.Tensor:
    return ClassAngles(K, seed=3, windings=windings).double()()


def pull_of(target: ClassTarget, windings: int = 1):
    return target.pull(as_table(points(windings), target.smoothing))
