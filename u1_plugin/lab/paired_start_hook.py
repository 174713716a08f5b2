"""Starts every arm of a comparison from the same weights."""

import copy
from typing import Dict

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import MODELS
from torch import Tensor

from ..mm.pretrained import keep_pretrained
from ..networks import unwrapped
from ..options import Seed, checked


class PairedStartHook(Hook):
    """Gives a model the initial weights of its plain twin of the same seed.

    Two models with the same seed begin alike only if their parts draw equally
    many random numbers; a margin head, for one, draws others. Here the plain
    model is built and initialised once more from the seed, and everything of
    it that this model holds under the same name and shape is copied. The
    model is initialised here too, because MMEngine would do so after this
    hook and undo it; a second call is none. That is done once, where a
    training begins: weights that were loaded before (``FlexibleRunner`` loads
    first) or trained stay. Training then begins with the random state that the
    twin's initialisation left, in every arm, so that augmentation draws the
    same numbers until an arm draws some of its own; or, with
    ``randomness.diff_rank_seed``, with that of the seed and the rank.

    Args:
        model (dict): Config of the plain twin.
        seed (int): Of the pair.
    """

    # Before EMAHook copies the weights.
    priority = 'VERY_HIGH'

    @checked('PairedStartHook')
    def __init__(self, model: dict, seed: Seed) -> None:
        self.model = model
        self.seed = seed
        self._begun = False

    def _twin(self) -> Dict[str, Tensor]:
        twin = MODELS.build(copy.deepcopy(self.model))
        keep_pretrained(twin, self.model)
        set_random_seed(self.seed)
        twin.init_weights()
        return twin.state_dict()

    @torch.no_grad()
    def before_run(self, runner: Runner) -> None:
        """Initialise and copy; a resumed run loads its weights afterwards.

        Raises:
            ValueError: If the backbones differ.
        """
        if not self._begins(runner):
            return
        model = unwrapped(runner.model)
        if runner._has_loaded:
            model._is_init = True  # else a Runner would draw them anew now
            return
        self._begun = True
        set_random_seed(self.seed)
        twin = self._twin()
        with torch.random.fork_rng():
            model.init_weights()
        state = model.state_dict()
        for name, value in twin.items():
            same = name in state and state[name].shape == value.shape
            if same:
                state[name].copy_(value)
            elif name.startswith('backbone.'):
                raise ValueError(
                    f'model.{name} is not that of the plain twin, so the arms '
                    'cannot start from the same weights; give every arm of a '
                    'comparison the same backbone'
                )
        if getattr(runner, '_randomness_cfg', {}).get('diff_rank_seed'):
            set_random_seed(self.seed, diff_rank_seed=True)

    def _begins(self, runner: Runner) -> bool:
        """Whether the run's first training begins."""
        # Of a runner that is to validate or test alone it is a config, or None.
        loop = getattr(runner, '_train_loop', None)
        trains = loop is not None and not isinstance(loop, dict)
        return trains and not self._begun
