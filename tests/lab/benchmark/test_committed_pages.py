"""Pages of results say what their own tables say, to the letter."""

import re
import shutil
from pathlib import Path
from typing import Set

import pandas as pd
import pytest
from benchmark_results import make_table, write_results

RESULTS = Path(__file__).resolve().parents[3] / 'docs/results'
PAGES = sorted(file.parent.name for file in RESULTS.glob('*/runs.csv'))
#: One with ablations alone, one with primary comparisons, one with behaviour.
FAST = ('weights_glyphsk', 'circle', 'glyphsk')
#: Behaviour of networks that are gone, and of which no values were kept.
UNKEPT = {'clipart', 'emoji58', 'glyphs62', 'mnist10k', 'quick'}


def comparable(page: str) -> str:
    """A page without the command that wrote it."""
    return re.sub(r'\npython tools/report\.py .*', '', page)


def without_behaviour(commands: str) -> str:
    """Commands but for that of the behaviour."""
    return re.sub(r'python tools/behaviour\.py .*\n', '', commands)


def data_and_pictures(folder: Path) -> Set[str]:
    """Names of the files that a page has, but for tables in LaTeX."""
    return {file.name for file in folder.iterdir() if file.suffix != '.tex'}


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
        for name in PAGES
    ],
)
def test_a_page_is_made_again_from_its_own_files(run_tool, tmp_path, name):
    folder, again = RESULTS / name, tmp_path / 'again'
    run_tool('tools/report.py', str(folder), str(again))
    page = comparable((folder / 'README.md').read_text())
    if name in UNKEPT:
        part = page[page.index('\n### Behaviour') : page.index('\n## Commands')]
        assert 'values of the single runs' in part
        assert not (folder / 'behaviour.csv').exists()
        page = without_behaviour(page.replace(part, ''))
    assert comparable((again / 'README.md').read_text()) == page
    earlier = data_and_pictures(folder) - {'first_runs.csv'}
    assert data_and_pictures(again) == earlier
    for file in again.glob('*.csv'):
        assert file.read_bytes() == (folder / file.name).read_bytes()
    commands = (folder / 'command.txt').read_text()
    assert commands in (folder / 'README.md').read_text()
    if name in UNKEPT:
        commands = without_behaviour(commands)
    assert (again / 'command.txt').read_text() == commands


def test_every_suite_has_a_page_that_can_be_made_again():
    assert len(PAGES) == 28 and set(FAST) | UNKEPT <= set(PAGES)


def test_a_page_with_curves_is_made_again(run_tool, tmp_path):
    write_results(tmp_path / 'results', make_table({'u1-image': 0.5}))
    run_tool('tools/report.py', 'results', 'page')
    run_tool('tools/report.py', 'page', 'again')
    first, second = (
        {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()}
        for name in ('page', 'again')
    )
    assert 'tiny_digits-curves.png' in first
    assert 'tools/report.py page again' in second.pop('README.md').decode()
    first.pop('README.md')
    assert first == second


def test_commands_are_those_of_the_values_that_are_shown(
    run_tool, tmp_path, messages
):
    measured = tmp_path / 'measured'
    measured.mkdir()
    shutil.copy(RESULTS / 'glyphsk/behaviour.csv', measured)
    (measured / 'command.txt').write_text('python tools/behaviour.py a b\n')
    page = str(RESULTS / 'glyphsk')
    for number, behaviour in enumerate((str(measured), f'{page}/.')):
        out = f'page{number}'
        run_tool('tools/report.py', page, out, '--behaviour', behaviour)
        commands = (tmp_path / out / 'command.txt').read_text()
        assert commands.count('tools/behaviour.py') == 1
        assert commands.count('tools/benchmark.py') == 1
        assert ('behaviour.py a b' in commands) == (number == 0)
    (tmp_path / 'page0/behaviour.csv').unlink()
    run_tool('tools/report.py', 'page0', 'page2')
    assert 'behaviour' not in (tmp_path / 'page2/command.txt').read_text()
    assert any('page0 has no behaviour.csv' in line for line in messages)


def test_a_page_shows_what_a_page_has(run_tool, tmp_path, capsys):
    """Runs that differ from the behaviour, and a page without its commands."""
    folder = tmp_path / 'page'
    run_tool('tools/report.py', str(RESULTS / 'glyphsk'), str(folder))
    table = pd.read_csv(folder / 'runs.csv')
    changed = table.assign(run_hash='another')
    changed.to_csv(folder / 'runs.csv', index=False)
    with pytest.raises(SystemExit):
        run_tool('tools/report.py', 'page', 'again')
    assert 'was trained again since' in capsys.readouterr().err
    table.drop(columns='versions').to_csv(folder / 'runs.csv', index=False)
    with pytest.raises(SystemExit):
        run_tool('tools/report.py', 'page', 'again')
    said = capsys.readouterr().err
    assert 'has no column versions' in said and 'tools/report.py' in said
    table.assign(hardware=['', *table.hardware[1:]]).to_csv(
        folder / 'runs.csv', index=False
    )
    with pytest.raises(SystemExit):
        run_tool('tools/report.py', 'page', 'again')
    assert 'hardware is empty in some rows' in capsys.readouterr().err
    table.to_csv(folder / 'runs.csv', index=False)
    (folder / 'command.txt').unlink()
    with pytest.raises(SystemExit):
        run_tool('tools/report.py', 'page', 'again')
    assert 'command.txt' in capsys.readouterr().err
    assert not (tmp_path / 'again').exists()
