"""Constant tensors, made once for each dtype and device."""

from typing import Any, Callable, Dict, Hashable

import torch
from torch import Tensor

_REAL = (Tensor, torch.nn.Parameter)
#: More sizes than this in one training make the oldest go.
_MOST = 32


class ConstantCache:
    """Keeps what a module computes from sizes alone.

    No buffers: those would change their dtype with ``model.half()``, and
    angles need float32. What is kept is never handed to users, who may write
    into it, and copies and pickles of the module begin with an empty cache.
    """

    def __init__(self) -> None:
        self._held: Dict[Hashable, Tensor] = {}

    def get(
        self,
        key: Hashable,
        like: Tensor,
        make: Callable[[torch.dtype, torch.device], Tensor],
    ) -> Tensor:
        """The constant of that key in the dtype and on the device of a tensor.

        Args:
            key (Hashable): Of what the constant depends on.
            like (Tensor): Float32 or float64.
            make (Callable): Gives the constant for a dtype and a device.
        """
        if torch.compiler.is_compiling() or type(like) not in _REAL:
            # Folded into the graph, or of a fake tensor's kind: not to keep.
            return make(like.dtype, like.device)
        key = (key, like.dtype, like.device)
        if key not in self._held:
            if len(self._held) >= _MOST:
                self._held.pop(next(iter(self._held)))
            # A tensor born in inference mode could not serve training later.
            with torch.inference_mode(False), torch.no_grad():
                self._held[key] = make(like.dtype, like.device)
        return self._held[key]

    def __getstate__(self) -> Dict[str, Any]:
        return {'_held': {}}
