"""A control: class angles that mean something else in every epoch."""

from typing import Any

import torch
from mmengine.dist import get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ..networks import unwrapped
from ..nn import U1Branch
from ..options import Seed, checked

#: Under which the message hub, and so a checkpoint, keeps the epoch.
_KEY = 'u1_permuted_epoch'


class PermuteAnglesHook(Hook):
    """Deals the class angles anew to the classes before every epoch.

    In a training by iterations, an epoch is one pass over as many images as
    the data set has.

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

    def before_train(self, runner: Runner) -> None:
        """Look at the other hooks.

        Raises:
            ValueError: If one of them averages the angles as they are dealt,
                and would leave those averages in the checkpoint.
        """
        for hook in runner.hooks:
            if isinstance(hook, EMAHook) and hook.ema_model.update_buffers:
                raise ValueError(
                    f'PermuteAnglesHook: {type(hook).__name__}.update_buffers='
                    'True averages the class angles that were dealt; set it to '
                    'False'
                )

    def before_train_epoch(self, runner: Runner) -> None:
        """Permute.

        Raises:
            ValueError: If the model has no U(1) branch.
        """
        self._deal(runner, _epoch(runner))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Permute, where MMEngine's one epoch is the whole training."""
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._deal(runner, _epoch(runner))

    @torch.no_grad()
    def _deal(self, runner: Runner, epoch: int) -> None:
        model = unwrapped(runner.model)
        branch = getattr(model, 'u1', None)
        if not isinstance(branch, U1Branch):
            raise ValueError(
                f'PermuteAnglesHook: model.type={type(model).__name__!r} has '
                'no class angles; leave the hook out, or set '
                "model.type='U1ImageClassifier'"
            )
        dealt = runner.message_hub.runtime_info.get(_KEY)
        if dealt == epoch:  # in the midst of it, maybe resumed there
            return
        runner.message_hub.update_info(_KEY, epoch)
        angles = branch.class_angles.angles
        generator = torch.Generator().manual_seed((self.seed << 20) + epoch)
        order = torch.randperm(len(angles), generator=generator)
        angles.copy_(angles[order.to(angles.device)])

    def after_train(self, runner: Runner) -> None:
        """Another training of this runner begins anew."""
        runner.message_hub.update_info(_KEY, None)


def _epoch(runner: Runner) -> int:
    """How often all images have been shown."""
    if not isinstance(runner.train_loop, IterBasedTrainLoop):
        return runner.epoch
    loader = runner.train_loop.dataloader
    # Not the loader's length, which with InfiniteSampler is that of one rank.
    batch = getattr(loader.batch_sampler, 'batch_size', 1)
    shown = runner.iter * batch * get_world_size()
    return shown // max(len(loader.dataset), 1)
