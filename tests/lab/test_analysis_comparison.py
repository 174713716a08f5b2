"""Two networks side by side: matched layers, paired differences, options."""

import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_analyze_tool import (  # noqa: F401
    CLASSES,
    COUNT,
    LAYERS,
    config_file,
    folder,
    load_tool,
)
from torch import nn

from u1_plugin.lab.analysis.comparison import (
    Pair,
    compare,
    match_layers,
    paired_difference,
)
from u1_plugin.lab.analysis.images import check_same_images
from u1_plugin.lab.analysis.layer import (
    LayerState,
    ResampledMaps,
    angle_sums,
    image_weights,
)
from u1_plugin.lab.analysis.paired_statistics import (
    STATISTICS,
    Drawn,
    _Angles,
    _dependence,
    layer_collapse,
    pooled_vectors,
    statistics_of,
)
from u1_plugin.lab.analysis.report import markdown_table
from u1_plugin.lab.analysis.second_network import second_network, tell_apart
from u1_plugin.lab.analysis.survey import INPUT, JUDGED, Survey
from u1_plugin.measure import (
    CollapseAccumulator,
    class_dependence,
    collapse_of,
    symmetry,
)
from u1_plugin.measure.profile import concentration
from u1_plugin.measure.sombrero import fit_sombrero, heights
from u1_plugin.mm.angle_measure import AngleMeasure, AngleOptions


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


def test_weights_belong_to_the_images():
    index = np.arange(500)
    whole = image_weights(index, 40)
    assert whole.shape == (40, 500)
    parts = [image_weights(part, 40) for part in np.split(index[::-1], 4)]
    assert (np.concatenate(parts, 1)[:, ::-1] == whole).all()
    # Counts of a bootstrap: mean and variance 1, four standard errors.
    assert abs(whole.mean() - 1) < 4 / math.sqrt(whole.size)
    assert abs(whole.var() - 1) < 4 * math.sqrt(3 / whole.size)


def test_resampled_maps_are_weighed_means():
    energy = torch.rand(30, 3, 4, generator=torch.Generator().manual_seed(0))
    energy = energy.double()
    energy[7], energy[9] = 0, math.nan  # no part of any mean
    found = ResampledMaps(5)
    for part in torch.arange(30).split(8):
        found.update(energy[part], part)
    kept = np.array([k for k in range(30) if k not in (7, 9)])
    relative = (energy / energy.mean((1, 2), keepdim=True)).numpy()[kept]
    for row, weight in zip(found.mean_maps(), image_weights(kept, 5)):
        expected = np.average(relative, axis=0, weights=weight)
        np.testing.assert_allclose(row, expected)


def layer_of(place, seed, name='backbone.x', images=60, resamples=40, size=8):
    """A layer whose maps depend on the class, and lean on a seed."""
    generator = torch.Generator().manual_seed(seed)
    state = LayerState(name, 'relu', images, place, resamples)
    labels = torch.arange(images) % 5
    means = torch.rand(5, 8, size, size, generator=generator)
    maps = means[labels] + torch.rand(
        images, 8, size, size, generator=torch.Generator().manual_seed(7)
    )
    for part in torch.arange(images).split(16):
        state.update(maps[part], part)
    return state.finish(labels.numpy(), 5, tuple(JUDGED)), labels.numpy()


def test_statistics_are_those_of_the_report(tmp_path):
    layer, labels = layer_of(tmp_path, 0)
    found = statistics_of(layer, labels, 5)
    assert set(found) == set(STATISTICS)
    tall = heights(layer.energy, fit_sombrero(layer.energy))
    collapse = layer_collapse(layer, labels, 5)
    expected = dict(
        concentration=concentration(layer.energy).excess.value,
        symmetry=symmetry(layer.energy).value,
        crown=tall.crown.value,
        brim=tall.brim.value,
        nc1=collapse.nc1,
        cdnv=collapse.cdnv,
        separation=collapse.separation,
    )
    for plane in JUDGED:
        own = class_dependence(layer.planes[plane].table, 199, 2)
        expected[f'information {plane}'] = own.information_share.value
        expected[f'means {plane}'] = own.between_share.value
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value), name
        assert len(found[name].draws) == 40
    assert set(statistics_of(layer, None, 1)) == set(list(STATISTICS)[:4])


def test_collapse_of_a_layer_is_that_of_its_vectors(tmp_path):
    layer, labels = layer_of(tmp_path, 0)
    stream = CollapseAccumulator(5)
    vectors = pooled_vectors(layer)
    stream.update(vectors, torch.from_numpy(labels))
    np.testing.assert_allclose(
        layer_collapse(layer, labels, 5), stream.summary()
    )
    # Vectors are stored as directions in float32.
    assert vectors.norm(dim=1).numpy() == pytest.approx(layer.norms, rel=1e-6)
    assert layer_collapse(layer, 0 * labels, 5) is None


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_collapse_is_the_hook_s(tmp_path, bad):
    """Of the images whose maps are finite; one without energy counts."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(40, 6, 8, 8, generator=generator)
    labels = np.arange(40) % 2
    maps[labels == 1, 0] += 1
    maps[3] = 0
    maps[0], maps[5, 2, 1, 1] = bad, bad
    state = LayerState('l', 'relu', 40, tmp_path, 20)
    state.update(maps, torch.arange(40))
    layer = state.finish(labels, 2, tuple(JUDGED))
    network = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1)).eval()
    options = AngleOptions(['0'], 'image', None, 'relu', None, 36, 99)
    hook = AngleMeasure(options.probe(network, 'hook'), 'ab', options)
    hook.probe.attach()
    network(maps)
    hook.update([dict(gt_label=torch.tensor([k])) for k in labels], 40)
    hook.probe.detach()
    found = layer_collapse(layer, labels, 2)
    assert found.n == 38
    np.testing.assert_allclose(found, hook.collapse()['0'], rtol=1e-5)
    rows = pooled_vectors(layer)
    assert (rows[3] == 0).all() and rows[[0, 5]].isnan().all()
    # What is resampled are the same images.
    drawn = statistics_of(layer, labels, 2)['nc1']
    assert drawn.value == found.nc1
    kept = np.array([k for k in range(40) if k not in (0, 5)])
    weights = torch.from_numpy(image_weights(np.arange(40), 20))
    pooled = maps[kept].mean((2, 3)).double()
    own = torch.from_numpy(labels[kept])
    for value, weight in zip(drawn.draws, weights[:, kept]):
        expected = collapse_of(pooled, own, 2, weight, True)
        assert value == pytest.approx(expected.nc1, rel=1e-4)


def angles_of(images: int, known: np.ndarray, resamples: int):
    """Both shares of images of which some have an angle."""
    labels = np.arange(images) % 2
    theta = np.random.default_rng(3).uniform(-3, 3, images)
    moments = np.full((images, 2), np.nan)
    moments[known] = np.stack([np.cos(theta), np.sin(theta)], 1)[known]
    angles = _Angles(moments, labels, 2, 36)
    weights = image_weights(np.arange(images), resamples)
    table = angles.table(np.ones(images, int))
    return _dependence('image', table, angles, weights), weights


def test_draws_keep_the_place_of_their_resample():
    """A resample without an angle is NaN, and no one takes its place."""
    few, weights = angles_of(200, np.arange(5), 200)
    more, _ = angles_of(200, np.arange(6), 200)
    empty = ~weights[:, :5].any(1)
    assert 0 < empty.sum() < 20
    for own in few.values():
        assert own.draws.shape == (200,)
        assert np.isnan(own.draws[empty]).all()
    own, other = few['means image'], more['means image']
    assert np.isfinite(own.draws[~empty]).all()
    # Few decide nothing, but the interval is that of paired resamples.
    found = paired_difference(own, other)
    spread = (own.draws - other.draws)[~empty].std(ddof=1)
    assert found.high - found.value == pytest.approx(1.959964 * spread)
    assert math.isnan(found.pvalue)


def test_collapse_keeps_the_place_of_its_resample(tmp_path):
    """Of two classes with one image each, many resamples hold but one."""
    layer, _ = layer_of(tmp_path, 0, images=12)
    labels = np.array([1] + [0] * 11)
    drawn = statistics_of(layer, labels, 5)['cdnv'].draws
    missing = image_weights(np.arange(12), 40)[:, 0] == 0
    assert drawn.shape == (40,) and 0 < missing.sum() < 40
    assert np.isnan(drawn[missing]).all()
    assert np.isfinite(drawn[~missing]).all()


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
    same = Pair(first, first, 'name')
    assert same.remark == ''
    assert 'maps of' not in markdown_table(facts, found._replace(pairs=[same]))


def survey_of(layer, labels) -> Survey:
    return Survey([layer._replace(name=INPUT), layer], labels, list('abcde'))


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


def test_the_interval_of_a_paired_difference_covers():
    """Means of correlated data: 95 % but for 200 runs' own error."""
    rng = np.random.default_rng(0)
    weights = image_weights(np.arange(80), 200)
    inside, widths = 0, []
    for _ in range(200):
        shared = rng.normal(size=80)
        values = [shared + 0.3 * rng.normal(size=80) + k for k in (0.2, 0.0)]
        drawn = [
            Drawn(own.mean(), weights @ own / weights.sum(1)) for own in values
        ]
        found = paired_difference(*drawn)
        inside += found.low < 0.2 < found.high
        widths.append(found.high - found.low)
    assert 180 <= inside <= 199
    # Paired: the part that both share does not widen it.
    assert np.mean(widths) < 1.2 * 2 * 1.96 * 0.3 * math.sqrt(2 / 80)


def asked(**options) -> SimpleNamespace:
    names = ('checkpoint', 'untrained', 'layers', 'cfg_options')
    empty = {f'against_{name}': None for name in names}
    own = dict(source='a.py', checkpoint='a.pth', untrained=None)
    return SimpleNamespace(
        **{**empty, **own, 'cfg_options': None, 'against': None, **options}
    )


@pytest.mark.parametrize(
    'options, found',
    [
        ({}, None),
        (dict(against=['b.py', 'b.pth']), ('b.py', 'b.pth', None, None)),
        (
            dict(against=['b.py'], against_checkpoint='c.pth'),
            ('b.py', 'c.pth', None, None),
        ),
        (dict(against=['timm:b']), ('timm:b', None, None, None)),
        (dict(against_checkpoint='c.pth'), ('a.py', 'c.pth', None, None)),
        (dict(against_untrained=3), ('a.py', None, 3, None)),
        (
            dict(cfg_options=dict(x=1), against_untrained=0),
            ('a.py', None, 0, dict(x=1)),
        ),
        (
            dict(against=['b.py', 'b.pth'], cfg_options=dict(x=1)),
            ('b.py', 'b.pth', None, None),
        ),
        (
            dict(cfg_options=dict(x=1), against_cfg_options=dict(y=2)),
            ('a.py', 'a.pth', None, dict(x=1, y=2)),
        ),
    ],
)
def test_the_second_network_that_is_asked_for(options, found):
    assert second_network(asked(**options)) == found


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(against=['b', 'c', 'd']), 'at most one checkpoint'),
        (
            dict(against=['b', 'c'], against_checkpoint='d'),
            'both name a checkpoint',
        ),
        (
            dict(against=['b', 'c'], against_untrained=0),
            '--against-untrained 0 loads no weights',
        ),
    ],
)
def test_options_of_the_second_network_that_contradict(options, message):
    with pytest.raises(ValueError, match=message):
        second_network(asked(**options))


class Files:
    def __init__(self, *names):
        self.names = names

    def __len__(self):
        return len(self.names)

    def get_data_info(self, number):
        return dict(img_path=self.names[number])


@pytest.mark.parametrize(
    'files, expected',
    [
        (('runs/a/s0/last.pth', 'runs/b/s0/last.pth'), 'a/s0/last.pth'),
        (('/x/last.pth', 'last.pth'), 'x/last.pth'),
        (('last.pth', 'last.pth'), 'last.pth'),
        ((None, 'last.pth'), 'last.pth'),
    ],
)
def test_weights_of_one_name_are_told_apart_by_their_folders(files, expected):
    first = dict(network='config', weights='last.pth')
    second = dict(first)
    tell_apart(first, second, files)
    assert first['weights'] == expected
    apart = expected != 'last.pth'
    assert (first != second) == apart
    other = dict(network='other', weights='last.pth')
    tell_apart(first, other, files)
    assert first['weights'] == expected and other['weights'] == 'last.pth'


def test_images_must_be_the_same():
    check_same_images(Files('a', 'b'), Files('a', 'b'))
    for other in (Files('a'), Files('b', 'a')):
        with pytest.raises(ValueError, match='--data FOLDER'):
            check_same_images(Files('a', 'b'), other)


@pytest.fixture(scope='module')
def report(root, config_file, folder, tmp_path_factory):  # noqa: F811
    """Two architectures in one report, written by the tool."""
    out = tmp_path_factory.mktemp('against') / 'report'
    swin = root / 'configs/digits/swin-narrow_1xb64_digits.py'
    argv = [
        *('analyze_bottleneck.py', str(config_file), '--untrained', '1'),
        *('--against', str(swin), '--against-untrained', '2'),
        *('--data', str(folder), '--out', str(out), '--layers', *LAYERS),
        *('--against-layers', 'backbone.stages.0', 'backbone'),
        *('--permutations', '99', '--control-images', '0'),
        *('--resamples', '20'),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', argv)
        load_tool(root, 'analyze_bottleneck').main()
    return out


def test_two_architectures_in_one_report(report):
    content = json.loads((report / 'numbers.json').read_text())
    found = content['comparison']
    assert [(p['first'], p['second']) for p in found['pairs']] == [
        ('backbone.layer2', 'backbone.stages.0'),
        ('backbone', 'backbone'),
    ]
    assert [p['matched_by'] for p in found['pairs']] == ['order', 'name']
    assert found['facts']['weights'] == 'untrained, seed 2'
    names = {row['statistic'] for row in found['differences']}
    assert {'concentration', 'agreement', 'nc1'} <= names
    for row in found['differences']:
        first, second, gap = (
            row[part]['value'] for part in ('first', 'second', 'difference')
        )
        if None not in (first, second):
            assert gap == pytest.approx(first - second)
    assert content['collapse'].keys() == set(LAYERS)
    assert content['classes'] == list(CLASSES)
    assert content['layers'][0]['images'] == COUNT


def test_the_pages_tell_of_both(report):
    page = (report / 'report.html').read_text()
    for text in (
        'Against swin-narrow',
        'untrained, seed 2',
        'first less second',
        'differences by layer',
        'class separation R²',
        'comparison.md',
    ):
        assert text in page
    table = (report / 'comparison.md').read_text()
    assert table.startswith('# small against swin-narrow')
    assert '| layer2 | stages.0 | order | C1: energy' in table
