"""A benchmark's tables keep their names and refuse what is none."""

import numpy as np
import pandas as pd
import pytest
from benchmark_results import make_table, write_results

from u1_plugin.lab.benchmark.results import read_results
from u1_plugin.lab.benchmark.table import (
    PairingError,
    check_pairs,
    read_csv,
    save_csv,
    write_plan,
    write_table,
)


@pytest.mark.parametrize(
    'change, words',
    [
        (dict(seed='one'), 'seed must hold finite numbers'),
        (dict(test_top1='high'), 'test_top1 must hold finite numbers'),
        (dict(cpu_s=np.inf), 'cpu_s must hold finite numbers'),
        (dict(val_curve='[1'), 'val_curve='),
        (dict(versions='[]'), 'versions='),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path, change, words):
    table = make_table({}).assign(**change)
    with pytest.raises(ValueError, match='results.csv.*tools/benchmark') as e:
        read_results(write_results(tmp_path, table))
    assert words in str(e.value)
    with pytest.raises(ValueError, match='no column folder, seed'):
        columns = ['seed', 'folder']
        read_results(write_results(tmp_path, table.drop(columns=columns)))
    (tmp_path / 'results.csv').write_bytes(b'a,b\n1,2,3\n"\xff')
    with pytest.raises(ValueError, match='results.csv is no table'):
        read_results(tmp_path)


def test_an_arm_may_be_named_like_a_number_or_nothing(tmp_path):
    table = make_table({})
    table['arm'] = table.arm.replace({'u1-zero': '1e5', 'u1-image': 'nan'})
    table['initial_head_fc'] = '1e5'
    found = read_results(write_results(tmp_path, table))
    assert found.arm.tolist() == table.arm.tolist()
    assert set(found.initial_head_fc) == {'1e5'}
    table.loc[0, 'initial_head_fc'] = None
    found = read_results(write_results(tmp_path, table))
    assert found.initial_head_fc.isna().sum() == 1


def test_floats_come_back_to_the_last_digit(tmp_path):
    """Under any pandas: those before 3.1 read some of them a digit off."""
    values = np.random.default_rng(0).uniform(0, 100, 1000)
    save_csv(pd.DataFrame(dict(test_top1=values)), tmp_path / 'runs.csv')
    assert (read_csv(tmp_path / 'runs.csv').test_top1 == values).all()


def test_tables_of_others_are_not_overwritten(tmp_path):
    for name, write in (
        ('planned.csv', write_plan),
        ('results.csv', write_table),
    ):
        (tmp_path / name).write_text('mine\n')
        with pytest.raises(FileExistsError, match=name):
            write([], tmp_path)
        assert (tmp_path / name).read_text() == 'mine\n'
        (tmp_path / name).unlink()
        for _ in range(2):  # its own it may
            write([], tmp_path)
    with pytest.raises(ValueError, match='no finished run'):
        read_results(tmp_path)


def test_arms_of_other_versions_are_no_pair():
    table = make_table({}, seeds=3)
    check_pairs(table)
    table.loc[table.arm == 'u1-image', 'versions'] = '{"torch": "2.1.0"}'
    with pytest.raises(PairingError, match='versions differs'):
        check_pairs(table)
