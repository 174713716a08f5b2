"""Tells which outputs of a network's modules are one tensor."""

from collections import Counter
from typing import Any, Dict, List, Sequence, Tuple
from typing import Counter as CounterOf
from weakref import ReferenceType, ref

import torch
from torch import Tensor, nn

from .maps import Layer, MapSource, Origin, OutputTensor, output_tensors


class Origins:
    """The module that was first to return a tensor, in one pass.

    Others hand it on: a backbone the map of its last stage. Dropout and
    stochastic depth do so in evaluation, but make another one in training.
    """

    def __init__(self) -> None:
        self._calls: CounterOf[str] = Counter()
        # By identity, which a later tensor may have after it is gone.
        self._known: Dict[int, Tuple[ReferenceType[Tensor], int, Origin]] = {}

    def noted(
        self, name: str, module: nn.Module, output: Any
    ) -> List[OutputTensor]:
        """The tensors of an output, without values, and their origins."""
        kind = type(module).__name__
        makes = 'Drop' in kind or 'Stochastic' in kind
        call = self._calls[name]
        self._calls[name] += 1
        parts = []
        for place, part in enumerate(output_tensors(output)):
            origin = self._of(part.value, (name, call, place), makes)
            shape = torch.empty_like(part.value, device='meta')
            parts.append(part._replace(value=shape, origin=origin))
        return parts

    def _of(self, value: Tensor, here: Origin, makes: bool) -> Origin:
        if value.is_inference():  # which tells no change in place
            return here
        known, version = self._known.get(id(value)), value._version
        # What was changed in place since is another map.
        if known and known[0]() is value and known[1] == version and not makes:
            return known[2]
        self._known[id(value)] = (ref(value), version, here)
        return here


def same_map(first: MapSource, second: MapSource) -> bool:
    """Whether two layers are one map, perhaps by two names.

    A backbone returns the tensor of its last stage: ``'backbone'`` and
    ``'backbone.layer4'`` are one map.
    """
    if (first.module, first.index) == (second.module, second.index):
        return True
    return first.origin is not None and first.origin == second.origin


def check_different(
    layers: Sequence[Layer], sources: Sequence[MapSource]
) -> None:
    """Raise ValueError if two layers, by other names, are one map."""
    for i, source in enumerate(sources):
        for j in range(i):
            if layers[i] != layers[j] and same_map(sources[j], source):
                raise ValueError(
                    f'u1.neck.layers: {layers[j]!r} and {layers[i]!r} are one '
                    'map, which would count twice; leave one of them out'
                )
