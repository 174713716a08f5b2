"""What a page cannot show is said by name, and is no empty table."""

from functools import partial

import pandas as pd
import pytest
from benchmark_results import make_behaviour, make_table, write_results


@pytest.fixture
def report(run_tool):
    return partial(run_tool, 'tools/report.py')


def test_what_cannot_be_reported_is_said(report, tmp_path):
    table = make_table({})
    keys = ['config', 'arm', 'role', 'seed']
    other = table[table.role != 'baseline'].assign(config='other')
    folder = write_results(tmp_path / 'results', pd.concat([table, other]))
    with pytest.raises(SystemExit, match='no baseline of other'):
        table[keys].to_csv(folder / 'planned.csv', index=False)
        report('results', 'page')
    (folder / 'planned.csv').write_text('')
    with pytest.raises(SystemExit, match=r'planned\.csv has the columns'):
        report('results', 'page')


@pytest.mark.parametrize('wrong', ['inf', 'text', ''])
def test_behaviour_is_checked(report, tmp_path, capsys, wrong):
    table = make_table({})
    write_results(tmp_path / 'results', table)
    measured = make_behaviour(table).astype({'value': object})
    measured.loc[0, 'value'] = wrong
    behaviour = tmp_path / 'behaviour'
    behaviour.mkdir()
    (behaviour / 'command.txt').write_text('python tools/behaviour.py a b\n')
    if not wrong:
        measured = measured.drop(columns='value')
    measured.to_csv(behaviour / 'behaviour.csv', index=False)
    with pytest.raises(SystemExit):
        report('results', 'page', '--behaviour', 'behaviour')
    words = 'no finite number' if wrong else 'no column value'
    assert words in capsys.readouterr().err


def test_a_config_that_was_not_measured_has_no_empty_table(report, tmp_path):
    table = make_table({})
    other = table.assign(config='other')
    write_results(tmp_path / 'results', pd.concat([table, other]))
    behaviour = tmp_path / 'behaviour'
    behaviour.mkdir()
    (behaviour / 'command.txt').write_text('python tools/behaviour.py a b\n')
    measured = make_behaviour(table)
    measured.to_csv(behaviour / 'behaviour.csv', index=False)
    report('results', 'page', '--behaviour', 'behaviour')
    page = (tmp_path / 'page/README.md').read_text()
    assert page.count('### Behaviour') == 1
