"""Each image is tested once, and differences are of images."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from u1_plugin.lab.folds import (
    FOLDS,
    Split,
    accuracies,
    image_difference,
    image_scores,
    split_images,
)


def dealt(classes=3, each=7, rounds=2):
    labels = np.arange(classes * each) % classes
    return labels, [split_images(labels, s) for s in range(rounds * FOLDS)]


def test_a_round_tests_and_validates_every_image_once():
    labels, splits = dealt()
    for start in (0, FOLDS):
        for part in (1, 2):
            images = [splits[start + k][part] for k in range(FOLDS)]
            assert sorted(np.concatenate(images)) == list(range(len(labels)))
    for parts in splits:
        assert sorted(np.concatenate(parts)) == list(range(len(labels)))
        for part in parts:
            assert set(labels[part]) == {0, 1, 2}
            assert (np.diff(part) > 0).all()


def test_rounds_are_dealt_anew_and_the_same_again():
    labels, splits = dealt()
    tests = [set(split[2]) for split in splits]
    assert not any(own in tests[FOLDS:] for own in tests[:FOLDS])
    again = split_images(labels, 3)
    assert all(map(np.array_equal, again, splits[3]))


def test_parts_are_of_60_20_and_20_per_cent():
    for memory, val, test in dealt(4, 25, 1)[1]:
        assert (len(memory), len(val), len(test)) == (60, 20, 20)


def test_classes_too_small_for_three_parts_are_named():
    with pytest.raises(ValueError, match='a class has 4 images.*5'):
        split_images(np.array([0] * 9 + [1] * 4), 0)


def split_of(images, **right):
    arms = {arm: np.array(values, bool) for arm, values in right.items()}
    return Split(np.array(images), arms, {})


def test_scores_are_means_over_the_tests_of_an_image():
    splits = [
        split_of([4, 0], a=[1, 0], b=[1, 1]),
        split_of([2], a=[1], b=[0]),
        split_of([0, 2], a=[1, 1], b=[1, 0]),
    ]
    scores = image_scores(splits)  # of images 0, 2 and 4
    assert scores['a'].tolist() == [50, 100, 100]
    assert scores['b'].tolist() == [100, 0, 100]
    assert accuracies(splits) == dict(a=[50, 100, 100], b=[100, 0, 50])


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=200)
)
def test_the_difference_is_mcnemars_where_images_are_tested_once(pairs):
    own, other = (100.0 * np.array(side) for side in zip(*pairs))
    found = image_difference(own, other)
    gained, lost = int((own > other).sum()), int((own < other).sum())
    assert (found.n, found.gained, found.lost) == (len(pairs), gained, lost)
    assert found.mean == pytest.approx(100 * (gained - lost) / len(pairs))
    exact = 1.0
    if gained + lost:
        exact = stats.binomtest(gained, gained + lost).pvalue
    assert found.pvalue == pytest.approx(exact)
    if np.ptp(own - other):
        low, high = stats.ttest_rel(own, other).confidence_interval()
        assert (found.low, found.high) == pytest.approx((low, high))


def test_where_no_image_differs_from_another_there_is_no_interval():
    same, more = np.full(9, 50.0), np.full(9, 100.0)
    assert image_difference(same, same)[1:5] == (0, 0, 0, 1)
    found = image_difference(more, same)
    assert found.mean == 50 and math.isnan(found.low) and math.isnan(found.high)
    assert found.pvalue == 2 / 2**9


def test_images_that_were_tested_twice_count_once():
    """Twice the rounds are not twice the images."""
    rng = np.random.default_rng(0)
    rights = [
        {arm: rng.random(20) < p for arm, p in (('a', 0.8), ('b', 0.6))}
        for _ in range(4)
    ]
    once = [Split(np.arange(20), right, {}) for right in rights[:1]]
    often = [Split(np.arange(20), right, {}) for right in rights]
    for splits in (once, often):
        scores = image_scores(splits)
        assert image_difference(scores['a'], scores['b']).n == 20
    again = image_scores(once * 3)
    first = image_scores(once)
    assert image_difference(again['a'], again['b']) == pytest.approx(
        image_difference(first['a'], first['b'])
    )


@pytest.mark.parametrize('sizes', [(3, 4), (1, 1), (0, 0)])
def test_arms_of_other_images_are_refused(sizes):
    with pytest.raises(ValueError, match='arms have scores of'):
        image_difference(*map(np.zeros, sizes))
