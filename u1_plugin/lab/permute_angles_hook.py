"""A control: class angles that mean something else in every epoch."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..networks import unwrapped
from ..nn import U1Branch
from ..options import Seed, checked


class PermuteAnglesHook(Hook):
    """Deals the class angles anew to the classes before every epoch.

    The U(1) loss keeps its size and its set of angles, but no class keeps an
    angle of its own: what a model gains all the same is not U(1)'s gain. The
    permutation depends on seed and epoch alone, so that all ranks and a
    resumed run agree.

    Args:
        seed (int): Of the permutations.
    """

    @checked('PermuteAnglesHook')
    def __init__(self, seed: Seed = 0) -> None:
        self.seed = seed

    @torch.no_grad()
    def before_train_epoch(self, runner: Runner) -> None:
        """Permute.

        Raises:
            ValueError: If the model has no U(1) branch.
        """
        model = unwrapped(runner.model)
        branch = getattr(model, 'u1', None)
        if not isinstance(branch, U1Branch):
            raise ValueError(
                f'PermuteAnglesHook: model.type={type(model).__name__!r} has '
                'no class angles; leave the hook out, or set '
                "model.type='U1ImageClassifier'"
            )
        angles = branch.class_angles.angles
        generator = torch.Generator().manual_seed(
            (self.seed << 20) + runner.epoch
        )
        order = torch.randperm(len(angles), generator=generator)
        angles.copy_(angles[order.to(angles.device)])
