"""The laboratory's statistics against enumeration and other packages."""

import itertools
import math

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from scipy import stats
from strategies import (
    JUNK,
    by_holm,
    close,
    number,
    options,
    smooth,
    whole,
)

from u1_plugin import measure
from u1_plugin.lab import statistics
from u1_plugin.lab.analysis import judging, verdicts
from u1_plugin.lab.benchmark import arm_statistics as benchmark
from u1_plugin.lab.image_folders import split_indices
from u1_plugin.lab.subsets import few_shots, long_tail, noisy_labels

#: Accuracies in per cent of so many images: with ties, as they come.
IMAGES = st.sampled_from([7, 60, 359, 1000])


@st.composite
def accuracies(draw: st.DrawFn, most: int = 9):
    images, n = draw(IMAGES), draw(st.integers(0, most))
    counts = draw(
        st.lists(
            st.integers(images // 2, images // 2 + 3),
            min_size=2 * n,
            max_size=2 * n,
        )
    )
    values = 100 * np.array(counts, float) / images
    if draw(st.booleans()):  # as MMPretrain gives them
        values = values.astype(np.float32).astype(float)
    return images, np.array(counts[:n]) - np.array(counts[n:]), values


OTHERS = st.lists(
    st.floats(allow_nan=True) | st.floats(0, 100), max_size=6
) | st.lists(JUNK, max_size=3)


@fuzz('lab.statistics.exact_differences', case=accuracies())
def test_exact_differences(case):
    images, counts, values = case
    n = len(counts)
    found = attempt(
        lambda: statistics.exact_differences(values[:n], values[n:]),
        {} if n >= 2 else {'treated': values},
    )
    if found is not REFUSED:
        wanted = counts * 100 / images
        assert close(found.values * found.unit, wanted, 1e-6)
        # Equal differences of counts are equal, and opposite ones opposite.
        ranks = np.unique(counts, return_inverse=True)[1]
        assert (np.unique(found.values, return_inverse=True)[1] == ranks).all()


@fuzz(
    'lab.statistics: odd values',
    treated=OTHERS,
    control=OTHERS,
    name=st.sampled_from(['compare', 'paired_difference']),
)
def test_odd_values(treated, control, name):
    module = benchmark if name == 'compare' else statistics
    found = attempt(
        lambda: getattr(module, name)(treated, control),
        dict(treated=treated, control=control),
        either=True,
    )
    if found is not REFUSED:
        assert len(treated) == len(control) == found.n >= 2
        assert np.isfinite(np.array([*treated, *control], float)).all()
        assert not found.low > found.high


@fuzz(
    'lab.statistics.sign_flip_pvalue, signed_rank_pvalue',
    values=st.lists(st.integers(-4, 4), max_size=9),
)
def test_pvalues(values):
    values = np.array(values, int)
    signs = np.array(list(itertools.product([1, -1], repeat=len(values))))
    sums = abs(signs @ values)
    wanted = (sums >= abs(values.sum())).mean()
    found = attempt(lambda: statistics.sign_flip_pvalue(values))
    assert close(found, wanted, 1e-12)
    if not len(values):
        return
    ranks = stats.rankdata(abs(values)) * np.sign(values)
    wanted = (abs(signs @ ranks) >= abs(ranks.sum()) - 1e-9).mean()
    found = attempt(lambda: statistics.signed_rank_pvalue(values))
    assert close(found, wanted, 1e-12)


@fuzz(
    'lab.statistics.paired_difference',
    case=accuracies(),
    given=options(dict(confidence=number(0.5, 0.999, limit=0.999))),
)
def test_paired_difference(case, given):
    images, counts, values = case
    n, (chosen, wrong) = len(counts), given
    inside = isinstance(wrong.get('confidence'), float) and (
        0 < wrong['confidence'] < 1
    )
    found = attempt(
        lambda: statistics.paired_difference(values[:n], values[n:], **chosen),
        wrong if n >= 2 else {'treated': values, **wrong},
        either=inside,
    )
    if found is REFUSED:
        return
    differences = counts * 100 / images
    assert close(found.mean, differences.mean(), 1e-6)
    if np.ptp(counts):
        test = stats.ttest_1samp(differences, 0)
        level = float(chosen.get('confidence', 0.95))
        assert close(found.pvalue, test.pvalue, 1e-6)
        assert close(found.low, test.confidence_interval(level).low, 1e-6)


@fuzz('lab.benchmark.arm_statistics.compare', share=0.3, case=accuracies())
def test_compare(case):
    images, counts, values = case
    n = len(counts)
    found = attempt(
        lambda: benchmark.compare(values[:n], values[n:]),
        {} if n >= 2 else {'treated': values},
    )
    if found is REFUSED:
        return
    differences = counts * 100 / images
    assert close(found.mean, differences.mean(), 1e-6)
    assert close(found.permutation, statistics.sign_flip_pvalue(counts), 1e-9)
    assert close(found.wilcoxon, statistics.signed_rank_pvalue(counts), 1e-9)
    if np.ptp(counts):
        assert found.low <= found.mean <= found.high
        assert close(found.sd, differences.std(ddof=1), 1e-6)


@fuzz(
    'lab.benchmark.arm_statistics.holm',
    pvalues=st.dictionaries(
        st.text(max_size=3), st.floats(0, 1) | st.just(math.nan), max_size=6
    ),
)
def test_holm(pvalues):
    found = attempt(lambda: benchmark.holm(pvalues))
    assert list(found) == list(pvalues)
    known = {k: p for k, p in pvalues.items() if not math.isnan(p)}
    if known:
        wanted = by_holm(list(known.values()))
        assert close([found[name] for name in known], wanted, 1e-9)


POWER = dict(
    sd=number(0, 9),
    gain=number(0.1, 9, open_low=True)._replace(
        is_right=number(0, 9, open_low=True).is_right
    ),
    alpha=number(0.01, 0.2)._replace(is_right=lambda v: _inside(v, 0.8)),
)


def _inside(value, high: float = 1) -> bool:
    return isinstance(value, (float, np.floating)) and 0 < value < high


@fuzz(
    'lab.benchmark.arm_statistics.seeds_needed, detectable_gain',
    share=0.5,
    case=options(POWER, ('sd', 'gain')),
    n=whole(2, 30).right,
)
def test_power(case, n):
    given, wrong = case
    needed = attempt(lambda: benchmark.seeds_needed(**given), wrong)
    if needed is not REFUSED:
        assert needed >= 2
    given.pop('gain')
    wrong = {k: v for k, v in wrong.items() if k != 'gain'}
    found = attempt(lambda: benchmark.detectable_gain(n=n, **given), wrong)
    if found is not REFUSED:
        assert found >= 0


@fuzz(
    'lab.analysis.verdicts',
    share=0.5,
    maps=smooth(st.integers(1, 40), 5, 5),
    alpha=number(0.01, 0.2).right | JUNK,
)
def test_verdicts(maps, alpha):
    found = measure.EnergyAccumulator()
    found.update(maps.square().double())
    summary = found.summary()
    tests = attempt(
        lambda: (
            verdicts.concentration_tests(summary)
            + verdicts.sombrero_tests(summary)
        )
    )
    right = _inside(alpha)
    findings = attempt(
        lambda: judging.judge(dict(layer=tests), alpha),
        {} if right else dict(alpha=alpha),
    )
    if findings is REFUSED:
        return
    for finding in findings:
        few = len(maps) < verdicts.MIN_IMAGES
        assert finding.verdict == 'undecided' or not few
        estimate = finding.test.estimate
        if finding.verdict == 'supported':
            assert finding.corrected < alpha and estimate.value > 0


LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=40).map(np.array)


@fuzz(
    'lab.image_folders.split_indices',
    labels=LABELS,
    seed=st.integers(0, 9) | JUNK,
)
def test_split_indices(labels, seed):
    counts = np.unique(labels, return_counts=True)[1]
    right = whole(0, 9, 2**32 - 1).is_right(seed) and counts.min() >= 10
    found = attempt(
        lambda: split_indices(labels, seed),
        {} if right else dict(seed=seed, labels=labels),
        either=whole(0, 9, 2**32 - 1).is_right(seed),
    )
    if found is not REFUSED:
        together = np.sort(np.concatenate(list(found.values())))
        assert (together == np.arange(len(labels))).all()


@fuzz(
    'lab.subsets: few_shots, long_tail, noisy_labels',
    labels=LABELS,
    shots=st.integers(1, 9),
    imbalance=st.floats(1, 1000),
    rate=st.floats(0, 1),
    seed=st.integers(0, 9),
)
def test_subsets(labels, shots, imbalance, rate, seed):
    rng = np.random.default_rng(seed)
    names, counts = np.unique(labels, return_counts=True)
    right = counts.min() >= shots
    chosen = attempt(
        lambda: few_shots(labels, shots, rng),
        {} if right else dict(shots=shots),
    )
    if chosen is not REFUSED:
        assert (np.unique(labels[chosen], return_counts=True)[1] == shots).all()
    tail = attempt(lambda: long_tail(labels, imbalance, rng, 5))
    left = np.array([(labels[tail] == name).sum() for name in names])
    wanted = counts * imbalance ** (-names / 4)
    assert (abs(left - np.maximum(wanted, 1)) <= 0.5 + 1e-9).all()
    noisy = attempt(lambda: noisy_labels(labels, rate, 5, rng))
    assert (noisy != labels).sum() == round(rate * len(labels))
    assert ((noisy >= 0) & (noisy < 5)).all()


@fuzz(
    'lab.statistics.interval_text',
    values=st.tuples(*[st.floats(width=32)] * 3),
)
def test_interval_text(values):
    found = attempt(lambda: statistics.interval_text(*values))
    assert '[' in found and str(torch.tensor(0)) not in found
