"""Starts every arm of a comparison from the same weights."""

import copy
from typing import Dict

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import MODELS
from torch import Tensor

from ..networks import unwrapped


@HOOKS.register_module()
class PairedStartHook(Hook):
    """Gives a model the initial weights of its plain twin of the same seed.

    Two models with the same seed begin alike only if their heads draw equally
    many random numbers; a margin head, for one, draws others. Here the plain
    model is built once more from its seed, and everything of it that this
    model holds under the same name and shape is copied. The random state then
    starts anew from the seed, so that augmentation draws the same numbers in
    every arm until an arm draws some of its own.

    Args:
        model (dict): Config of the plain twin.
        seed (int): Of the pair.
    """

    # Before EMAHook copies the weights.
    priority = 'VERY_HIGH'

    def __init__(self, model: dict, seed: int) -> None:
        self.model = model
        self.seed = seed

    def _twin(self) -> Dict[str, Tensor]:
        set_random_seed(self.seed)
        twin = MODELS.build(copy.deepcopy(self.model))
        twin.init_weights()
        return twin.state_dict()

    @torch.no_grad()
    def before_run(self, runner: Runner) -> None:
        """Copy, unless the run resumes.

        Raises:
            ValueError: If the backbones differ.
        """
        if runner.iter > 0:
            return
        state = unwrapped(runner.model).state_dict()
        for name, value in self._twin().items():
            same = name in state and state[name].shape == value.shape
            if same:
                state[name].copy_(value)
            elif name.startswith('backbone.'):
                raise ValueError(
                    f'model.{name} is not that of the plain twin, so the arms '
                    'cannot start from the same weights; give every arm of a '
                    'comparison the same backbone'
                )
        set_random_seed(self.seed)
