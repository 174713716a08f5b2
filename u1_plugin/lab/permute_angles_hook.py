"""A control: class angles that mean something else in every epoch."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..networks import unwrapped
from ..nn import U1Branch
from ..options import Seed, checked

#: Under which the message hub, and so a checkpoint, keeps the epoch.
_KEY = 'u1_permuted_epoch'


class PermuteAnglesHook(Hook):
    """Deals the class angles anew to the classes before every epoch.

    The U(1) loss keeps its size and its set of angles, but no class keeps an
    angle of its own: what a model gains all the same is not U(1)'s gain. The
    permutations depend on seed and epochs alone, and the checkpoint knows for
    which epoch it has been dealt, so that all ranks and a resumed run agree.

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
        dealt = runner.message_hub.runtime_info.get(_KEY)
        if dealt == runner.epoch:  # resumed in the midst of it
            return
        runner.message_hub.update_info(_KEY, runner.epoch)
        angles = branch.class_angles.angles
        generator = torch.Generator().manual_seed(
            (self.seed << 20) + runner.epoch
        )
        order = torch.randperm(len(angles), generator=generator)
        angles.copy_(angles[order.to(angles.device)])

    def after_train(self, runner: Runner) -> None:
        """Another training of this runner begins anew."""
        runner.message_hub.update_info(_KEY, None)
