"""Ends a training that has diverged."""

from typing import Any, Optional

import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from ..networks import unwrapped


class DivergenceHook(Hook):
    """Ends a run whose losses or parameters are no longer finite.

    What such a run would score is no result. Looked at after every epoch,
    before its checkpoint is written, or in a training by iterations before
    every validation and at the end. The loss of every iteration counts.
    """

    # Before the hook that saves.
    priority = 'LOW'

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin the epoch's sum."""
        self._loss: Any = 0.0

    def before_val_epoch(self, runner: Runner) -> None:
        """Look, where an epoch is the whole training."""
        if _by_iter(runner):
            self.after_train_epoch(runner)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Optional[dict] = None,
    ) -> None:
        """Add the losses, without waiting for the device."""
        # MMEngine names a head's own loss like the total, which it hides.
        losses = [v for name, v in (outputs or {}).items() if 'loss' in name]
        for loss in losses:
            # Half of it: a sum of finite losses stays finite.
            self._loss = self._loss / 2 + loss / 2

    def after_train_epoch(self, runner: Runner) -> None:
        """Look.

        Raises:
            FloatingPointError: If the run has diverged.
        """
        diverged = []
        if not torch.isfinite(torch.as_tensor(self._loss)).all():
            diverged.append('the loss')
        diverged += [
            f'model.{name}'
            for name, value in unwrapped(runner.model).named_parameters()
            if not torch.isfinite(value).all()
        ]
        if diverged:
            more = f' and {len(diverged) - 3} more' if len(diverged) > 3 else ''
            by_iter = _by_iter(runner)
            place = 'iteration' if by_iter else 'epoch'
            place += f' {runner.iter if by_iter else runner.epoch + 1}'
            raise FloatingPointError(
                f'{place} has diverged: '
                f'{", ".join(diverged[:3])}{more} not finite; lower '
                'optim_wrapper.optimizer.lr or clip gradients with '
                'optim_wrapper.clip_grad'
            )


def _by_iter(runner: Runner) -> bool:
    # Not `train_loop`, which builds it where there is a validation alone.
    loop = getattr(runner, '_train_loop', None)
    return isinstance(loop, IterBasedTrainLoop)
