"""Stands in for what MMEngine's checkpoints hold beside tensors.

A checkpoint is data: while it is read, its names of numpy's and MMEngine's
classes and functions lead to the stand-ins of this module, which take plain
arrays of numbers, log histories of them and nothing else.
"""

import math
import reprlib
from pickle import UnpicklingError
from typing import Any, Callable, Dict, Optional, Tuple

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler import OneCycleParamScheduler

#: Numpy's names of booleans, integers, floats and complex numbers.
_NUMBERS = tuple(np.dtype(code).str[1:] for code in '?bBhHiIlLqQefdFD')

#: What numpy writes after the byte order of a dtype without a structure.
_PLAIN = (None, None, None, -1, -1, 0)


class _Dtype:
    """Stands in for ``numpy.dtype`` while a checkpoint is read.

    The real one takes a state from the file, and a state can give numbers a
    sub-array of objects: their bytes are then followed as addresses. This one
    keeps a name of numbers and a byte order, and takes no other state. What
    numpy writes as ``align`` and ``copy`` is not used.
    """

    dtype: Optional[np.dtype] = None

    def __init__(self, code: str, align: bool = False, copy: bool = True):
        if type(code) is not str or code not in _NUMBERS:
            raise _refusal('an array of', code)
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Tuple) -> None:
        if (
            type(state) is not tuple
            or len(state) != 8
            or type(state[1]) is not str
            or state[1] not in ('<', '>', '|', '=')
            or state[2:] != _PLAIN
        ):
            raise _refusal('a dtype with the state', state)
        self.dtype = self.dtype.newbyteorder(state[1])


def _numbers(dtype: Any, data: Any) -> np.ndarray:
    """Bytes as a flat array of numbers."""
    # torch's functions for tensors set attributes of whatever they get.
    numpy_dtype = dtype.dtype if type(dtype) is _Dtype else None
    if not isinstance(numpy_dtype, np.dtype) or type(data) is not bytes:
        raise _refusal('numbers of', (type(dtype), type(data)))
    flat = np.frombuffer(data, numpy_dtype).copy()
    # Other bytes make a mask that selects more than it counts.
    if flat.dtype.kind == 'b' and (flat.view(np.uint8) > 1).any():
        raise _refusal('booleans of the bytes', data)
    return flat


class _Array:
    """Stands in for ``numpy.ndarray`` while a checkpoint is read."""

    array: Optional[np.ndarray] = None

    def __setstate__(self, state: Tuple) -> None:
        _, shape, dtype, fortran, data = state
        flat = _numbers(dtype, data)
        if (
            type(shape) is not tuple
            or any(type(size) is not int or size < 0 for size in shape)
            or math.prod(shape) != len(flat)
        ):
            raise _refusal(f'{len(data)} bytes in an array of shape', shape)
        self.array = flat.reshape(shape, order='F' if fortran else 'C')


class _Buffer:
    """Stands in for MMEngine's ``HistoryBuffer``.

    The real one writes what its state calls statistics into its class, for
    all buffers of the process.
    """

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def buffer(self) -> HistoryBuffer:
        """The real one, of two arrays of equal length and of nothing else."""
        state = dict(self.state)
        methods = state.pop('statistics_methods', {})
        arrays = [
            real(state.pop(f'_{name}_history')) for name in ('log', 'count')
        ]
        length = state.pop('max_length')
        if (
            state
            or type(length) is not int
            or length < 1
            or any(type(array) is not np.ndarray for array in arrays)
            or any(array.ndim != 1 for array in arrays)
            or any(array.dtype.kind not in 'biuf' for array in arrays)
            or len(arrays[0]) != len(arrays[1])
            or any(methods[n] is not _method(_Buffer, n) for n in methods)
        ):
            raise _refusal('a log history of', self.state)
        log, count = arrays
        history = HistoryBuffer(max_length=length)
        history._log_history, history._count_history = log, count
        return history


class _Scheduler:
    """Stands in for ``OneCycleParamScheduler``, of which none is stored."""

    def __new__(cls, *args: Any) -> '_Scheduler':
        raise _refusal('a scheduler of', args)


#: Methods that MMEngine's checkpoints hold by reference, owner by owner.
_METHODS = (
    (_Buffer, HistoryBuffer, ('min', 'max', 'mean', 'current')),
    (
        _Scheduler,
        OneCycleParamScheduler,
        ('_annealing_cos', '_annealing_linear'),
    ),
)


def _method(owner: Any, name: Any) -> Callable:
    """Stands in for ``getattr`` while a checkpoint is read.

    Pickle stores ``HistoryBuffer.mean`` and the like as calls of ``getattr``.
    The real one would let a checkpoint reach any object of the process, so
    this one serves :data:`_METHODS` alone.
    """
    for stand_in, original, names in _METHODS:
        # Not by hash: that of a deep tuple overflows the stack.
        if owner is stand_in and type(name) is str and name in names:
            return getattr(original, name)
    raise _refusal('an attribute of', (owner, name))


def _reconstruct(owner: Any, shape: Any, code: Any) -> _Array:
    """Stands in for numpy's function that makes an empty array."""
    if owner is not _Array:
        raise _refusal('an array of type', owner)
    return _Array()


def _no_bytes(*args: Any) -> bytes:
    """Stands in for ``bytes``, which pickle calls for those of no length."""
    if args:
        raise _refusal('bytes of', args)
    return b''


def _scalar(dtype: Any, data: Any) -> np.generic:
    """Stands in for numpy's function that makes a number."""
    (number,) = _numbers(dtype, data)
    return number


def _refusal(what: str, value: Any) -> UnpicklingError:
    # The whole of a crafted value may have no end.
    return UnpicklingError(
        f'the checkpoint asks for {what} {reprlib.repr(value)}, which no '
        'checkpoint of MMEngine needs; do not trust this file'
    )


#: What a checkpoint of MMEngine holds beside tensors, by its name there.
ADMITTED = (
    *(
        (stand_in, f'{original.__module__}.{original.__qualname__}')
        for stand_in, original, _ in _METHODS
    ),
    # numpy 2 renamed numpy.core; checkpoints of both kinds are about.
    *(
        entry
        for module in ('numpy.core', 'numpy._core')
        for entry in (
            (_reconstruct, f'{module}.multiarray._reconstruct'),
            (_scalar, f'{module}.multiarray.scalar'),
        )
    ),
    (_Array, 'numpy.ndarray'),
    (_Dtype, 'numpy.dtype'),
    (_no_bytes, 'builtins.bytes'),
    (_method, 'builtins.getattr'),
)


def real(value: Any, memo: Optional[Dict[int, Any]] = None) -> Any:
    """A checkpoint with the real things in the place of their stand-ins.

    Args:
        value (Any): Of a checkpoint; dicts and lists are changed in place.
        memo (Dict[int, Any], optional): What became of the objects met so far,
            by id: each is met once, however often and in itself it is stored.

    Raises:
        UnpicklingError: If it holds what no checkpoint of MMEngine needs.
    """
    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)]
    result = memo[id(value)] = value
    if isinstance(value, _Array):
        if type(value.array) is not np.ndarray:
            raise _refusal('an array of content', value.array)
        result = value.array
    elif isinstance(value, _Dtype):
        if not isinstance(value.dtype, np.dtype):
            raise _refusal('a dtype of name', value.dtype)
        result = value.dtype
    elif isinstance(value, _Buffer):
        result = value.buffer()
    elif any(value is ours for ours, _ in ADMITTED):
        raise _refusal('the value', value)
    elif isinstance(value, dict):
        for key in value:
            _check_hashed(key, memo)
            value[key] = real(value[key], memo)
    elif isinstance(value, list):
        value[:] = [real(part, memo) for part in value]
    elif isinstance(value, set):
        for part in value:
            _check_hashed(part, memo)
    elif type(value) is tuple:
        parts = tuple(real(part, memo) for part in value)
        if any(new is not old for new, old in zip(parts, value)):
            result = parts
    memo[id(value)] = result
    return result


def _check_hashed(value: Any, memo: Dict[int, Any]) -> None:
    if real(value, memo) is not value:
        raise _refusal('a key of', type(value))
