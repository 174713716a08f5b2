"""A control: class angles that mean something else in every epoch."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..mm.u1_cls_head import U1ClsHead
from ..networks import unwrapped


class PermuteAnglesHook(Hook):
    """Deals the class angles anew to the classes before every epoch.

    The U(1) loss keeps its size and its set of angles, but no class keeps an
    angle of its own: what a model gains all the same is not U(1)'s gain. The
    permutation depends on seed and epoch alone, so that all ranks and a
    resumed run agree.

    Args:
        seed (int): Of the permutations.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @torch.no_grad()
    def before_train_epoch(self, runner: Runner) -> None:
        """Permute.

        Raises:
            TypeError: If the model has no :class:`U1ClsHead`.
        """
        model = unwrapped(runner.model)
        if not isinstance(model.head, U1ClsHead):
            raise TypeError(
                f'PermuteAnglesHook: model.head is {type(model.head).__name__},'
                ' not U1ClsHead; leave the hook out or set model.head'
            )
        angles = model.head.class_angles.angles
        generator = torch.Generator().manual_seed(
            (self.seed << 20) + runner.epoch
        )
        order = torch.randperm(len(angles), generator=generator)
        angles.copy_(angles[order.to(angles.device)])
