"""Values of right and wrong kinds, for options and tensors."""

import math
from typing import Any, Callable, Dict, NamedTuple, Tuple

import numpy as np
import torch
from hypothesis import strategies as st

from u1_plugin.memory import MemoryBank, Pixels

_ODD = st.sampled_from(
    [
        *(None, True, False, '', '3', 'nan', 'relu', '../x', b'1', 'a\n$_&<b>'),
        *(math.nan, math.inf, -math.inf, -1, 0, -0.0, 0.5, 1.5, -3.7, 1j),
        *(2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, 1e-320),
        *([], [1], (), (0, 1), {}, {'type': 'X'}, {1}, range(3), object()),
        *(np.float32(2.5), np.int64(-3), np.bool_(True), np.float64('nan')),
        *(np.array([1, 2]), torch.tensor(-1.0), torch.float32, int, len),
    ]
)
#: What a user may put in the place of any option.
JUNK = (
    _ODD
    | st.text(max_size=5)
    | st.floats()
    | st.integers()
    | st.lists(st.integers(-2, 5) | st.text(max_size=2), max_size=3)
)


class Kind(NamedTuple):
    """Of an option: which values are right, and examples of these."""

    is_right: Callable[[Any], bool]
    right: st.SearchStrategy

    @property
    def wrong(self) -> st.SearchStrategy:
        return JUNK.filter(lambda value: not self.is_right(value))


def _is_int(value: Any) -> bool:
    number = isinstance(value, (int, np.integer))
    return number and not isinstance(value, bool)


def _is_float(value: Any) -> bool:
    if not (_is_int(value) or isinstance(value, (float, np.floating))):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def whole(low: int, high: int, limit: int = 2**31 - 1) -> Kind:
    """Integers from ``low``; examples are at most ``high``."""
    right = st.integers(low, high)
    right |= right.map(np.int64)
    return Kind(lambda v: _is_int(v) and low <= v <= limit, right)


def number(low: float, high: float, open_low: bool = False, **most) -> Kind:
    """Finite numbers from ``low``; examples are at most ``high``."""
    limit = most.get('limit', math.inf)

    def is_right(value: Any) -> bool:
        inside = _is_float(value) and low <= value <= limit
        return inside and not (open_low and value <= low)

    right = st.floats(low, high, exclude_min=open_low)
    right |= right.map(np.float32)
    if math.ceil(low) <= high:
        right |= st.integers(math.ceil(low), int(high))
    return Kind(is_right, right.filter(is_right))


def choice(*names: str) -> Kind:
    return Kind(
        lambda v: isinstance(v, str) and v in names, st.sampled_from(names)
    )


def optional(kind: Kind) -> Kind:
    return Kind(lambda v: v is None or kind.is_right(v), st.none() | kind.right)


def of_one_layer(kind: Kind) -> Kind:
    """None, one value, or a list of the one for the only layer."""

    def is_right(value: Any) -> bool:
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        return value is None or kind.is_right(value)

    right = st.none() | kind.right
    return Kind(is_right, right | right.filter(bool).map(lambda v: [v]))


SEED = whole(0, 99, 2**32 - 1)
COUNT = whole(1, 9)
SWITCH = Kind(lambda v: isinstance(v, bool), st.booleans())
FINITE = number(-1e6, 1e6)._replace(is_right=_is_float)
NON_NEGATIVE = number(0, 50)
POSITIVE = number(0, 50, open_low=True)
SHARE = number(0, 1, open_low=True, limit=1)


@st.composite
def options(
    draw: st.DrawFn, kinds: Dict[str, Kind], needed: Tuple[str, ...] = ()
) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Options, and those of them that are wrong: none, or one.

    Args:
        kinds (Dict[str, Kind]): By name.
        needed (Tuple[str, ...]): Names that have no default.
    """
    names = [n for n in kinds if n in needed or draw(st.booleans())]
    chosen = {name: draw(kinds[name].right) for name in names}
    wrong: Dict[str, Any] = {}
    if names and draw(st.booleans()):
        name = draw(st.sampled_from(names))
        chosen[name] = wrong[name] = draw(kinds[name].wrong)
    return chosen, wrong


SIZES = st.integers(1, 5)
#: With NaN and infinities, denormal numbers and those whose squares overflow.
ANY_FLOAT = st.floats(width=32)
USUAL = st.floats(-100, 100, width=32)
FLOATING = st.sampled_from(
    [torch.float32, torch.float64, torch.float16, torch.bfloat16]
)


@st.composite
def tensors(
    draw: st.DrawFn,
    *shape,
    values: st.SearchStrategy = USUAL,
    dtype: Any = torch.float32,
) -> torch.Tensor:
    """A tensor; sizes and dtype may be strategies."""
    size = [draw(n) if isinstance(n, st.SearchStrategy) else n for n in shape]
    if isinstance(dtype, st.SearchStrategy):
        dtype = draw(dtype)
    count = math.prod(size)
    # A few values in random places: long lists of floats are slow to draw.
    pool = draw(st.lists(values, min_size=1, max_size=8))
    seed = draw(st.integers(0, 2**16))
    places = np.random.default_rng(seed).integers(0, len(pool), count)
    found = torch.tensor(pool, dtype=torch.float64)[torch.from_numpy(places)]
    return found.to(dtype).reshape(size)


def smooth(*shape, dtype: Any = torch.float32) -> st.SearchStrategy:
    """Normal random numbers: no ties, nothing degenerate."""

    def make(seed: int, size: tuple) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(size, generator=generator, dtype=dtype)

    sizes = [
        n if isinstance(n, st.SearchStrategy) else st.just(n) for n in shape
    ]
    return st.builds(make, st.integers(0, 2**16), st.tuples(*sizes))


ODD_TENSORS = st.sampled_from(
    [
        *(torch.zeros(0), torch.zeros(0, 2), torch.tensor(1.0), torch.ones(1)),
        *(torch.ones(3, 2).int(), torch.ones(2, 2).bool(), torch.ones(2, 3, 4)),
        *(torch.ones(2, 2, dtype=torch.complex64), torch.ones(1, 1, 1, 1, 1)),
    ]
)
NOT_TENSORS = st.sampled_from([None, 1.0, 'a', [1.0, 2.0], np.ones(2)])


def _array(values: Any) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().double().numpy()
    return np.asarray(values, float)


def close(found: Any, wanted: Any, error: float = 1e-4) -> bool:
    """Equal up to a share of the largest entry; NaN is like NaN."""
    found, wanted = _array(found), _array(wanted)
    if found.shape != wanted.shape:
        return False
    finite = wanted[np.isfinite(wanted)]
    scale = 1 + (abs(finite).max() if finite.size else 0)
    return np.allclose(found, wanted, 0, error * scale, equal_nan=True)


def turned(first: Any, second: Any, error: float = 1e-3) -> bool:
    """Whether two angles are the same modulo 2 pi."""
    apart = np.exp(1j * (_array(first) - _array(second)))
    return bool((abs(np.angle(apart)) < error).all())


def by_holm(pvalues: Any) -> np.ndarray:
    """Holm's correction, by its definition."""
    pvalues = np.asarray(pvalues, float)
    found, largest = np.empty(len(pvalues)), 0.0
    for done, place in enumerate(np.argsort(pvalues, kind='stable')):
        own = pvalues[place] * (len(pvalues) - done)
        found[place] = largest = min(1.0, max(largest, own))
    return found


#: Of few different values, so that there are ties and doubles.
VECTORS = tensors(st.integers(1, 12), 4, values=st.sampled_from([0, 1, 2, 5]))


def pixels_of(vectors: torch.Tensor, classes: int = 3) -> Pixels:
    n = len(vectors)
    generator = torch.Generator().manual_seed(n)
    return Pixels(
        vectors,
        torch.arange(n) % classes,
        torch.arange(n) // 2,
        torch.rand(n, 2, generator=generator) - 0.5,
        torch.rand(n, generator=generator),
    )


def bank_of(vectors: torch.Tensor, dtype: str = 'float32') -> MemoryBank:
    bank = MemoryBank(dtype)
    half = len(vectors) // 2
    for part in (slice(None, half), slice(half, None)):
        bank.append(pixels_of(vectors).select(part))
    return bank
