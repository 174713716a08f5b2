"""Layers of two networks are matched, and their differences judged."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from compared_layers import layer_of, survey_of

from u1_plugin.lab.analysis.comparison import (
    LayerPair,
    _verdict,
    compare,
    match_layers,
)
from u1_plugin.lab.analysis.html_report import markdown_table
from u1_plugin.lab.analysis.layer import angle_sums
from u1_plugin.lab.analysis.paired_statistics import STATISTICS, statistics_of


def named(*names):
    return [SimpleNamespace(name=name) for name in names]


@pytest.mark.parametrize(
    'first, second, pairs',
    [
        ('a b c', 'a b c', 'a-a-name b-b-name c-c-name'),
        ('a b c', 'b c', 'b-b-name c-c-name'),
        ('a b c', 'x y', 'b-x-order c-y-order'),
        ('a b', 'x y z', 'a-y-order b-z-order'),
        ('a b end', 'x end', 'b-x-order end-end-name'),
        ('a', '', ''),
    ],
)
def test_layers_are_matched_by_name_or_from_the_last(first, second, pairs):
    found = match_layers(named(*first.split()), named(*second.split()))
    told = ' '.join(f'{p.first.name}-{p.second.name}-{p.how}' for p in found)
    assert told == pairs


@pytest.mark.parametrize('images', [19, 20])
def test_few_images_decide_no_difference(tmp_path, images):
    """As many as a verdict asks for, of either network."""
    (tmp_path / 'b').mkdir()
    first, labels = layer_of(tmp_path, 0)
    second, _ = layer_of(tmp_path / 'b', 1)
    moments = {k: np.array(v) for k, v in second.moments.items()}
    moments['image'][images:] = np.nan
    sums = angle_sums(moments['image'], labels, 5).summary()
    second = second._replace(
        moments=moments, planes={**second.planes, 'image': sums}
    )
    found = compare(
        dict(network='b', weights='w'),
        survey_of(first, labels),
        survey_of(second, labels),
        [],
        0.05,
        40,
    )
    few = {'information image', 'means image', 'agreement'}
    for row in found.differences:
        undecided = images < 20 and row.statistic in few
        assert math.isnan(row.difference.pvalue) == undecided
        assert math.isnan(row.corrected) == undecided
        assert (row.verdict == 'undecided') == undecided
        why = 'second: 19 images; at least 20 are needed' if undecided else ''
        assert row.obstacle == why
    text = markdown_table(dict(network='a', weights='v'), found)
    assert ('undecided (second: 19 images' in text) == (images < 20)


def test_few_classes_decide_no_agreement(tmp_path):
    layer, labels = layer_of(tmp_path, 0)
    gone = labels == 4
    moments = {k: np.array(v) for k, v in layer.moments.items()}
    moments['image'][gone] = np.nan
    sums = angle_sums(moments['image'], labels, 5).summary()
    less = layer._replace(
        moments=moments, planes={**layer.planes, 'image': sums}
    )
    found = statistics_of(less, labels, 5)
    assert found['agreement'].obstacle == '4 classes; at least 5 are needed'
    assert found['means image'].obstacle is None
    assert statistics_of(layer, labels, 5)['agreement'].obstacle is None


def test_maps_of_other_sizes_are_not_held_against_each_other(tmp_path):
    """One profile has other heights on other grids."""
    (tmp_path / 'b').mkdir()
    first, labels = layer_of(tmp_path, 0)
    second, _ = layer_of(tmp_path / 'b', 0, size=6)
    facts = dict(network='b', weights='w')
    found = compare(
        facts,
        survey_of(first, labels),
        survey_of(second, labels),
        [],
        0.05,
        40,
    )
    assert found.pairs[0].how == 'name'
    told = [STATISTICS[row.statistic][0] for row in found.differences]
    assert set(told) == {'C3', 'collapse'}
    assert '8×8 and 6×6' in found.pairs[0].remark
    text = markdown_table(dict(network='a', weights='v'), found)
    assert 'maps of 8×8 and 6×6: what C1 and C2 measure' in text
    same = LayerPair(first, first, 'name')
    assert same.remark == ''
    assert 'maps of' not in markdown_table(facts, found._replace(pairs=[same]))


def test_a_network_does_not_differ_from_itself(tmp_path):
    found = survey_of(*layer_of(tmp_path, 0))
    facts = dict(network='b', weights='w')
    same = compare(facts, found, found, [], 0.05, 40)
    assert len(same.differences) == len(STATISTICS)
    for row in same.differences:
        assert row.difference.value == 0 and math.isnan(row.difference.low)
        assert row.verdict == 'no difference shown'


def test_networks_that_differ(tmp_path):
    (tmp_path / 'b').mkdir()
    first = survey_of(*layer_of(tmp_path, 0))
    second = survey_of(*layer_of(tmp_path / 'b', 1))
    facts = dict(network='b', weights='w')
    found = compare(facts, first, second, [], 0.05, 40)
    back = compare(facts, second, first, [], 0.05, 40)
    assert {row.verdict for row in found.differences} > {'higher', 'lower'}
    for row, other in zip(found.differences, back.differences):
        assert row.difference.value == pytest.approx(-other.difference.value)
        assert row.difference.value == pytest.approx(
            row.first.value - row.second.value
        )
        assert row.corrected == pytest.approx(other.corrected)
    wrong = second._replace(labels=second.labels[::-1])
    with pytest.raises(ValueError, match='--against: .* other images'):
        compare(facts, first, wrong, [], 0.05, 40)


@pytest.mark.parametrize(
    'value, pvalue, verdict',
    [
        (math.nan, math.nan, 'undecided'),
        (0.08, math.nan, 'undecided'),
        (0.0, math.nan, 'no difference shown'),
        (0.08, 0.5, 'no difference shown'),
        (0.08, 0.01, 'higher'),
    ],
)
def test_what_has_no_known_spread_is_undecided(value, pvalue, verdict):
    assert _verdict(value, pvalue, 0.05, '') == verdict
    assert _verdict(value, pvalue, 0.05, 'few images') == 'undecided'
