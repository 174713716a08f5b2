"""Pickles of calls, as checkpoints of another's making may hold them."""

import numpy as np
import pytest
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

import u1_plugin  # noqa: F401  (puts its loaders into MMEngine's registry)
from u1_plugin.mm import compat

needs_loaders = pytest.mark.skipif(
    compat.reads_history(),
    reason='this MMEngine reads its own checkpoints on this torch',
)


def read(file) -> dict:
    return CheckpointLoader.load_checkpoint(str(file), 'cpu')


class Call:
    """Pickles as a call of ``function(*args)``, and a state if there is one."""

    def __init__(self, function, *args, state=None):
        parts = function, args
        self.parts = parts if state is None else (*parts, state)

    def __reduce__(self):
        return self.parts


def array(dtype, data: bytes, shape=(8,), state=None) -> Call:
    """An array as numpy writes it, of any dtype and bytes."""
    reconstruct, args, _ = np.array([0.0]).__reduce__()
    return Call(reconstruct, *args, state=(1, shape, dtype, False, data))


def dtype(code: str, *state) -> Call:
    return Call(np.dtype, code, False, True, state=state or None)


def history(**changes) -> Call:
    """A log history as MMEngine writes it, but for the changes."""
    state = HistoryBuffer([0.5, 1.5], [1.0, 1.0]).__getstate__()
    return Call(HistoryBuffer, state={**state, **changes})


PLAIN = ('<', None, None, None, -1, -1, 0)
