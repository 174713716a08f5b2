"""What stock MMEngine 0.10 needs on today's torch, for its own files alone."""

import functools
import inspect
import math
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any, Callable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from mmengine.config import utils as config_utils
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as checkpoint_module
from mmengine.utils import digit_version

#: Methods that MMEngine's checkpoints hold by reference, owner by owner.
_METHODS = {
    HistoryBuffer: ('min', 'max', 'mean', 'current', 'statistics'),
    OneCycleParamScheduler: ('_annealing_cos', '_annealing_linear'),
}

#: Numpy's names of booleans, integers, floats and complex numbers.
_NUMBERS = tuple(np.dtype(code).str[1:] for code in '?bBhHiIlLqQefdgFDG')

#: What numpy writes after the byte order of a dtype without a structure.
_PLAIN = (None, None, None, -1, -1, 0)


class _Dtype:
    """Stands in for ``numpy.dtype`` while a checkpoint is read.

    The real one takes a state from the file, and a state can give numbers a
    sub-array of objects: their bytes are then followed as addresses. This one
    keeps a name of numbers and a byte order, and takes no other state.

    Args:
        code (str): Such as ``'f8'``.
        align (bool): Not used; numpy writes it.
        copy (bool): Not used; numpy writes it.

    Raises:
        UnpicklingError: If ``code`` is none of booleans, integers, floats or
            complex numbers.
    """

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        if code not in _NUMBERS:
            raise UnpicklingError(_refusal(f'an array of {code!r}'))
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Tuple) -> None:
        if (
            not isinstance(state, tuple)
            or len(state) != 8
            or state[1] not in ('<', '>', '|', '=')
            or state[2:] != _PLAIN
        ):
            raise UnpicklingError(_refusal(f'a dtype with state {state!r}'))
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for ``numpy.ndarray`` while a checkpoint is read."""

    array: Optional[np.ndarray] = None

    def __setstate__(self, state: Tuple) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise UnpicklingError(_refusal('an array of anything but numbers'))
        flat = np.frombuffer(data, dtype.dtype).copy()
        if math.prod(shape) != len(flat) or min(shape, default=0) < 0:
            raise UnpicklingError(
                _refusal(f'{len(data)} bytes to be an array of shape {shape}')
            )
        self.array = flat.reshape(shape, order='F' if fortran else 'C')


def _reconstruct(owner: type, shape: Tuple, code: Any) -> _Array:
    """Stands in for numpy's function that makes an empty array."""
    if owner is not _Array:
        raise UnpicklingError(_refusal(f'an array of type {owner!r}'))
    return _Array()


def _no_bytes(*args: Any) -> bytes:
    """Stands in for ``bytes``, which pickle calls for those of no length."""
    if args:
        raise UnpicklingError(_refusal(f'bytes{args!r}'))
    return b''


def _scalar(dtype: _Dtype, data: bytes) -> np.generic:
    """Stands in for numpy's function that makes a number."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
        raise UnpicklingError(_refusal('a scalar that is no number'))
    return np.frombuffer(data, dtype.dtype, count=1)[0]


def _method(owner: type, name: str) -> Callable:
    """Stands in for ``getattr`` while a checkpoint is read.

    Pickle stores ``HistoryBuffer.mean`` and the like as calls of ``getattr``.
    The real one would let a checkpoint reach any object of the process, so
    this one serves :data:`_METHODS` alone.
    """
    if name in _METHODS.get(owner, ()):
        return getattr(owner, name)
    raise UnpicklingError(_refusal(f'{name!r} of {owner!r}'))


def _refusal(what: str) -> str:
    return (
        f'the checkpoint asks for {what}, which no checkpoint of MMEngine '
        'needs; do not trust this file'
    )


def _admitted() -> List[Tuple[Any, str]]:
    """What a checkpoint of MMEngine holds beside tensors, by its name there."""
    named = [
        (owner, f'{owner.__module__}.{owner.__qualname__}')
        for owner in _METHODS
    ]
    # numpy 2 renamed numpy.core; checkpoints of both kinds are about.
    for module in ('numpy.core', 'numpy._core'):
        named.append((_reconstruct, f'{module}.multiarray._reconstruct'))
        named.append((_scalar, f'{module}.multiarray.scalar'))
    return [
        *named,
        (_Array, 'numpy.ndarray'),
        (_Dtype, 'numpy.dtype'),
        (_no_bytes, 'builtins.bytes'),
        (_method, 'builtins.getattr'),
    ]


def _name(entry: Any) -> str:
    if isinstance(entry, tuple):
        return entry[1]
    return f'{entry.__module__}.{entry.__qualname__}'


@contextmanager
def _admitting() -> Iterator[None]:
    """Torch's allow-list with ours in it, and as it was afterwards.

    Where a user's own entry has the name of one of ours, ours counts here.
    """
    before = torch.serialization.get_safe_globals()
    ours = _admitted()
    names = {name for _, name in ours}
    theirs = [entry for entry in before if _name(entry) not in names]
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([*theirs, *ours])
    try:
        yield
    finally:
        # What torch's own modules added meanwhile, as they were imported.
        added = set(torch.serialization.get_safe_globals()) - {*theirs, *ours}
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([*before, *added])


def _plain(value: Any) -> Any:
    """``value`` with numpy's arrays in the place of their stand-ins."""
    if isinstance(value, _Array):
        if value.array is None:
            raise UnpicklingError(_refusal('an array without content'))
        return value.array
    if isinstance(value, _Dtype):
        return value.dtype
    if isinstance(value, (HistoryBuffer, OneCycleParamScheduler)):
        _plain(vars(value))
    elif isinstance(value, dict):
        for key in value:
            value[key] = _plain(value[key])
    elif isinstance(value, list):
        value[:] = map(_plain, value)
    elif type(value) is tuple:
        return tuple(map(_plain, value))
    return value


def _reading(loader: Callable) -> Callable:
    """A loader of MMEngine's that reads its own checkpoints."""

    @functools.wraps(loader)  # the log tells loaders by their names
    def load(*args, **kwargs) -> Any:
        with _admitting():
            checkpoint = loader(*args, **kwargs)
        return _plain(checkpoint)

    return load


def reads_history() -> bool:
    """Whether this MMEngine reads its own checkpoints on this torch.

    ``torch.load`` means ``weights_only=True`` since torch 2.6, and MMEngine
    saves its log history and schedulers beside the weights. A version or fork
    of MMEngine that says ``weights_only`` has seen to it.
    """
    return digit_version(torch.__version__) < digit_version('2.6') or (
        'weights_only' in inspect.getsource(checkpoint_module)
    )


def setup() -> None:
    """Let MMEngine resume from its checkpoints and find our configs.

    The loaders stand in MMEngine's own registry of them, in the place of the
    two that read a file of the user's; ``torch.load`` and its allow-list stay
    as they are. A loader that somebody else has put there stays.
    """
    if not reads_history():
        for prefixes, loader in (
            ([''], checkpoint_module.load_from_local),
            (
                [r'(\S+\:)?s3://', r'(\S+\:)?petrel://'],
                checkpoint_module.load_from_ceph,
            ),
        ):
            for prefix in prefixes:
                if CheckpointLoader._schemes.get(prefix) is loader:
                    CheckpointLoader.register_scheme(
                        prefix, _reading(loader), force=True
                    )
    # MMEngine resolves `package::config` for the packages of this table only,
    # so ours has to enter itself. The value is the name of a distribution, or
    # of a module: for the latter it looks for `.mim` beside that module, which
    # is right for editable installations too, whose metadata lie elsewhere.
    config_utils.MODULE2PACKAGE.setdefault('u1_plugin', 'u1_plugin.version')
