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
    whole_rounds,
)

Z = stats.norm.ppf(0.975)


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


def test_classes_too_small_for_a_round_are_named():
    with pytest.raises(ValueError, match='class 1 has 4 images.* takes 5 of'):
        split_images(np.array([0] * 9 + [1] * 4), 0)


def test_rounds_test_all_images_equally_often():
    assert [n for n in range(1, 21) if whole_rounds(n)] == [
        *(1, 2, 3, 4, 5, 10, 15, 20)
    ]


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
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200)
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
    # Agresti and Min (2005), section 3: half an image in each of four cells.
    n = len(pairs) + 2
    gap = (gained - lost) / n
    half = Z * math.sqrt(((gained + lost + 1) / n - gap**2) / n)
    assert found.low == pytest.approx(100 * max(-1, gap - half))
    assert found.high == pytest.approx(100 * min(1, gap + half))


@pytest.mark.parametrize(
    'n, gain, loss', [(200, 0.01, 0.005), (300, 0.007, 0.002), (60, 0.1, 0.05)]
)
def test_the_interval_holds_the_truth_where_few_images_differ(n, gain, loss):
    rng, hits = np.random.default_rng(n), []
    for _ in range(2000):
        kind = rng.choice(3, n, p=[gain, loss, 1 - gain - loss])
        found = image_difference(100.0 * (kind == 0), 100.0 * (kind == 1))
        truth = 100 * (gain - loss)
        hits.append((found.low <= truth, truth <= found.high))
    assert (np.mean(hits, 0) > 0.96).all()


def test_thirds_of_an_image_are_counted_as_thirds():
    splits = [
        Split(
            np.arange(60), dict(a=np.arange(60) < 58, b=np.arange(60) < n), {}
        )
        for n in (8, 58, 58)
    ]
    scores = image_scores(splits)
    found = image_difference(scores['a'], scores['b'])
    assert (found.gained, found.lost) == (50, 0)
    assert found.pvalue == pytest.approx(2 / 2**50)


def test_ends_of_the_interval_are_differences_of_accuracies():
    found = image_difference(np.full(3, 100.0), np.zeros(3))
    assert found.mean == found.high == 100 and 0 < found.low < 100


def test_arms_that_agree_differ_by_little():
    same = np.full(300, 50.0)
    found = image_difference(same, same)
    assert found.mean == 0 and found.pvalue == 1
    assert found.high == -found.low == pytest.approx(Z * 100 / 302)


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


@pytest.mark.parametrize('sizes', [(3, 4), (0, 0)])
def test_arms_of_other_images_are_refused(sizes):
    with pytest.raises(ValueError, match='arms have scores of'):
        image_difference(*map(np.zeros, sizes))
