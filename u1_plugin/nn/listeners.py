"""Forward hooks that tell a reader of maps what a network does.

Objects and no closures, so that copies of a network (EMA) and pickles keep a
reader of their own.
"""

from typing import TYPE_CHECKING, Any

from torch import nn

from .maps import first_tensor

if TYPE_CHECKING:
    from .taps import MapReader


class Tap:
    """A forward hook that hands a module's output to its reader."""

    def __init__(self, reader: 'MapReader', name: str) -> None:
        self.reader, self.name = reader, name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.reader.listening:
            self.reader.keep(self.name, output)


class Eye:
    """A hook before the module that is called with the images."""

    def __init__(self, reader: 'MapReader') -> None:
        self.reader = reader

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.reader.listening:
            images = first_tensor(args, kwargs)
            self.reader.sides = () if images is None else images.shape[-2:]
