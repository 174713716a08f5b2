"""The report of two architectures has both, layer by layer."""

import json
import sys

import pytest
from analysed_digits import CLASSES, COUNT, LAYERS
from twins import load_tool


@pytest.fixture(scope='module')
def report(root, config_file, pictures, tmp_path_factory):
    """Two architectures in one report, written by the tool."""
    out = tmp_path_factory.mktemp('against') / 'report'
    swin = root / 'configs/digits/swin-narrow_1xb64_digits.py'
    argv = [
        *('analyze_bottleneck.py', str(config_file), '--untrained', '1'),
        *('--against', str(swin), '--against-untrained', '2'),
        *('--data', str(pictures), '--out', str(out), '--layers', *LAYERS),
        *('--against-layers', 'backbone.stages.0', 'backbone'),
        *('--permutations', '99', '--control-images', '0'),
        *('--resamples', '20'),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', argv)
        load_tool('analyze_bottleneck.py').main()
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
