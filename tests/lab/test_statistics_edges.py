"""Paired differences at the limits of floats, counts and draws."""

import math

import numpy as np
import pytest

from u1_plugin.lab.statistics import (
    _made_equal,
    exact_differences,
    interval_text,
    sign_flip_pvalue,
    signed_rank_pvalue,
)


def off_by(value: float, places: int, kind: type) -> float:
    """So many units of the last place above."""
    value = kind(value)
    for _ in range(places):
        value = np.nextafter(value, kind(np.inf))
    return float(value)


@pytest.mark.parametrize(
    'kind, places, are_counts',
    [
        *((np.float32, 1, True), (np.float32, 2, True), (np.float32, 3, False)),
        *((np.float64, 1, True), (np.float64, 16, True)),
        (np.float64, 17, False),
    ],
)
def test_last_places_that_per_cents_may_be_off_by(kind, places, are_counts):
    eighths = [off_by(value, places, kind) for value in (37.5, 62.5, 87.5)]
    found = exact_differences(eighths, [12.5, 25.0, 50.0])
    assert (found.values.dtype == np.int64) == are_counts
    assert (found.slack == 0) == are_counts
    if places == 1:
        assert found.unit == 12.5 and found.values.tolist() == [2, 3, 3]


@pytest.mark.parametrize(
    'images, top, kind, are_counts',
    [
        (10**6, 1, float, True),
        (10**6 + 1, 1, float, False),  # no number of images so great
        # Numbers up to 1024 of float32 may be off by 2^-13: by a quarter of
        # 1 in 204,800 images, which no longer tells their counts.
        (204_799, 10, np.float32, True),
        (204_800, 10, np.float32, False),
    ],
)
def test_counts_of_many_images_have_their_limits(images, top, kind, are_counts):
    counts = np.random.default_rng(0).integers(
        0.6 * top * images, top * images, (2, 20)
    )
    counts[0, 0] = 0.6 * top * images + 1  # with no common divisor
    treated, control = (100 * counts / images).astype(kind).astype(float)
    found = exact_differences(treated, control)
    assert (found.values.dtype == np.int64) == are_counts
    if are_counts:
        assert found.unit == 100 / images
        assert (found.values == counts[0] - counts[1]).all()


@pytest.mark.parametrize('largest', [1.7e308, 1.1, 3e-300])
def test_the_unit_of_floats_loses_no_digit_of_them(largest):
    treated = largest * np.array([1.0, -1.0, 0.3])
    found = exact_differences(treated, treated / math.pi)
    mantissa, _ = math.frexp(found.unit)
    assert mantissa == 0.5 and 1 <= largest / found.unit < 2
    expected = treated / found.unit - treated / math.pi / found.unit
    np.testing.assert_allclose(found.values, expected, rtol=1e-13)
    # Two sums may be off by 16 last places of each of their terms.
    places = np.spacing(abs(np.append(treated, treated / math.pi)))
    slack = 2 * 16 * sum(places / found.unit)
    assert found.slack == pytest.approx(slack, rel=1e-12, abs=0)


def test_moduli_no_farther_apart_than_the_slack_are_one():
    values = np.array([-0.5, 1.25, -1.75, 3.0])
    assert _made_equal(values, 0.5).tolist() == [0, 1.25, -1.25, 3]
    assert _made_equal(values, 0.49).tolist() == values.tolist()


def test_the_sum_itself_is_as_far_as_the_sum():
    values = np.array([1.0, 2.0, 4.0])  # sums 7, 5, 3 and 1, and below 0
    assert sign_flip_pvalue(values) == 2 / 8
    assert sign_flip_pvalue(values, slack=2) == 4 / 8
    assert sign_flip_pvalue(values, slack=7) == 1
    assert sign_flip_pvalue(np.array([1, -1])) == 1
    assert sign_flip_pvalue(np.array([3, 0, -1])) == 1 / 2 + 1 / 2


def test_flips_are_counted_up_to_40_and_drawn_beyond():
    assert sign_flip_pvalue(np.ones(40)) == 2 / 2**40
    assert sign_flip_pvalue(np.arange(1, 42)) == 1 / 2**16
    # Equal ones are a sign test's, which counts any number.
    assert sign_flip_pvalue(np.ones(41)) == 2 / 2**41
    assert sign_flip_pvalue(np.ones(3000)) > 0
    values = np.random.default_rng(0).integers(-5, 7, 60)
    for pvalue in (sign_flip_pvalue, signed_rank_pvalue):
        assert pvalue(values) == pvalue(values, seed=0)
        assert pvalue(values) != pvalue(values, seed=1)


def test_intervals_in_words():
    assert interval_text(0.2, -0.1, 0.504) == '+0.20 [-0.10, +0.50]'
    assert interval_text(-3, -4.06, 1, 1) == '-3.0 [-4.1, +1.0]'
    assert interval_text(0.25, math.nan, math.nan) == '+0.25 [no interval]'
