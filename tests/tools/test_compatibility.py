"""``compatibility.py``: cells, floors, refusals, page, a real run."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import compatibility_cells as environments
import compatibility_results as results
import pytest
from compatibility_records import CELL, HERE, record, rows
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from twins import load_tool

OPTIONS = '[options]\ninstall_requires =\n    numpy>={}\n    torchvision>={}\n'
EXTRAS = """[options.extras_require]
# A comment: torch>=1
onedl =
    onedl-mmcv>={},<9
    setuptools<81
timm =
    timm>={}; python_version >= "3.10"
    timm; python_version < "3.10"
"""


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """The tool in this process, with its files in a folder of the test's."""

    def run(*words):
        out = ['--out', str(tmp_path / 'page.md')]
        out += ['--results', str(tmp_path / 'records.jsonl')]
        out += ['--work-dir', str(tmp_path / 'work')]
        monkeypatch.setattr(sys, 'argv', ['compatibility.py', *out, *words])
        try:
            status = load_tool('maintenance/compatibility.py').main()
        except SystemExit as error:
            status = error.code
        return status, ''.join(capsys.readouterr())

    run.folder = tmp_path
    return run


def test_every_cell_is_listed_once_and_nothing_is_written(call):
    status, said = call('--list')
    names = [line.partition(':')[0] for line in said.splitlines()]
    assert status == 0 and names == list(environments.CELLS)
    parts = {name.rsplit('-', 1)[0] for name in names}
    assert len(names) == 5 * len(parts) == 20
    assert f'{CELL}: {os.sep}' in said  # this very Python, by its path
    assert not list(call.folder.iterdir())


def test_the_first_python_is_the_oldest_that_is_supported(root):
    config = configparser.ConfigParser()
    config.read(root / 'setup.cfg')
    supported = SpecifierSet(config['options']['python_requires'])
    first = environments.PYTHONS[0]
    assert first in supported
    before = f'3.{int(first.split(".")[1]) - 1}'
    assert before not in supported


@pytest.mark.parametrize('family', environments.FAMILIES)
def test_floors_are_those_that_are_stated(root, family):
    found = [Requirement(x) for x in environments.floors(root, family)]
    names = {one.name for one in found}
    assert {'numpy', 'torchvision', 'safetensors', 'timm'} <= names
    assert any('mmpretrain' in name for name in names)
    text = (root / 'setup.cfg').read_text()
    for one in found:
        (floor,) = one.specifier
        assert floor.operator == '=='
        assert f'    {one.name}>={floor.version}' in text


@given(st.lists(st.integers(0, 99), min_size=4, max_size=4))
def test_floors_follow_the_file(tmp_path_factory, numbers):
    folder = tmp_path_factory.mktemp('floors')
    versions = [f'1.{number}' for number in numbers]
    text = (OPTIONS + EXTRAS).format(*versions)
    (folder / 'setup.cfg').write_text(text)
    assert environments.floors(folder, 'onedl') == [
        f'numpy=={versions[0]}',
        f'torchvision=={versions[1]}',
        f'onedl-mmcv=={versions[2]},<9',
        f'timm=={versions[3]}; python_version >= "3.10"',
    ]


@pytest.mark.parametrize('words', [['onedl-newest-2.7'], [CELL, 'nothing-*']])
def test_unknown_cells_are_refused(call, words):
    status, said = call('--cells', *words)
    assert status == 2 and f'--cells {words[-1]}: ' in said
    assert '--list names all' in said


def test_a_full_disk_is_said_before_the_work(call):
    status, _ = call('--cells', CELL, '--space', '1e9')
    assert 'GiB free' in str(status) and '--space' in str(status)
    assert [file.name for file in (call.folder / 'work').iterdir()] == [
        'cells.txt'
    ]


def test_a_folder_of_others_is_no_place_for_environments(call):
    mine = call.folder / 'work' / CELL / 'thesis.tex'
    mine.parent.mkdir(parents=True)
    mine.write_text('mine')
    status, said = call('--cells', CELL)
    assert status == 2 and '--work-dir' in said and 'holds files' in said
    assert mine.read_text() == 'mine'


def test_the_page_keeps_what_stands_about_the_table(call):
    file = call.folder / 'records.jsonl'
    lines = [record(), record(tests=['-x']), record(passed=7)]
    file.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    page = call.folder / 'page.md'
    assert call('--report')[0] == 0
    about = page.read_text().split(results.BEGIN)[0] + 'Mine. '
    page.write_text(about + results.BEGIN + results.END + 'Mine too.\n')
    for _ in range(2):  # the second time changes nothing
        assert call('--report')[0] == 0
        text = page.read_text()
        assert text.startswith(about) and text.endswith('Mine too.\n')
        table = text.split(results.BEGIN)[1].split(results.END)[0]
        assert [cells[-7] for cells in rows(table)] == ['7', '5']
    assert len(results.read_records(file)) == 3


@pytest.mark.parametrize(
    'text', ['', results.BEGIN, f'{results.END}{results.BEGIN}', 2 * 'B E ']
)
def test_a_page_without_its_comments_is_left_alone(call, text):
    text = text.replace('B', results.BEGIN).replace('E', results.END)
    page = call.folder / 'page.md'
    page.write_text(f'{results.TITLE}mine\n{text}')
    status, said = call('--report')
    assert status == 2 and 'must have' in said and results.END in said
    assert page.read_text() == f'{results.TITLE}mine\n{text}'


def test_the_page_of_the_repository_is_what_the_tool_writes(root):
    page = (root / 'docs/compatibility.md').read_text(encoding='utf-8')
    found = results.read_records(root / 'docs/compatibility.jsonl')
    cells = list(environments.CELLS)
    parts = [results.table(found, cells), results.details(found, cells)]
    written = results.page(page, '\n'.join(filter(None, parts)))
    assert written == page, 'run it with --report'


@pytest.mark.parametrize('line', ['{}', '[1]', 'x', '{"cell": 1}'])
def test_what_is_no_record_is_refused_by_its_line(call, line):
    file = call.folder / 'records.jsonl'
    file.write_text(f'{json.dumps(record())}\n{line}\n')
    status, said = call('--report')
    assert status == 2 and 'records.jsonl, line 2 is no record' in said


def test_weekly_is_a_script_of_known_options(root):
    script = root / 'tools/maintenance/weekly.sh'
    subprocess.run(['bash', '-n', str(script)], check=True)
    text = script.read_text()
    named = re.findall(r'\w+-newest-[\d.]+', text)
    assert {environments.CELLS[name].family for name in named} == set(
        environments.FAMILIES
    )
    assert {name.rsplit('-', 1)[1] for name in named} == {
        environments.PYTHONS[-1]
    }


@pytest.fixture
def checkout(root, tmp_path):
    """A small project of the same make, whose test an old package passes."""
    folder = tmp_path / 'project'
    (folder / 'tools/maintenance').mkdir(parents=True)
    (folder / 'docs').mkdir()
    shutil.copy(root / 'tools/setup_env.sh', folder / 'tools')
    for file in (root / 'tools/maintenance').glob('compatibility*.py'):
        shutil.copy(file, folder / 'tools/maintenance')
    extras = ('openmmlab', 'mmcv-lite', 'onedl', 'timm')
    (folder / 'setup.cfg').write_text(
        '[metadata]\nname = project\n'
        '[options]\npy_modules =\ninstall_requires =\n    iniconfig>=2.0.0\n'
        '[options.extras_require]\n'
        + ''.join(f'{extra} =\n' for extra in extras)
        + 'test =\n    pytest\n    pytest-xdist\n'
    )
    (folder / 'setup.py').write_text('from setuptools import setup\nsetup()\n')
    (folder / 'pyproject.toml').write_text(
        '[build-system]\nrequires = ["setuptools>=64"]\n'
        'build-backend = "setuptools.build_meta"\n'
    )
    (folder / 'test_it.py').write_text(
        'from importlib.metadata import version\n'
        "def test_old(): assert version('iniconfig') == '2.0.0'\n"
        'def test_any(): pass\n'
    )
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    git = ['git', '-c', 'user.name=a', '-c', 'user.email=a@example.org']
    for words in (['init', '-q'], ['add', '.'], ['commit', '-qm', 'x']):
        subprocess.run([*git, *words], cwd=folder, check=True)


@pytest.mark.slow
def test_cells_run_for_real_and_once(checkout, environment):
    """Real environments, of a project that is installed in seconds."""

    def run(*words: str) -> subprocess.CompletedProcess:
        command = [
            sys.executable,
            'tools/maintenance/compatibility.py',
            '--space',
            '1',
        ]
        return subprocess.run(
            [*command, *words],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    file = checkout / 'docs/compatibility.jsonl'
    cells = ('--cells', f'onedl-*-{HERE}')
    first = run(*cells)
    assert first.returncode == 1, first.stdout
    oldest, newest = results.read_records(file)
    assert (oldest['outcome'], newest['outcome']) == ('passed', 'failed')
    assert (oldest['passed'], newest['passed']) == (2, 1)
    assert newest['failing'] == ['test_it.py::test_old']
    assert '2.0.0' in newest['messages']['test_it.py::test_old']
    assert oldest['packages']['iniconfig'] == '2.0.0'
    assert newest['versions']['python'].startswith(HERE)
    folder = checkout / 'work_dirs/compatibility'
    assert [file.name for file in folder.iterdir()] == ['cells.txt']
    listed = ['git', 'status', '--porcelain', '--untracked-files=normal']
    made = subprocess.check_output(listed, cwd=checkout, text=True).split()
    assert made[1::2] == ['docs/', 'work_dirs/']

    # Once more: nothing has changed. A failure that is known is no news.
    second = run(*cells)
    assert second.stdout.count('no version changed') == 2
    assert second.returncode == 1 and len(results.read_records(file)) == 2
    again = run('--again', '--compare', '--cells', CELL)
    assert again.returncode == 0 and len(results.read_records(file)) == 3

    # A floor without a wheel, and a selection of tests.
    setup = checkout / 'setup.cfg'
    setup.write_text(setup.read_text().replace('>=2.0.0', '>=0.0.0.7'))
    commit(checkout)
    third = run(*cells, '--', '-k', 'any')
    assert third.returncode == 0, third.stdout
    oldest, newest = results.read_records(file)[3:]
    assert oldest['outcome'] == 'no wheels' and newest['tests'] == ['-k', 'any']
    assert oldest['reason'].startswith('iniconfig 0.0.0.7 has no wheel')
    assert (newest['outcome'], newest['passed']) == ('passed', 1)
    page = (checkout / 'docs/compatibility.md').read_text()
    assert len(rows(page)) == 4
