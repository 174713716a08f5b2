"""Comparisons that a suite names before its runs."""

import numpy as np
import pandas as pd
import pytest
from benchmark_results import make_table

from u1_plugin.lab.benchmark.arm_statistics import (
    compare,
    detectable_gain,
    seeds_needed,
)
from u1_plugin.lab.benchmark.primary import (
    Primary,
    check_primary,
    load_primary,
    primary_frame,
    read_primary,
    write_primary,
)

ARMS = ('one-hot', 'u1-feature', 'u1-permuted')
PAIRS = (('u1-feature', 'one-hot'), ('u1-feature', 'u1-permuted'))


@pytest.mark.parametrize(
    'content, words',
    [
        ([], r'suite\.primary=\[\] must be a mapping'),
        (dict(gain=0.2), r'suite\.primary\.comparisons=None'),
        (dict(gain=0, comparisons=[]), r'suite\.primary\.gain=0 must'),
        (dict(gain=True, comparisons=[]), r'suite\.primary\.gain=True'),
        (dict(gain=0.2, comparisons=[]), r'comparisons=\[\] is empty'),
        (dict(gain=0.2, comparisons=['ab']), r"comparisons\[0\]='ab'"),
        (dict(gain=0.2, comparisons=[['u1', 'one-hot']]), r'\[0\]=.*among'),
        (dict(gain=0.2, comparisons=[['one-hot'] * 2]), r'two different'),
        (dict(gain=0.2, comparisons=[list(PAIRS[0])] * 2), r'\[1\]=.*once'),
        (dict(gain=0.2, pairs=[]), 'unknown field'),
    ],
)
def test_what_is_no_comparison_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        read_primary(content, ARMS)


def test_comparisons_come_back_from_a_benchmarks_folder(tmp_path):
    content = dict(gain=0.5, comparisons=[list(pair) for pair in PAIRS])
    primary = read_primary(content, ARMS)
    assert primary == Primary(PAIRS, 0.5)
    assert load_primary(tmp_path) == Primary()
    write_primary(primary, tmp_path)
    assert load_primary(tmp_path) == primary
    write_primary(Primary(), tmp_path)
    assert load_primary(tmp_path) == Primary()
    (tmp_path / 'primary.csv').write_text('a,b\n1,2\n')
    with pytest.raises(ValueError, match='primary.csv has the columns'):
        load_primary(tmp_path)


@pytest.mark.parametrize('name', ['0.10', '007', '1e3', 'true', 'NA'])
def test_names_that_look_like_numbers_come_back(name, tmp_path):
    primary = Primary((('u1', name),), 0.5)
    write_primary(primary, tmp_path)
    assert load_primary(tmp_path) == primary


def test_holm_is_over_the_primary_comparisons_alone():
    """By hand: of two comparisons, the smaller p counts twice."""
    table = make_table({'u1-feature': 0.3, 'u1-permuted': 0.18}, seeds=8)
    frame, lines = primary_frame(table, Primary(PAIRS, 0.2), 'test_top1')
    values = {
        arm: table[table.arm == arm].set_index('seed').test_top1 for arm in ARMS
    }
    c = compare(values['u1-feature'], values['one-hot'])
    assert c.permutation == 2 / 2**8
    first, second = frame.to_dict('records')
    assert first['Holm p'] == f'{2 * c.permutation:.3f}'
    assert first['n'] == '8'
    differences = values['u1-feature'] - values['one-hot']
    assert first['sd'] == f'{np.std(differences, ddof=1):.2f}'
    assert first['seen'] == f'{detectable_gain(c.sd, 8, alpha=0.025):+.2f}'
    needed = max(seeds_needed(c.sd, 0.2, alpha=0.025), 7)  # 2/2^7 < 0.025
    assert first['seeds for +0.2'] == f'{needed:,}'
    assert lines[0].startswith('**u1-feature less one-hot**: higher, +0.')
    assert 'no effect is shown' in lines[1]
    assert float(second['Holm p']) > 0.05


def test_a_comparison_without_pairs_counts_and_says_so():
    table = make_table({'u1-feature': 0.3}, seeds=5)
    kept = table[(table.arm != 'u1-permuted') | (table.seed == 0)]
    frame, lines = primary_frame(kept, Primary(PAIRS, 0.2), 'test_top1')
    assert 'fewer than 2 pairs' in lines[1]
    # 2/32 twice: five pairs show nothing after the correction.
    assert frame['Holm p'][0] == f'{4 / 2**5:.3f}'
    assert 'no effect is shown' in lines[0]
    frame, lines = primary_frame(
        kept[kept.arm == 'one-hot'], Primary(PAIRS, 0.2), 'test_top1'
    )
    assert list(frame.n) == ['0', '0']
    assert isinstance(frame, pd.DataFrame)


def test_comparisons_are_named_before_the_runs(tmp_path):
    first, second = Primary(PAIRS, 0.2), Primary(PAIRS[:1], 0.2)
    check_primary(first, tmp_path)
    write_primary(first, tmp_path)
    check_primary(second, tmp_path)  # nothing is known yet
    for seed in range(3):  # of whatever suite: it may have them again
        folder = tmp_path / f'digits/u1-feature/seed{seed}'
        folder.mkdir(parents=True)
        (folder / 'run_record.json').write_text('{}')
    check_primary(first, tmp_path)
    for other in (second, first._replace(gain=0.5), Primary()):
        with pytest.raises(ValueError, match='before the 3 finished runs'):
            check_primary(other, tmp_path)
    (tmp_path / 'primary.csv').unlink()  # a folder of before
    check_primary(Primary(), tmp_path)
    with pytest.raises(ValueError, match='before the 3 finished runs'):
        check_primary(first, tmp_path)


@pytest.mark.parametrize('content', ['', 'arm,to,gain\na,b,x\n'])
def test_a_damaged_table_of_comparisons_is_named(tmp_path, content):
    (tmp_path / 'primary.csv').write_text(content)
    with pytest.raises(ValueError, match=r'primary\.csv.*write it again with'):
        load_primary(tmp_path)


def test_a_gain_below_one_image_of_ten_thousand_is_refused():
    content = dict(gain=1e-6, comparisons=[list(PAIRS[0])])
    with pytest.raises(ValueError, match=r'suite\.primary\.gain=1e-06'):
        read_primary(content, ARMS)
