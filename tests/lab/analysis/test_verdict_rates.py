"""Error rates of verdicts, and crown and brim as the rings have them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from twins import load_tool

from u1_plugin.lab.analysis.error_rates import (
    Rate,
    profile_map,
    radius,
    rate,
    scenarios,
    verdict_of,
)
from u1_plugin.lab.analysis.verdicts import sombrero_tests
from u1_plugin.measure import EnergyAccumulator
from u1_plugin.measure.sombrero import (
    fit_sombrero,
    height_rows,
    heights,
    trough_ring,
)


def summary_of(mean_map: np.ndarray, n: int = 40, noise: float = 0.05):
    scatter = np.random.default_rng(0).normal(0, noise, (n, *mean_map.shape))
    total = EnergyAccumulator()
    total.update(torch.from_numpy(mean_map * (1 + scatter)))
    return total.summary()


@given(
    st.integers(0, 10**6),
    st.integers(3, 12),
    st.floats(0.1, 10),
    st.floats(-3, 3),
)
def test_heights_are_differences(seed, rings, scale, shift):
    """Neither a level nor a unit of its own changes what is high."""
    rng = np.random.default_rng(seed)
    place = np.sort(rng.uniform(0.05, 1, rings))
    pixels = rng.integers(1, 30, rings)
    profile = rng.uniform(0.5, 2, rings)
    trough = int(rng.integers(1, rings - 1))
    rows = height_rows(place, pixels, trough)
    np.testing.assert_allclose(rows.sum(1), 0, atol=1e-12)
    np.testing.assert_allclose(
        rows @ (scale * profile + shift), scale * (rows @ profile), atol=1e-9
    )
    # The rings about the axis are the crown's, the outermost the brim's.
    assert rows[0, 0] > 0 and rows[1, -1] > 0
    assert rows[0, trough] == rows[1, trough] == -1


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_the_trough_is_the_lowest_ring_within(a, b):
    place = np.linspace(0.1, 0.95, 10)
    trough = trough_ring(place, np.array([a, b, 1.0]))
    curve = a * place**4 - b * place**2
    assert 1 <= trough <= 8
    lowest = int(curve.argmin())
    assert abs(trough - min(max(lowest, 1), 8)) <= 1 or np.ptp(curve) < 1e-9


def test_a_narrow_peak_has_no_brim_though_its_fit_has():
    peak = 1 + np.exp(-(radius() ** 2) / (2 * 0.3**2))
    summary = summary_of(peak)
    fit = fit_sombrero(summary)
    assert fit.rim.low > 0  # the curve rises again
    found = heights(summary, fit)
    assert found.crown.low > 0.3 and found.brim.high < 0.05
    assert verdict_of(sombrero_tests(summary)) == 'not supported'


def test_a_bowl_has_no_crown_though_its_fit_has():
    summary = summary_of(1 + radius() ** 8, 400)
    fit = fit_sombrero(summary)
    assert fit.b.low > 0
    assert heights(summary, fit).crown.high < 0.05
    assert verdict_of(sombrero_tests(summary)) == 'not supported'


def test_planted_heights_are_found():
    truth = profile_map(0.5, 0.8)
    found = heights(summary_of(truth), fit_sombrero(summary_of(truth)))
    # Means over rings: below the peaks, and above half of them.
    scale = truth.mean()
    assert 0.25 < found.crown.value * scale < 0.5
    assert 0.2 < found.brim.value * scale < 0.8


def test_a_rate_is_a_share_of_the_runs():
    (flat,) = (s for s in scenarios(99) if (s.claim, s.truth) == ('C1', 'flat'))
    found = rate(flat._replace(n=30), 20, leasts=(1e-9,))
    assert set(found) == {None, 1e-9}
    for own in found.values():
        assert own.runs == 20 and 0 <= own.supported + own.refuted <= 1
        assert own.wrong == own.supported
    held = Rate(flat._replace(holds=True), 20, 0.25, 0.5)
    assert held.wrong == 0.5
    assert found == rate(flat._replace(n=30), 20, leasts=(1e-9,))


@pytest.mark.parametrize('number', range(len(scenarios())))
def test_verdicts_err_rarely(number):
    """Of 40 data sets: 5 % are 2, and 4 standard errors above them 7."""
    scenario = scenarios(99)[number]
    small = scenario._replace(n=min(scenario.n, 500))
    assert rate(small, 40)[None].wrong <= 7.5 / 40


def test_noise_refutes_no_sombrero():
    """The noise of few images hides the curve; it does not speak against it."""
    (noisy,) = (
        s
        for s in scenarios(99)
        if (s.truth, s.n) == ('crown, brim 0.5, noise 3', 20)
    )
    draws = [noisy.draw(np.random.default_rng(k), 20) for k in range(40)]
    low = [tests for tests in draws if tests[0].doubt]
    # Only the interval of a height may still refute it, and rarely does.
    assert len(low) > 20 and all(t[0].objection is None for t in low)
    assert rate(noisy, 40)[None].refuted <= 7.5 / 40


def test_what_holds_is_mostly_seen():
    for scenario in scenarios(99):
        noisy = scenario.truth.endswith('noise 3')
        few = noisy and (scenario.claim == 'C1' or scenario.n < 200)
        if scenario.holds and not few:
            assert rate(scenario, 20)[None].supported >= 0.6, scenario.truth


def test_a_low_sombrero_counts_only_without_a_least_effect():
    (low,) = (s for s in scenarios() if s.truth == 'crown, brim 0.02')
    found = rate(low._replace(n=3000), 8, leasts=(1e-9,))
    assert found[1e-9].supported > 0.5 and found[None].refuted == 1


def test_the_table():
    tool = load_tool('studies/verdict_rates.py')
    scenario = scenarios()[0]
    rows = [
        tool.row_of(scenario, least, Rate(scenario, 8, 0.125, 0.5))
        for least in (None, 1e-9, 0.02)
    ]
    assert [row['least effect'] for row in rows[1:]] == ['none', '0.02']
    assert rows[0]['undecided'] == 37.5 and rows[0]['wrong'] == 12.5
    text = tool.page(rows)
    line = f'| {scenario.claim} | {scenario.truth} | no | {scenario.n} |'
    assert f'{line} 12.5 | 50.0 | 37.5 | 12.5 |' in text
    assert f'{line} {tool.DEFAULTS["C1"]}: 12.5, none: 12.5, 0.02: 12.5' in text


def test_the_documents_tell_of_every_kind_of_data(root):
    text = (root / 'docs/analysis.md').read_text()
    for own in scenarios():
        holds = 'yes' if own.holds else 'no'
        assert f'| {own.claim} | {own.truth} | {holds} | {own.n} |' in text
