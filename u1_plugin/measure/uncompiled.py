"""Runs a compiled network as written while something listens to it.

A forward hook that comes after ``torch.compile`` has traced a network may be
left out of its graphs: they do not look whether hooks have changed.
"""

from typing import Any, ContextManager, Optional

import torch
from torch import nn


def is_compiled(model: nn.Module) -> bool:
    """Whether a module, or a method of one, goes through ``torch.compile``.

    Args:
        model (nn.Module): With wrappers and all that is inside it.
    """
    return any(
        part._compiled_call_impl is not None
        or any(
            hasattr(value, '_torchdynamo_orig_callable')
            for value in vars(part).values()
        )
        for part in model.modules()
    )


class Uncompiled:
    """A time in which a compiled network runs as written.

    Nothing happens for a network that is not compiled. What was compiled stays
    and is used again afterwards. Several may overlap.

    Args:
        model (nn.Module): Compiled as a whole or in part: by its wrapper,
            ``model.compile()``, or a method such as ``model.forward`` that a
            compiled one has replaced.
    """

    #: How many are under way, and what ends the stance that they share.
    _running = 0
    _stance: Optional[ContextManager] = None

    def __init__(self, model: nn.Module) -> None:
        self._model, self._begun = model, False

    def begin(self) -> None:
        """From now on."""
        if self._begun or not is_compiled(self._model):
            return
        if not Uncompiled._running:
            Uncompiled._stance = torch.compiler.set_stance('force_eager')
            Uncompiled._stance.__enter__()
        Uncompiled._running += 1
        self._begun = True

    def end(self) -> None:
        """Until now."""
        if not self._begun:
            return
        self._begun = False
        Uncompiled._running -= 1
        if not Uncompiled._running:
            Uncompiled._stance.__exit__(None, None, None)
            Uncompiled._stance = None

    def __enter__(self) -> 'Uncompiled':
        self.begin()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.end()
