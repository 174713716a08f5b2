"""What today's torch asks of stock MMEngine 0.10, done once on import."""

from pickle import UnpicklingError
from typing import Any, Callable, List

import numpy as np
import torch
from mmengine.config import utils as config_utils
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleParamScheduler

#: Methods that MMEngine's checkpoints hold by reference, owner by owner.
_METHODS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current', 'statistics'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}


def _checkpoint_method(owner: type, name: str) -> Callable:
    """Stands in for ``getattr`` while a checkpoint is read.

    Pickle stores ``HistoryBuffer.mean`` and the like as calls of ``getattr``.
    The real one would let a checkpoint reach any object of the process, so
    this one serves :data:`_METHODS` alone.

    Raises:
        UnpicklingError: For any other owner or name.
    """
    if name in _METHODS.get(owner, ()):
        return getattr(owner, name)
    raise UnpicklingError(
        f'the checkpoint asks for {name!r} of {owner!r}, '
        'which no checkpoint of MMEngine needs; do not '
        'trust this file'
    )


def _checkpoint_globals() -> List[Any]:
    """The few classes that MMEngine puts into a checkpoint."""
    # numpy 2 renamed numpy.core; checkpoints of both kinds are about.
    multiarray = np._core if hasattr(np, '_core') else np.core
    reconstruct = multiarray.multiarray._reconstruct
    scalar = multiarray.multiarray.scalar
    dtypes = {
        type(np.dtype(code))
        for code in ('f2', 'f4', 'f8', 'i4', 'i8', 'u1', '?')
    }
    renamed = [
        (function, f'{module}.multiarray.{function.__name__}')
        for function in (reconstruct, scalar)
        for module in ('numpy.core', 'numpy._core')
    ]
    return [
        *_METHODS,
        np.ndarray,
        np.dtype,
        *dtypes,
        *renamed,
        (_checkpoint_method, 'builtins.getattr'),
    ]


def setup() -> None:
    """Let checkpoints resume, configs resolve and retrieval metrics run.

    ``torch.load`` reads with ``weights_only=True`` since torch 2.6, and
    MMEngine 0.10 saves its log history and schedulers beside the weights.
    Allow-listing their classes keeps the protection, which
    ``weights_only=False`` would drop.
    """
    add_safe_globals = getattr(torch.serialization, 'add_safe_globals', None)
    if add_safe_globals is not None:
        add_safe_globals(_checkpoint_globals())
    # MMEngine resolves `package::config` for the packages of this table only,
    # and looks for `.mim` beside the distribution's metadata, where editable
    # installations have no package. The name of a module, which is no
    # distribution, makes it look beside that module, which is always right.
    config_utils.MODULE2PACKAGE.setdefault('u1_plugin', 'u1_plugin.version')
    # numpy 2.4 dropped it; MMPretrain 1.2's retrieval metrics call it.
    if not hasattr(np, 'in1d'):
        np.in1d = np.isin
