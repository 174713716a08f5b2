"""Severity of mistakes: by hand, and by the tree of the classes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from u1_plugin.lab.benchmark.severity import categories, severity

NAMES = ('food.fruit', 'food.sweet', 'sky.moon', 'sky.sun', 'sea.fish')
SHARE = 'mistakes that leave the category, %'
HEIGHT = 'mistake severity, mean height of the common ancestor'


def test_by_hand():
    labels = np.array([0, 0, 1, 2, 4, 3])
    # Right, within food, to the sky, within the sky, to the sea's, right.
    predicted = np.array([0, 1, 2, 3, 0, 3])
    found = severity(np.eye(5)[predicted], labels, NAMES)
    assert found == {SHARE: 50, HEIGHT: 1.5}
    none = severity(np.eye(5)[labels], labels, NAMES)
    assert math.isnan(none[SHARE]) and math.isnan(none[HEIGHT])


def ancestor(first: int, second: int) -> int:
    """Height of the lowest common ancestor, up from the leaves."""
    paths = [NAMES[k].split('.') for k in (first, second)]
    chains = [[tuple(p), tuple(p[:1]), ()] for p in paths]
    return next(h for h, node in enumerate(chains[0]) if node in chains[1])


@given(
    pairs=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30
    ).filter(lambda pairs: any(a != b for a, b in pairs)),
    order=st.permutations(range(5)),
)
def test_tree_and_renumbering(pairs, order):
    labels, predicted = np.array(pairs).T
    found = severity(np.eye(5)[predicted], labels, NAMES)
    heights = [ancestor(a, b) for a, b in pairs if a != b]
    assert found[HEIGHT] == pytest.approx(np.mean(heights))
    assert found[SHARE] == pytest.approx(100 * np.mean(np.array(heights) == 2))
    # Whichever class has which number.
    place = np.argsort(order)
    again = severity(
        np.eye(5)[place[predicted]], place[labels], [NAMES[k] for k in order]
    )
    assert again == found


@pytest.mark.parametrize(
    'names, message',
    [
        (('0', '1', '2'), "the class '0' is not named CATEGORY.SUBCATEGORY"),
        (('a.b', 'a.b.c', 'd.e'), r"'a\.b\.c' is not named"),
        (('a.b', 'a.', 'd.e'), r"'a\.' is not named"),
        (('a.b', '.c', 'd.e'), r"'\.c' is not named"),
        (('a.b', 'a.c'), '2 classes in 1 categories'),
        (('a.b', 'c.d'), '2 classes in 2 categories'),
        ((), '0 classes in 0 categories'),
        (None, '0 classes in 0 categories'),
    ],
)
def test_other_data_sets_are_refused(names, message):
    with pytest.raises(ValueError, match=f'--mistake-severity: .*{message}'):
        categories(names)


def test_one_name_a_class():
    with pytest.raises(ValueError, match='names has 5 classes, but logits 3'):
        severity(np.eye(3), np.arange(3), NAMES)


def test_outputs_are_looked_at():
    for logits, labels in (
        (np.full((2, 5), np.nan), [0, 1]),
        (np.eye(5)[:2], [0, 7]),
    ):
        with pytest.raises(ValueError, match='must be finite numbers'):
            severity(logits, np.array(labels), NAMES)
