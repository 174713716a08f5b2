"""Search engines as typed configs, and the short forms of their names."""

import difflib
import typing
from typing import Any, Dict, Mapping, NamedTuple, Optional, Type, Union

from ..options import Count, Share, check, shown
from .device_copy import device_of
from .scores import ScoreDtype


class ExactEngine(NamedTuple):
    """``dict(type='exact')``: the k nearest, by float64.

    Attributes:
        dtype (str): Of the products that rank pixels before float64 decides:
            ``'float32'``, ``'float16'`` or ``'bfloat16'``. The answer is the
            same; narrow ones pay where the hardware multiplies them faster.
        device (str, optional): Of torch, such as ``'cuda'``: it searches there
            and keeps the vectors there, as far as they fit; what does not is
            streamed. None searches where the queries are, and keeps nothing.
    """

    dtype: ScoreDtype = 'float32'
    device: Optional[str] = None

    def __str__(self) -> str:
        narrow = '' if self.dtype == 'float32' else f', {self.dtype} scores'
        return f'exact{narrow}' + f' on {self.device}' * bool(self.device)


class FaissEngine(NamedTuple):
    """``dict(type='faiss', factory='IVF1024,Flat', nprobe=16)``.

    Attributes:
        factory (str): See faiss' index factory.
        nprobe (int, optional): Cells that an index with cells (IVF) visits.
        recall (float, optional): Share of the k nearest that it must find, in
            (0, 1]; the least nprobe that does is taken when the index is
            built. Without either, 0.95 is tried.
    """

    factory: str
    nprobe: Optional[Count] = None
    recall: Optional[Share] = None

    def __str__(self) -> str:
        return f'faiss {self.factory}'


Engine = Union[ExactEngine, FaissEngine]
_TYPES: Dict[str, Type[Engine]] = dict(exact=ExactEngine, faiss=FaissEngine)
_FORMS = (
    "'exact', 'faiss:FACTORY' such as 'faiss:HNSW32', or a dict such as "
    "dict(type='faiss', factory='IVF1024,Flat', nprobe=16)"
)


def _joined(value: Any) -> Any:
    """MMEngine's command line makes lists of what commas separate."""
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(part, str) for part in value):
            return ','.join(value)
    return value


def engine_options(engine: Any, name: str = 'engine') -> Dict[str, Any]:
    """An engine's config as a dict, whose values are not looked at.

    Args:
        engine: The dict itself, or a short form: ``'exact'``, or ``'faiss:'``
            and a factory string.
        name (str): What the user calls it, for messages.

    Returns:
        dict: With ``type``, if the config has one.

    Raises:
        ValueError: If it is neither.
    """
    if isinstance(engine, (ExactEngine, FaissEngine)):
        types = {kind: type_ for type_, kind in _TYPES.items()}
        return dict(type=types[type(engine)], **engine._asdict())
    if isinstance(engine, Mapping):
        return dict(engine)
    text = _joined(engine)
    if text == 'exact' and isinstance(text, str):
        return dict(type='exact')
    if isinstance(text, str) and text.startswith('faiss:'):
        factory = text[len('faiss:') :]
        if factory:
            return dict(type='faiss', factory=factory)
    raise ValueError(f'{name}={shown(engine)} must be {_FORMS}')


def parse_engine(engine: Any, name: str = 'engine') -> Engine:
    """An engine's config, checked as far as faiss is not needed for it.

    Args:
        engine: See :func:`engine_options`; or what this function gave.
        name (str): What the user calls it, for messages.

    Raises:
        ValueError: If an option is unknown, missing, out of its range or
            contradicts another; the message names it.
    """
    options = engine_options(engine, name)
    if 'type' not in options:
        raise ValueError(
            f'{name}={shown(engine)} has no type; {name}.type must be '
            f'{" or ".join(map(repr, _TYPES))}'
        )
    type_ = options.pop('type')
    if not isinstance(type_, str) or type_ not in _TYPES:
        raise ValueError(
            f'{name}.type={shown(type_)} must be '
            f'{" or ".join(map(repr, _TYPES))}'
        )
    kind = _TYPES[type_]
    hints = typing.get_type_hints(kind, include_extras=True)
    for key, value in options.items():
        if key not in hints:
            raise ValueError(_unknown(name, key, value, type_))
        if key == 'factory':
            value = _joined(value)
        options[key] = check(f'{name}.{key}', value, hints[key])
    if kind is FaissEngine:
        _check_faiss(options, name)
    elif options.get('device') is not None:
        device_of(options['device'], f'{name}.device')
    return kind(**options)


def _unknown(name: str, key: Any, value: Any, type_: str) -> str:
    own = list(_TYPES[type_]._fields)
    others = [t for t, kind in _TYPES.items() if key in kind._fields]
    close = difflib.get_close_matches(str(key), own, 1)
    remedy = f'it has {own}'
    if others:
        remedy = f'set {name}.type={others[0]!r}, or leave it out'
    elif close:
        remedy = f'do you mean {close[0]}?'
    return (
        f'{name}.{key}={shown(value)} is no option of {name}.type={type_!r}; '
        f'{remedy}'
    )


def _check_faiss(options: Mapping[str, Any], name: str) -> None:
    if not options.get('factory'):
        raise ValueError(
            f'{name}.factory={shown(options.get("factory"))} must be a string '
            "of faiss' index factory, such as 'IVF1024,Flat'"
        )
    nprobe, recall = options.get('nprobe'), options.get('recall')
    if None not in (nprobe, recall):
        raise ValueError(
            f'{name}.recall={recall} chooses nprobe, but {name}.nprobe='
            f'{nprobe} is given as well; leave one of them out'
        )
