"""Runs a compiled network as written while something listens to it.

A forward hook that comes after ``torch.compile`` has traced a network may be
left out of its graphs: they do not look whether hooks have changed.
"""

from typing import Any, ContextManager, Optional
from weakref import finalize

import torch
from torch import nn


def is_compiled(model: nn.Module) -> bool:
    """Whether a module, or a method of one, goes through ``torch.compile``.

    Args:
        model (nn.Module): With wrappers and all that is inside it.
    """
    parts = list(model.modules())
    # A method that is decorated where it is defined is its class's.
    classes = {base for part in parts for base in type(part).__mro__}
    return any(part._compiled_call_impl is not None for part in parts) or any(
        _is_compiled_call(value)
        for owner in (*parts, *(classes - set(nn.Module.__mro__)))
        for value in vars(owner).values()
    )


def _is_compiled_call(value: Any) -> bool:
    # `torch.compiler.disable` leaves the same mark, and one of its own.
    return hasattr(value, '_torchdynamo_orig_callable') and not getattr(
        value, '_torchdynamo_disable', False
    )


class Uncompiled:
    """A time in which a compiled network runs as written.

    Nothing happens for a network that is not compiled. What was compiled stays
    and is used again afterwards. Several may overlap. PyTorch has one such
    switch for the whole process: meanwhile every other compiled network runs
    as written as well. The time ends with :meth:`end`, and at the latest when
    this object is garbage-collected.

    Args:
        model (nn.Module): Compiled as a whole or in part: by its wrapper,
            ``model.compile()``, or a method such as ``model.forward`` that a
            compiled one has replaced, or that its class has compiled.
    """

    #: How many are under way, and what ends the stance that they share.
    _running = 0
    _stance: Optional[ContextManager[None]] = None

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._finish: Optional[finalize[Any, Any]] = None

    def begin(self) -> None:
        """Run the network as it is written from now on."""
        under_way = self._finish is not None and self._finish.alive
        if under_way or not is_compiled(self._model):
            return
        if not Uncompiled._running:
            Uncompiled._stance = torch.compiler.set_stance('force_eager')
            Uncompiled._stance.__enter__()
        Uncompiled._running += 1
        self._finish = finalize(self, Uncompiled._leave)
        self._finish.atexit = False  # there is nothing to go back to

    def end(self) -> None:
        """Let the network run compiled again."""
        if self._finish is not None:
            self._finish()  # once, whoever calls it

    @staticmethod
    def _leave() -> None:
        Uncompiled._running -= 1
        if not Uncompiled._running and Uncompiled._stance is not None:
            Uncompiled._stance.__exit__(None, None, None)
            Uncompiled._stance = None

    def __enter__(self) -> 'Uncompiled':
        self.begin()
        return self

    def __exit__(self, *exception: Any) -> None:
        self.end()
