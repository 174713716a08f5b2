"""What the modules share: building, optional state and kept constants."""

import inspect
import logging
from typing import (
    Annotated,
    Any,
    Callable,
    Dict,
    List,
    Type,
    TypeVar,
    Union,
    cast,
)

import torch
from torch import Tensor, nn

from ..options import Range, shown

_logger = logging.getLogger('u1_plugin')

#: Where a component's ``type`` is looked up besides this package. MMPretrain's
#: registry joins when the MM packages are there.
RESOLVERS: List[Callable[[str], Union[None, type]]] = []

Options = Dict[str, Any]
Config = Union[None, Options, nn.Module]
#: What is built: of the default's class, or with what that class needs.
Built = TypeVar('Built', bound=nn.Module)

#: All is a float32, and so are sums of what is no larger.
LARGEST = 1e30
Weight = Annotated[float, Range(0, LARGEST)]

_REAL = (Tensor, nn.Parameter)
#: More sizes than this in one training make the oldest go.
_MOST = 32


def build(
    field: str, config: Config, default: Type[Built], **kwargs: Any
) -> Built:
    """A module from its config.

    Args:
        field (str): As the user writes it, for messages.
        config (dict | nn.Module, optional): ``type`` may be a class, a name,
            or left out for ``default``; the other keys are its arguments. A
            module is handed back as it is.
        default (type): The class without a ``type``.
        **kwargs: Arguments that the config overrides.

    Raises:
        ValueError: If the config is none, or its type is not known or lacks
            what ``default.NEEDED`` names.
        TypeError: If the class does not take an argument, naming both.
    """
    if isinstance(config, nn.Module):
        return _fitting(field, config, default)
    if config is not None and not isinstance(config, dict):
        raise ValueError(
            f'{field}={shown(config)} must be a dict of options, such as '
            f"dict(type='{default.__name__}')"
        )
    options = {**kwargs, **(config or {})}
    kind = _resolve(field, options.pop('type', default), default)
    try:
        return _fitting(field, kind(**options), default)
    except TypeError as error:
        raise TypeError(f'{field}: {kind.__name__}: {error}') from error
    except (ValueError, FileNotFoundError) as error:
        # A component knows its own name, the config's path to it is known here.
        parent, _, leaf = field.rpartition('.')
        if parent and str(error).startswith(leaf):
            raise type(error)(f'{parent}.{error}') from error
        raise


def _fitting(field: str, module: Any, default: Type[Built]) -> Built:
    """What was built, if it has what is asked of the default."""
    needed = getattr(default, 'NEEDED', ())
    missing = [name for name in needed if not hasattr(module, name)]
    if missing or not isinstance(module, nn.Module):
        lacks = f' with {", ".join(missing)}' if missing else ''
        raise ValueError(
            f'{field}={shown(module)} is no module{lacks}; use '
            f'{default.__name__} or a class derived from it'
        )
    # One that overrides `__call__` has no forward to look at.
    plain = type(module).__call__ is nn.Module.__call__
    if (taken := getattr(default, 'TAKES', ())) and plain:
        *some, last = taken
        try:
            inspect.signature(module.forward).bind(*some, **{last: None})
        except TypeError as error:
            raise ValueError(
                f'{field}={shown(module)} does not take ({", ".join(taken)}): '
                f'{error}; use {default.__name__} or a class that is called '
                'like it'
            ) from error
    return cast(Built, module)


def _resolve(field: str, kind: Any, default: type) -> type:
    if isinstance(kind, type):
        return kind
    named = isinstance(kind, str)
    if named and kind == default.__name__:
        return default
    problem = None
    for resolve in RESOLVERS:
        try:
            resolved = resolve(kind) if named else None
        except Exception as error:  # whatever a registry makes of a name
            resolved, problem = None, error
        if resolved is not None:
            return resolved
    raise ValueError(
        f'{field}.type={shown(kind)} is not known; use a class, '
        f"{default.__name__!r} or a name registered in MMPretrain's MODELS"
    ) from problem


def first_of_equal(keys: Tensor) -> Tensor:
    """Which of whole numbers ``(n,)`` have no equal before them, ``(n,)``.

    Its size does not depend on the values, so that no device is waited for.
    """
    ordered, order = keys.sort(stable=True)
    is_first = torch.ones_like(ordered, dtype=torch.bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(is_first).index_copy(0, order, is_first)


def tell_unread(field: str, value: Any, default: Any, remedy: str) -> None:
    """Log a warning if an option is set that another one keeps from use.

    An option with its default is not spoken of, and none is refused: a config
    that overrides the mode of its base keeps the base's other options.
    """
    if value != default:
        _logger.warning('%s=%s is not read; %s', field, shown(value), remedy)


class OptionalStateModule(nn.Module):
    """A module whose state a plain model's checkpoint may lack.

    A zoo checkpoint knows no class angles. Loading one leaves this module's
    state as it was built and reports no missing key; a checkpoint that holds
    a part of the state is incomplete and reported as usual.
    """

    def _load_from_state_dict(
        self, state_dict: Dict[str, Any], prefix: str, *args: Any
    ) -> None:
        if any(key.startswith(prefix) for key in state_dict):
            super()._load_from_state_dict(state_dict, prefix, *args)


class ConstantCache:
    """Keeps what a module computes from sizes alone.

    No buffers: those would change their dtype with ``model.half()``, and
    angles need float32. What is kept is never handed to users, who may write
    into it, and copies and pickles of the module begin with an empty cache.
    """

    def __init__(self) -> None:
        self._held: Dict[Any, Tensor] = {}

    def get(
        self,
        key: Any,
        like: Tensor,
        make: Callable[[torch.dtype, torch.device], Tensor],
    ) -> Tensor:
        """The constant of that key in the dtype and on the device of a tensor.

        ``make`` gives it for a dtype, float32 or float64, and a device; the
        key holds all else that it depends on.
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
