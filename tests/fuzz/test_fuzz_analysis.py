"""The analysis of bottlenecks: verdicts, controls and what figures draw."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    COUNT,
    JUNK,
    SEED,
    by_holm,
    close,
    options,
    smooth,
    tensors,
    whole,
)

from u1_plugin import measure
from u1_plugin.lab.analysis import (
    angle_figures,
    controls,
    drawing,
    energy_figures,
    judging,
    moment_controls,
    report_numbers,
    verdicts,
)
from u1_plugin.lab.analysis.layer import INPUT, LayerState
from u1_plugin.lab.analysis.survey import JUDGED, PLANES, Survey
from u1_plugin.measure import hue

ANY = st.floats(width=32)
VERDICTS = (judging.SUPPORTED, judging.REFUTED, judging.UNDECIDED)
CHANCE = st.floats(0, 1) | st.just(math.nan)


@st.composite
def one_test(draw: st.DrawFn) -> judging.ClaimTest:
    estimate = measure.Estimate(*[draw(ANY) for _ in range(3)], draw(CHANCE))
    least = draw(st.sampled_from([0.0, 0.01, 0.5, -math.inf]))
    obstacle, objection, doubt = (
        draw(st.none() | st.just('x')) for _ in range(3)
    )
    return judging.ClaimTest(
        'C1',
        'a',
        's',
        9,
        estimate,
        least,
        obstacle,
        objection,
        draw(st.booleans()),
        doubt,
        draw(st.none() | ANY),
    )


@fuzz(
    'lab.analysis.judging.judge, claim_verdict',
    tests=st.lists(st.lists(one_test(), max_size=3), max_size=3),
    alpha=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_judge(tests, alpha):
    by_layer = {str(number): own for number, own in enumerate(tests)}
    found = attempt(lambda: judging.judge(by_layer, alpha))
    flat = [test for own in tests for test in own]
    assert [finding.test for finding in found] == flat
    known = [
        f
        for f in found
        if not f.test.obstacle and not math.isnan(f.test.estimate.pvalue)
    ]
    pvalues = [f.test.estimate.pvalue for f in known]
    if known:
        assert close([f.corrected for f in known], by_holm(pvalues), 1e-9)
    for finding in found:
        assert finding.verdict in VERDICTS
        if finding.verdict == judging.SUPPORTED:
            assert finding in known and finding.corrected < alpha
            assert finding.test.size >= finding.test.least
            assert not finding.test.doubt
        drawing.show_estimate(finding.test.estimate)
        drawing.show_pvalue(finding.corrected)
    for row in attempt(lambda: report_numbers.verdict_table(found)):
        (claim,) = row['claims'].values()
        each = {finding.verdict for finding in claim['aspects']}
        held = claim['verdict'] == judging.SUPPORTED
        assert held == (each == {judging.SUPPORTED})


@fuzz(
    'lab.analysis.verdicts.angle_tests',
    share=0.5,
    moments=tensors(st.integers(1, 40), 4, values=st.floats(-9, 9)),
    classes=st.integers(1, 6),
    case=options(dict(permutations=whole(1, 30), seed=SEED)),
)
def test_angles(moments, classes, case):
    labels = torch.arange(len(moments)) % classes
    planes = {}
    for name, own in (('feature', moments[:, :2]), ('image', moments[:, 2:])):
        found = measure.AngleAccumulator(classes)
        found.update(own, labels)
        planes[name] = found.summary()
    given, wrong = case
    several = min((p.count > 0).sum() for p in planes.values()) >= 2
    tests = attempt(
        lambda: verdicts.angle_tests(planes, **given), wrong, either=not several
    )
    if tests is REFUSED:
        return
    assert len(tests) == 5
    for test in tests:
        assert test.n <= len(moments)
        assert math.isnan(test.estimate.pvalue) or 0 < test.estimate.pvalue <= 1


def _naive(first: np.ndarray, second: np.ndarray) -> float:
    """Fisher and Lee's, over all pairs of pairs."""
    a, b = (np.sin(t[:, None] - t) for t in (first, second))
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return (a * b).sum() / scale if scale > 1e-9 else 0.0


@fuzz(
    'measure.fisher_lee_correlation',
    share=0.5,
    angles=tensors(
        st.integers(0, 9), 2, values=st.floats(-4, 4) | st.just(math.nan)
    ),
    more=st.sampled_from([0] * 4 + [1]),
    case=options(
        dict(
            permutations=whole(1, 99),
            resamples=whole(2, 40),
            seed=SEED,
        )
    ),
)
def test_toroidal(angles, more, case):
    first, second = angles.double().numpy().T.copy()
    second = np.append(second, [0.0] * more)
    given, wrong = case
    found = attempt(
        lambda: measure.fisher_lee_correlation(first, second, **given),
        dict(wrong, second=second) if more else wrong,
    )
    if found is REFUSED:
        return
    known = ~np.isnan(first + second)
    if known.sum() < 4:
        assert math.isnan(found.value) and math.isnan(found.pvalue)
        return
    assert close(found.value, _naive(first[known], second[known]), 1e-4)
    assert 0 < found.pvalue <= 1 and found.low <= found.high


CLASSES = ('a', '$x$', '_b')


@st.composite
def surveys(draw: st.DrawFn, folder) -> Survey:
    """Of an input image and one layer, some of whose maps are 0 or NaN."""
    count = draw(st.integers(3, 9))
    states = [LayerState(INPUT, 'relu', count, folder)]
    states.append(LayerState('backbone.x', 'relu', count, folder))
    for state in states:
        maps = draw(smooth(count, 4, draw(st.integers(1, 6)), 5))
        value = draw(st.sampled_from([None, 0.0, math.nan, 1.0]))
        if value is not None:
            maps[: draw(st.integers(1, count))] = value
        state.update(maps, torch.arange(count))
    labels = np.arange(count) % draw(st.integers(1, 3))
    layers = [state.finish(labels, 3, tuple(PLANES)) for state in states]
    return Survey(layers, labels, CLASSES)


@fuzz('lab.analysis.controls', share=0.5, data=st.data())
def test_controls(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('survey')
    found = attempt(
        lambda: data.draw(surveys(folder)),
        {'--layers': 'backbone.x', 'image': ()},
        either=True,
    )
    if found is REFUSED:
        return
    index = np.arange(len(found.labels))
    turns = attempt(lambda: moment_controls.turns_of(found, found, 0, index))
    shifts = attempt(lambda: moment_controls.shifts_of(found, found, index))
    centring = attempt(lambda: moment_controls.centring_of(found))
    for layer, turn, shift, centre in zip(
        found.layers, turns, shifts, centring
    ):
        seen = np.hypot(*layer.moments['image'].T)
        assert turn.n == (seen > 0).sum()
        assert turn.n == 0 or close(turn.length, 1) and close(turn.mean, 0)
        assert shift.n == np.isfinite(seen).sum()
        assert shift.n == 0 or shift.along.value == 0
        assert np.isnan(centre.follows.value) or turn.n >= 4
    layer = found.layers[1]
    row = attempt(lambda: controls.shuffles_of(layer, found.labels, 3))
    assert (
        math.isnan(row.observed) or -1e-9 <= row.observed <= math.log(3) + 1e-9
    )
    attempt(lambda: controls.variants_of(found.layers, 'x', True))


@fuzz(
    'lab.analysis.controls.shuffles_of: options',
    share=0.3,
    case=options(dict(classes=COUNT._replace(right=st.just(3))), ('classes',)),
)
def test_shuffles(tmp_path_factory, case):
    given, wrong = case
    state = LayerState('x', 'relu', 6, tmp_path_factory.mktemp('survey'))
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 4, 3, 3, generator=generator)
    state.update(maps, torch.arange(6))
    labels = np.arange(6) % 3
    layer = state.finish(labels, 3, ())
    if not wrong:
        given['classes'] = 3
    attempt(lambda: controls.shuffles_of(layer, labels, **given), wrong)


@fuzz('lab.analysis.figures, report.numbers', share=0.3, data=st.data())
def test_figures(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp('survey')
    found = attempt(
        lambda: data.draw(surveys(folder)),
        {'--layers': 'backbone.x', 'image': ()},
        either=True,
    )
    if found is REFUSED:
        return
    layer, planes = found.layers[1], list(JUDGED)
    estimate = measure.Estimate(*[math.nan] * 4)
    dependence = {
        layer.name: {
            plane: measure.class_dependence(summary.table, 9)
            for plane, summary in layer.planes.items()
        }
    }
    nulls = {layer.name: {plane: np.zeros(9) for plane in PLANES}}
    drawn = attempt(
        lambda: [
            energy_figures.energy_maps(found.layers),
            energy_figures.radial_profiles(found.layers[1:], found.layers[0]),
            energy_figures.sombrero_surfaces(found.layers[1:]),
            angle_figures.moment_clouds(layer, found.labels, CLASSES, planes),
            angle_figures.polar_histograms(layer, CLASSES, planes),
            angle_figures.plane_agreement(layer, CLASSES, planes, estimate),
            angle_figures.information_bars(dependence, nulls),
        ]
    )
    shown = data.draw(st.sampled_from(drawn))
    assert attempt(lambda: drawing.png(shown, 20)).startswith(b'\x89PNG')
    panels = attempt(lambda: energy_figures.energy_maps(found.layers)).axes
    for panel, own in zip(panels, found.layers):
        assert close(panel.images[0].get_array(), own.energy.mean_map)


@fuzz(
    'measure.hue.to_rgb',
    theta=st.floats(-9, 9),
    saturation=st.floats(-1, 2),
    value=st.floats(-1, 2),
    palette=st.sampled_from(hue.PALETTES) | JUNK,
)
def test_to_rgb(theta, saturation, value, palette):
    right = isinstance(palette, str) and palette in hue.PALETTES
    arrays = (np.array([x]) for x in (theta, saturation, value))
    found = attempt(
        lambda: hue.to_rgb(*arrays, palette),
        {} if right else dict(palette=palette),
    )
    if found is not REFUSED:
        assert found.shape == (1, 3) and ((found >= 0) & (found <= 1)).all()
        assert close(found.max(), min(max(value, 0), 1)) or palette != 'hsv'


@fuzz('lab.analysis.html_report: numbers as text', values=st.tuples(*[ANY] * 4))
def test_numbers(values):
    estimate = measure.Estimate(*values)
    text = attempt(lambda: drawing.show_estimate(estimate))
    assert 'nan' not in text and 'None' not in text
    assert 'nan' not in attempt(lambda: drawing.show_pvalue(values[3]))
    assert 'nan' not in attempt(lambda: drawing.show_number(values[0]))
