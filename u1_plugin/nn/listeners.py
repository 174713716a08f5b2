"""Forward hooks that tell a reader of maps what a network does.

Objects and no closures, so that copies of a network (EMA) and pickles keep a
reader of their own.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .maps import first_tensor

if TYPE_CHECKING:
    from .taps import MapReader


class OutputListener:
    """A forward hook that hands a module's output to its reader."""

    def __init__(self, reader: 'MapReader', name: str) -> None:
        self.reader, self.name = reader, name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.reader.listening:
            self.reader.keep(self.name, output, module.training)


class ImageSizeListener:
    """A hook before the module that is called with the images."""

    def __init__(self, reader: 'MapReader') -> None:
        self.reader = reader

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if self.reader.listening:
            images = first_tensor(args, kwargs)
            self.reader.sides = () if images is None else images.shape[-2:]


class PassListener:
    """A hook before the network, which one block enters once."""

    def __init__(self, reader: 'MapReader') -> None:
        self.reader = reader

    def __call__(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or not self.reader.listening:
            return
        self.reader.passes += 1
        if self.reader.passes > 1:
            raise ValueError(
                'reading() holds a second forward pass of the network, and the '
                'maps of the first would get no U(1) loss; call the branch '
                'after each pass, or put the images into one batch'
            )
