"""What the modules share: building from configs and optional state."""

from typing import (
    Any,
    Callable,
    Collection,
    Dict,
    List,
    Optional,
    Type,
    TypeVar,
    Union,
    cast,
)

from torch import nn

from ..options import shown

#: Where a component's ``type`` is looked up besides this package. MMPretrain's
#: registry joins when the MM packages are there.
RESOLVERS: List[Callable[[str], Optional[type]]] = []

Options = Dict[str, Any]
Config = Union[None, Options, nn.Module]
#: What is built: of the default's class, or with what that class needs.
Built = TypeVar('Built', bound=nn.Module)


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


def _fitting(field: str, found: Any, default: Type[Built]) -> Built:
    """What was built, if it has what is asked of the default."""
    needed = getattr(default, 'NEEDED', ())
    missing = [name for name in needed if not hasattr(found, name)]
    if missing or not isinstance(found, nn.Module):
        lacks = f' with {", ".join(missing)}' if missing else ''
        raise ValueError(
            f'{field}={shown(found)} is no module{lacks}; use '
            f'{default.__name__} or a class derived from it'
        )
    return cast(Built, found)


def _resolve(field: str, kind: Any, default: type) -> type:
    if isinstance(kind, type):
        return kind
    named = isinstance(kind, str)
    if named and kind == default.__name__:
        return default
    problem = None
    for resolve in RESOLVERS:
        try:
            found = resolve(kind) if named else None
        except Exception as error:  # whatever a registry makes of a name
            found, problem = None, error
        if found is not None:
            return found
    raise ValueError(
        f'{field}.type={shown(kind)} is not known; use a class, '
        f"{default.__name__!r} or a name registered in MMPretrain's MODELS"
    ) from problem


class OptionalStateModule(nn.Module):
    """A module whose state a plain model's checkpoint may lack.

    A zoo checkpoint knows no class angles. Loading one leaves this module's
    state as it was built and reports no missing key; a checkpoint that holds
    a part of the state is incomplete and reported as usual.
    """

    def _load_from_state_dict(
        self,
        state_dict: Dict[str, Any],
        prefix: str,
        local_metadata: Dict[str, Any],
        strict: bool,
        missing_keys: List[str],
        unexpected_keys: List[str],
        error_msgs: List[str],
    ) -> None:
        if any(key.startswith(prefix) for key in state_dict):
            super()._load_from_state_dict(
                state_dict,
                prefix,
                local_metadata,
                strict,
                missing_keys,
                unexpected_keys,
                error_msgs,
            )


def check_choice(field: str, value: Any, choices: Collection[str]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f'{field}={value!r} is not supported; use one of {tuple(choices)}'
        )
