"""Options of a memory's head that must fit each other, and its protocols."""

import functools
import inspect
import numbers
from typing import Any, Callable, Dict, Optional

from ..memory import ExactEngine, Kernel, Memory, MemoryBank, check_engine
from ..memory.coreset import check_sample
from ..memory.search import check_kernel
from ..nn.base import tell_unread
from ..options import shown

#: Votes that are known by a name, as options of the head. ``'dino'``: the
#: weighted k nearest neighbours of DINO (Caron et al., "Emerging Properties in
#: Self-Supervised Vision Transformers", ICCV 2021), which lightly has as well:
#: exp(s / T) of the cosine s of pooled vectors, summed by class.
PROTOCOLS: Dict[str, Dict[str, Any]] = dict(
    dino=dict(
        mode='pooled',
        k=20,
        metric='cosine',
        kernel='softmax',
        temperature=0.07,
        kappa=0.0,
        plane='image',
        prior_in='vote',
    )
)


def with_protocol(function: Callable) -> Callable:
    """Give a head's constructor the options of its ``protocol``.

    Raises:
        ValueError: From what it decorates: if an option beside the protocol
            is another than the protocol's; the message names every one.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(self, *args, **kwargs):
        names = list(signature.parameters)[1 : 1 + len(args)]
        options = {**dict(zip(names, args)), **kwargs}
        name = options.get('protocol')
        preset = PROTOCOLS.get(name, {}) if isinstance(name, str) else {}
        conflicts = {
            key: options[key]
            for key, value in preset.items()
            if key in options and not _same(options[key], value)
        }
        if conflicts:
            words = ', '.join(
                f'model.head.{k}={shown(v)}' for k, v in conflicts.items()
            )
            values = ', '.join(f'{key}={preset[key]!r}' for key in conflicts)
            raise ValueError(
                f'{words}: model.head.protocol={name!r} has {values}; take '
                'that, or leave the protocol out'
            )
        missing = {k: v for k, v in preset.items() if k not in options}
        return function(self, *args, **kwargs, **missing)

    return call


def _same(value: Any, preset: Any) -> bool:
    plain = isinstance(value, (str, numbers.Real)) and value is not True
    return plain and bool(value == preset)


def check_read(head: Any) -> None:
    """Look for options of a head that others of its options leave unread.

    Raises:
        ValueError: If ``keep`` or ``coreset_sample`` is one of them. Of those
            that always have a value (kappa, sigma, seed) a warning is logged.
    """
    if head.mode == 'pooled' and head.keep is not None:
        raise ValueError(
            f"model.head.keep={head.keep} chooses among an image's pixels, but "
            "model.head.mode='pooled' stores one vector an image; leave keep "
            "out, or set mode='pixel'"
        )
    if head.coreset_sample is not None:
        _check_sample(head.coreset_sample, head.coreset)
    of_place = head.plane in ('position', 'radius')
    remedy = f'model.head.plane={head.plane!r} takes '
    if of_place:
        tell_unread('model.head.kappa', head.kappa, 0, f'{remedy}sigma')
    else:
        tell_unread('model.head.sigma', head.sigma, 0.5, f'{remedy}kappa')
    if head.plane != 'shuffled' and head.coreset is None:
        remedy = "nothing is drawn without a coreset or plane='shuffled'"
        tell_unread('model.head.seed', head.seed, 0, remedy)


def _check_sample(sample: float, share: Optional[float]) -> None:
    if share is None:
        raise ValueError(
            f'model.head.coreset_sample={sample} is the share among which a '
            'coreset is chosen, and model.head.coreset=None chooses none; set '
            'model.head.coreset, or leave it out'
        )
    check_sample(sample, share, 'model.head.coreset_')


def check_vote(
    engine: Any,
    kernel: Kernel,
    metric: str,
    prior_in: str,
    channels: Optional[int],
) -> Any:
    """The engine's config, if what searches and votes of a head fits.

    Raises:
        ImportError: If the engine needs faiss, which is missing.
        ValueError: If an option is wrong or does not fit another; the message
            names it.
    """
    check_kernel(kernel, metric, 'model.head.')
    parsed = check_engine(engine, metric, channels, 'model.head.engine')
    exact = isinstance(parsed, ExactEngine)
    if prior_in == 'search' and (not exact or kernel.name == 'uniform'):
        width, temperature = map(kernel.options.get, ('width', 'temperature'))
        raise ValueError(
            f"model.head.prior_in='search' needs engine='exact' (is "
            f'{shown(engine)}) and a width (is {width}) or a temperature (is '
            f'{temperature}), by which distance and place are weighed against '
            'each other'
        )
    return parsed


def memory_of(bank: MemoryBank, *options: Any) -> Memory:
    """A memory, whose errors name the engine as the config does."""
    try:
        return Memory(bank, *options)
    except ValueError as error:
        if str(error).startswith('engine'):
            raise ValueError(f'model.head.{error}') from error
        raise
