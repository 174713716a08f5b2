"""Options are checked against the annotations that name them."""

import math
from fractions import Fraction
from typing import (
    Any,
    Callable,
    List,
    Literal,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.options import (
    Count,
    Finite,
    Index,
    NonNegative,
    Positive,
    Range,
    Seed,
    Share,
    check,
    checked,
    describe_hint,
    fits,
    shown,
)


class Head:
    @checked('head')
    def __init__(
        self,
        num_classes: Count,
        kappa: NonNegative = 0.0,
        width: Optional[Positive] = None,
        mode: Literal['pixel', 'pooled'] = 'pixel',
        windings: Sequence[Index] = (1,),
        free: Any = None,
        untyped=None,
    ) -> None:
        self.num_classes, self.kappa = num_classes, kappa


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(num_classes='3'), "head.num_classes='3' must be an integer >= 1"),
        (dict(num_classes=0), 'head.num_classes=0 must be an integer >= 1'),
        (dict(num_classes=True), 'head.num_classes=True must be'),
        (dict(num_classes=2.0), 'head.num_classes=2.0 must be an integer'),
        (dict(kappa=math.nan), 'head.kappa=nan must be a finite number >= 0'),
        (dict(kappa=math.inf), 'head.kappa=inf must be a finite number >= 0'),
        (dict(kappa=-1), 'head.kappa=-1 must be'),
        (dict(kappa=10**400), 'head.kappa=1'),
        (dict(width=0), 'head.width=0 must be a finite number > 0 or None'),
        (dict(mode='Pixel'), "must be 'pixel' or 'pooled'"),
        (dict(mode=['pixel']), "must be 'pixel' or 'pooled'"),
        (dict(mode=np.zeros(2)), "must be 'pixel' or 'pooled'"),
        (dict(windings='12'), "head.windings='12' must be a list, each an"),
        (dict(windings=[1, 2.5]), 'head.windings='),
    ],
)
def test_a_wrong_option_is_named_with_its_value_and_what_is_allowed(
    options, message
):
    with pytest.raises(ValueError) as caught:
        Head(**{'num_classes': 10, **options})
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_an_unknown_option_gets_a_remedy():
    with pytest.raises(TypeError, match='head has no option kapa=1; .* kappa?'):
        Head(10, kapa=1)
    with pytest.raises(TypeError, match=r'head has no option q=1; it has \['):
        Head(10, q=1)
    with pytest.raises(TypeError, match="head: missing .*'num_classes'"):
        Head()


def test_right_options_arrive_unchanged():
    head = Head(np.int64(3), kappa=np.float32(0.5), free=object(), untyped=Head)
    assert head.num_classes == 3 and head.kappa == 0.5
    assert Head(10, width=None, windings=[1, 2]).kappa == 0.0


@pytest.mark.parametrize(
    'hint, right, wrong',
    [
        (Count, [1, 2**31 - 1], [0, 2**31, 1.0, None, '1', False]),
        (Seed, [0, 2**32 - 1], [-1, 2**32]),
        (Share, [1, 0.1, 1e-300], [0, 1.1, -1, math.nan]),
        (Finite, [0, -1e308, 3], [math.inf, -math.inf, 1j, '1', None]),
        (bool, [True, False], [0, 1, 'True', None]),
        (str, ['', 'a'], [b'a', None, 1]),
        (Literal[1, 'a'], [1, 'a'], [True, 1.0, 'b']),
        (Optional[str], [None, 'a'], [1]),
        (Union[Count, str], [1, 'a'], [0, None, 1.5]),
        (Tuple[int, int], [(1, 2), [3, 4]], [(1,), (1, 2, 3), (1, 'a'), 1]),
        (Tuple[int, ...], [(), (1,), [1, 2, 3]], [('a',), 'ab', 1]),
        (List[str], [[], ['a']], [[1], 'a', {'a'}]),
        (list, [[1, 'a']], ['a', 1]),
        (Mapping[str, Count], [{}, {'a': 1}], [{'a': 0}, {1: 1}, [], None]),
        (dict, [{}, {1: 2}], [[], None]),
        (type, [int, Head], ['int', 3]),
        (Callable, [len, Head], [1, 'len']),
        (Callable[[int], int], [len], [1]),
        (torch.nn.Module, [torch.nn.ReLU()], [torch.nn.ReLU, 1]),
        (Any, [1, None, object()], []),
    ],
)
def test_what_fits_an_annotation(hint, right, wrong):
    assert [v for v in right if not fits(v, hint)] == []
    assert [v for v in wrong if fits(v, hint)] == []
    assert describe_hint(hint)


@given(
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.floats(allow_nan=False),
    st.booleans(),
    st.booleans(),
)
def test_a_range_holds_what_lies_between_its_ends(
    low, high, value, low_open, high_open
):
    inside = low < value < high
    inside |= value == low and not low_open and (low < high or not high_open)
    inside |= value == high and not high_open and (low < high or not low_open)
    assert (value in Range(low, high, low_open, high_open)) == (
        inside and low <= high
    )


def test_the_words_name_the_ends():
    assert describe_hint(Seed) == 'an integer >= 0 and <= 4294967295'
    assert describe_hint(type) == 'a class'
    assert describe_hint(Share) == 'a finite number > 0 and <= 1'
    assert describe_hint(Optional[Count]) == 'an integer >= 1 or None'
    assert describe_hint(Tuple[int, str]) == 'a list of 2: an integer, a string'
    assert describe_hint(Mapping[str, Count]) == (
        'a dict, each key a string, each value an integer >= 1'
    )


@given(st.text(max_size=300) | st.lists(st.integers()))
def test_a_value_is_shown_on_one_short_line(value):
    text = shown(value)
    assert len(text) <= 300 and '\n' not in text


def test_a_signature_stays_readable():
    import inspect

    assert list(inspect.signature(Head).parameters)[:2] == [
        'num_classes',
        'kappa',
    ]


@checked()
def echo(
    number: Finite = 0,
    numbers: Sequence[Finite] = (),
    whole: Union[None, int, Sequence[Sequence[int]]] = None,
    free: Any = None,
    *rest,
    **more,
) -> tuple:
    return number, numbers, whole, free, rest, more


def test_numbers_of_numpy_arrive_as_pythons():
    number, several, whole, *_ = echo(
        np.float32(0.5), [np.int64(1), 2.5], whole=((np.uint8(3),),)
    )
    assert type(number) is float and number == 0.5
    assert several == [1, 2.5] and type(several[0]) is int
    assert whole == ((3,),) and type(whole[0][0]) is int
    assert type(echo(np.int64(7))[0]) is int
    assert type(echo(Fraction(1, 4))[0]) is float
    assert type(echo(free=np.float64(0.5))[3]) is float


def test_what_is_no_number_of_numpy_is_the_very_thing():
    given = [1, 2.5]
    array, switch = np.ones(2), np.bool_(True)
    found = echo(1, given, None, [array], switch, more=switch)
    assert found[1] is given and found[3][0] is array
    assert found[4] == (switch,) and found[4][0] is switch
    assert found[5] == dict(more=switch)


@pytest.mark.parametrize('large', [2**63, -(2**64), 10**300])
def test_whole_numbers_beyond_torchs_are_floats(large):
    assert type(echo(large)[0]) is float and echo(large)[0] == float(large)
    assert type(echo(2**63 - 1)[0]) is int
    for whole in (echo(free=large)[3], echo(whole=large)[2]):
        assert type(whole) is int and whole == large


def test_one_value_is_checked_by_its_name():
    assert type(check('eps', np.float32(1), Positive)) is float
    with pytest.raises(ValueError, match='^a.eps=-1 must be a finite number'):
        check('a.eps', -1, Positive)
    with pytest.raises(ValueError, match='^a=1 must be a dict, .* anything$'):
        check('a', 1, Mapping[str, Any])
