"""Comparisons of arms: interval, exact tests, Holm, number of seeds."""

import itertools
import math
import warnings

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from u1_plugin.lab.benchmark.arm_statistics import (
    _generator,
    compare,
    detectable_gain,
    holm,
    paired_power,
    seeds_needed,
)


def test_permutation_p_counts_every_sign_flip():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 1, 8).round(2), rng.normal(0, 1, 8).round(2)
    d = a - b
    flips = np.array(list(itertools.product([1, -1], repeat=8)))
    means = abs((flips * d).mean(1))
    expected = np.mean(means >= abs(d.mean()) - 1e-12)
    result = compare(a, b)
    assert result.permutation == pytest.approx(expected)
    assert (result.n, result.mean) == (8, pytest.approx(d.mean()))
    assert result.sd == pytest.approx(np.std(d, ddof=1))


def test_permutation_p_counts_whole_images():
    # 100 * count / 360: of the sums of their floats half lose their ties.
    rng = np.random.default_rng(0)
    flips = np.array(list(itertools.product([1, -1], repeat=6)))
    for _ in range(20):
        base, change = rng.integers(340, 352, 6), rng.integers(-2, 5, 6)
        expected = np.mean(abs(flips @ change) >= abs(change.sum()))
        result = compare(100 * (base + change) / 360, 100 * base / 360)
        assert result.permutation == expected
        assert result.mean == pytest.approx(100 * change.mean() / 360)


def test_an_end_of_an_interval_at_no_image_is_zero():
    base = np.array([345, 347, 350, 344, 348])
    result = compare(100 * (base + [0, 0, 0, 0, 1]) / 360, 100 * base / 360)
    assert result.low == 0 and result.verdict == 'no effect here'


def test_all_pairs_of_one_sign_reach_the_smallest_p():
    result = compare([1.0, 2.0, 3.0, 4.5, 2.5], [0.0] * 5)
    assert result.permutation == pytest.approx(2 / 2**5)
    assert result.wilcoxon == pytest.approx(2 / 2**5)
    assert result.verdict == 'higher'
    assert compare([0.0] * 5, [1, 2, 3, 4.5, 2.5]).verdict == 'lower'


def test_interval_is_that_of_the_mean():
    d = np.random.default_rng(1).normal(5, 2, 200)
    result = compare(d, np.zeros(200))
    half = 1.96 * d.std(ddof=1) / math.sqrt(200)
    assert result.low == pytest.approx(d.mean() - half, abs=0.06)
    assert result.high == pytest.approx(d.mean() + half, abs=0.06)
    assert compare(d, np.zeros(200)) == result  # repeatable


def test_no_true_difference_is_rarely_called_one():
    rng = np.random.default_rng(2)
    results = [compare(rng.normal(0, 1, 10), np.zeros(10)) for _ in range(60)]
    # 5 % by the exact test; a bootstrap of ten values is a little narrow.
    assert np.mean([r.permutation <= 0.05 for r in results]) <= 0.12
    assert np.mean([r.verdict != 'no effect here' for r in results]) <= 0.2


@pytest.mark.parametrize(
    'difference, verdict, p',
    [(0.0, 'no effect here', 1), (0.3, 'higher', 1 / 8), (-2, 'lower', 1 / 8)],
)
def test_differences_without_a_spread(difference, verdict, p):
    base = np.array([90.1, 91.2, 92.3, 93.4])
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # of a bootstrap of equal numbers
        result = compare(base + difference, base)
    assert result.verdict == verdict and result.sd == 0
    assert result.mean == pytest.approx(difference)
    for end in (result.low, result.high):
        assert math.isnan(end) == (difference != 0)
    # Of 16 sign flips two are as far from 0.
    assert result.permutation == pytest.approx(p)


@pytest.mark.parametrize('n', [6, 7, 11])
def test_the_mean_of_equal_floats_has_no_rounding(n):
    base = np.random.default_rng(0).normal(0, 1, n)
    result = compare(base + 0.3, base)
    assert result.sd == 0 and math.isnan(result.low)


def test_per_cents_of_float32_tie_as_counts_do():
    rng = np.random.default_rng(3)
    counts = rng.integers(940, 960, (2, 10))
    exact = compare(*(counts / 10))
    stored = compare(*(counts / 10).astype(np.float32).astype(float))
    assert stored == exact


@pytest.mark.parametrize('pair', [([1], [2]), ([1, 2], [1, 2, 3])])
def test_too_few_pairs(pair):
    with pytest.raises(ValueError, match='at least 2 pairs'):
        compare(*pair)


def test_failed_runs_are_no_values():
    with pytest.raises(ValueError, match='leave out the seeds'):
        compare([1, math.nan, 2], [1, 2, 3])


def test_holm_by_hand():
    # Sorted .01 .02 .04: times 3, 2, 1, and never smaller than the one before.
    corrected = holm(dict(a=0.04, b=0.01, none=math.nan, c=0.02))
    assert list(corrected) == ['a', 'b', 'none', 'c']
    assert corrected['b'] == pytest.approx(0.03)
    assert corrected['c'] == pytest.approx(0.04)
    assert corrected['a'] == pytest.approx(0.04)
    assert math.isnan(corrected['none'])
    assert holm({}) == {}
    with pytest.raises(ValueError, match="pvalues={'a': 2} must be in"):
        holm(dict(a=2))


def test_seeds_needed_agrees_with_a_simulation():
    n = seeds_needed(sd=0.5, gain=0.4)
    rng = np.random.default_rng(3)
    d = rng.normal(0.4, 0.5, (4000, n))
    t = d.mean(1) / (d.std(1, ddof=1) / math.sqrt(n))
    from scipy.stats import t as student

    power = np.mean(abs(t) > student.ppf(0.975, n - 1))
    assert power == pytest.approx(0.8, abs=0.04) and power > 0.78
    assert detectable_gain(0.5, n) == pytest.approx(0.4, abs=0.03)


def test_seeds_needed_at_the_ends():
    assert seeds_needed(0.0, 0.2) == 2
    assert seeds_needed(0.01, 5) == 2
    # Large n: the normal approximation (1.96 + 0.8416)^2 (sd / gain)^2.
    assert seeds_needed(1, 0.02) == pytest.approx(19622, rel=1e-3)
    with pytest.raises(ValueError, match='gain=0 must'):
        seeds_needed(1, 0)


@pytest.mark.parametrize(
    'options', [dict(confidence=None), dict(confidence=1), dict(seed=-1)]
)
def test_options_of_a_comparison(options):
    (name,) = options
    for treated in ([1, 2], [0, 0]):  # the second needs neither
        with pytest.raises(ValueError, match=f'{name}=.* must be'):
            compare(treated, [0, 0], **options)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(sd=-1), 'sd=-1 must be a finite number >= 0'),
        (dict(sd=None), 'sd=None must'),
        (dict(alpha=0.8), 'alpha=0.8 must be a finite number > 0 and < 0.8'),
        (dict(alpha='0.05'), "alpha='0.05' must"),
        (dict(n=1), 'n=1 must be an integer >= 2'),
    ],
)
def test_what_has_no_power(options, message):
    with pytest.raises(ValueError, match=message):
        detectable_gain(**{'sd': 1, 'n': 5, **options})
    if 'n' not in options:
        with pytest.raises(ValueError, match=message):
            seeds_needed(**{'sd': 1, 'gain': 1, **options})


def test_what_no_number_of_pairs_shows():
    assert seeds_needed(5e-324, 1.0) == 2
    with pytest.raises(ValueError, match='gain=1e-12 is so small a part of sd'):
        seeds_needed(1.0, 1e-12)


@pytest.mark.parametrize('seed', [0, 5])
def test_the_interval_is_scipy_s(seed):
    d = np.random.default_rng(4).normal(1, 2, 9)
    expected = stats.bootstrap(
        (d,), np.mean, n_resamples=9999, **_generator(seed)
    ).confidence_interval
    result = compare(d, np.zeros(9), seed=seed)
    assert (result.low, result.high) == pytest.approx(tuple(expected), rel=1e-9)
    assert result.confidence == 0.95
    assert seed or result == compare(d, np.zeros(9))
    wide = compare(d, np.zeros(9), confidence=0.99, seed=seed)
    assert wide.low < result.low and result.high < wide.high


@pytest.mark.parametrize(
    'version, name',
    [
        ('1.9.3', 'random_state'),
        ('1.14.1', 'random_state'),
        ('1.15.0rc1', 'rng'),
        ('2.0.0', 'rng'),
    ],
)
def test_scipy_names_its_generators_anew(version, name, monkeypatch):
    monkeypatch.setattr('scipy.__version__', version)
    ((found, generator),) = _generator(7).items()
    expected = np.random.default_rng(7)
    assert found == name and generator.random() == expected.random()


def power_of(effect: float, n: int, alpha: float = 0.05) -> float:
    """Of the two-sided paired t test, by the noncentral t distribution."""
    edge, shift = stats.t.ppf(1 - alpha / 2, n - 1), effect * math.sqrt(n)
    law = stats.nct(n - 1, shift)
    return law.sf(edge) + law.cdf(-edge)


@pytest.mark.parametrize('alpha', [0.05, 0.1])
@pytest.mark.parametrize('n', [2, 3, 8, 9, 10, 11, 12, 40])
def test_no_fewer_pairs_are_enough(n, alpha):
    gain = detectable_gain(2.0, n, alpha)
    known = power_of(gain / 2, n, alpha)
    # Of far tails of the noncentral t some versions of scipy know nothing.
    assert math.isnan(known) or known == pytest.approx(0.8, abs=1e-5)
    assert seeds_needed(2.0, gain * 1.001, alpha) == n
    assert seeds_needed(2.0, gain * 0.999, alpha) == n + 1
    if alpha == 0.05:
        assert detectable_gain(2.0, n) == gain
        assert seeds_needed(2.0, gain * 1.001) == n


@pytest.mark.parametrize(
    'n, arms', [(2, 1), (2, 5), (3, 10), (4, 20), (5, 20), (10, 20)]
)
def test_few_pairs_have_the_power_that_a_simulation_has(n, arms):
    """Solvers of the noncentral t fail just where pilots are."""
    alpha = 0.05 / arms
    gain = detectable_gain(0.3, n, alpha=alpha)
    d = np.random.default_rng(n).normal(gain, 0.3, (100_000, n))
    t = d.mean(1) / (d.std(1, ddof=1) / math.sqrt(n))
    seen = np.mean(abs(t) > stats.t.isf(alpha / 2, n - 1))
    assert seen == pytest.approx(0.8, abs=0.006)  # four standard errors


@pytest.mark.parametrize('ratio', [0.3, 1.0, 2.0, 4.0, 6.0, 1e6])
@pytest.mark.parametrize('arms', [1, 10, 40])
def test_so_many_seeds_are_the_fewest(ratio, arms):
    n = seeds_needed(1.0, ratio, alpha=0.05 / arms)
    assert paired_power(ratio, n, 0.05 / arms) >= 0.8
    assert n == 2 or paired_power(ratio, n - 1, 0.05 / arms) < 0.8
    gain = detectable_gain(1.0, n, alpha=0.05 / arms)
    assert gain <= ratio * (1 + 1e-9)


def test_power_is_statsmodels_where_that_holds():
    known = TTestPower()
    for n in (10, 40, 200):
        for effect in (0.0, 0.1, 0.5):
            expected = known.power(effect, n, 0.01)
            found = paired_power(effect, n, 0.01)
            # Older scipy rounds the noncentral t's far tails, or has none.
            assert math.isnan(expected) or found == pytest.approx(
                expected, abs=1e-5
            )
            assert 0 <= found <= 1
