"""Pages, examples and habits: what strangers read is true."""

import ast
import configparser
import doctest
import itertools
import logging
import os
import re
import subprocess
import sys
from importlib import import_module
from typing import Dict, List, Set

import nbformat
import pytest
import yaml
from nbclient import NotebookClient
from test_rooms import DIRECTIONS
from twins import ROOT, load_tool

import u1_plugin.lab.registration
import u1_plugin.mm.registration

TOOL = load_tool('maintenance/zoo_page.py')
NOTEBOOK = ROOT / 'docs/tutorial.ipynb'
ROOMS = list(DIRECTIONS)
try:
    import_module('u1_plugin.timm')
except ImportError:  # timm's tasks need Python 3.10
    ROOMS.remove('timm')
#: Public names with an example, at least.
EXAMPLES = {
    'geometry': {
        *('angle_difference', 'feature_moment', 'image_moment'),
        *('mirrored', 'off_axis_angle', 'pca_basis', 'random_basis'),
        *('resultant_length', 'to_positive_orthant', 'to_unit'),
    },
    'nn': {
        *('BottleneckAngleNeck', 'ClassAngles', 'ClassTarget'),
        *('FeaturePlane', 'MapCollector', 'MapReader', 'U1Branch'),
        *('U1Loss', 'find_maps'),
    },
    'timm': {'U1ClassificationTask'},
}


def modules_with_examples() -> List[str]:
    """Modules of the package that have ``>>>`` in them, but for the lab's."""
    files = (ROOT / 'u1_plugin').rglob('*.py')
    names = [
        '.'.join(file.relative_to(ROOT).with_suffix('').parts)
        for file in files
        if '>>> ' in file.read_text(encoding='utf-8')
        and not {'.mim', 'lab'} & set(file.parts)
    ]
    return sorted(name for name in names if _room(name) in ROOMS)


def _room(module: str) -> str:
    """The modules beside the rooms count as geometry's."""
    room = module.split('.')[1]
    return room if room in DIRECTIONS else 'geometry'


@pytest.mark.parametrize('name', modules_with_examples())
def test_examples_give_what_they_say(name):
    module = import_module(name)
    logging.disable()  # without MMEngine, the branch's log prints nothing
    try:
        done = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    finally:
        logging.disable(logging.NOTSET)
    assert done.attempted and not done.failed


@pytest.mark.parametrize('room', sorted(set(EXAMPLES) & set(ROOMS)))
def test_main_names_have_examples(room):
    package = import_module(f'u1_plugin.{room}')
    without = {
        name
        for name in EXAMPLES[room]
        if '>>> ' not in (getattr(package, name).__doc__ or '')
    }
    assert not without


@pytest.mark.parametrize('room', ROOMS)
def test_every_public_name_is_in_the_reference(room):
    text = (ROOT / f'docs/api/{room}.md').read_text(encoding='utf-8')
    if f'automodule:: u1_plugin.{room}' in text:
        assert ':imported-members:' in text  # all of `__all__`
        package = import_module(f'u1_plugin.{room}')
        public = [getattr(package, name) for name in package.__all__]
        # Functions and classes; constants have comments in the source.
        assert all(item.__doc__ for item in public)
        return
    registration = getattr(u1_plugin, room).registration
    for _, components in registration.COMPONENTS:
        for component in components:
            if component.__module__.startswith(f'u1_plugin.{room}'):
                name = f'{component.__module__}.{component.__qualname__}'
                assert f':: {name}\n' in text


def test_the_zoo_page_is_what_the_tool_writes():
    committed = (ROOT / 'docs/zoo.md').read_text(encoding='utf-8')
    assert TOOL.page() == committed, 'run tools/maintenance/zoo_page.py'


def test_the_zoo_page_is_written_whole_and_over_nothing_else(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(TOOL, 'page', lambda: f'{TOOL.TITLE}new\n')
    page, other = tmp_path / 'zoo.md', tmp_path / 'notes.md'
    for _ in range(2):
        monkeypatch.setattr('sys.argv', ['zoo_page.py', '--out', str(page)])
        TOOL.main()
    assert page.read_text() == f'{TOOL.TITLE}new\n'
    other.write_text('mine')
    monkeypatch.setattr('sys.argv', ['zoo_page.py', '--out', str(other)])
    with pytest.raises(SystemExit):
        TOOL.main()
    assert other.read_text() == 'mine'


def closure(edges: Set[tuple]) -> Dict[str, set]:
    """What each room reaches over any number of arrows."""
    reached = {room: {b for a, b in edges if a == room} for room in DIRECTIONS}
    for via, room in itertools.product(DIRECTIONS, DIRECTIONS):
        if via in reached[room]:
            reached[room] |= reached[via]
    return reached


def test_the_figure_of_the_rooms_is_true():
    text = (ROOT / 'CONTRIBUTING.md').read_text(encoding='utf-8')
    figure = re.search(r'^```mermaid\n(.*?)^```', text, re.M | re.S)[1]
    edges = set(re.findall(r'(\w+) --> (\w+)', figure))
    reached = closure(edges)
    assert reached == DIRECTIONS
    # No arrow that others make superfluous.
    assert all(closure(edges - {edge}) != reached for edge in edges)


@pytest.mark.parametrize('page', ['CONTRIBUTING.md', 'CHANGELOG.md'])
def test_files_that_pages_name_are_there(page):
    text = (ROOT / page).read_text(encoding='utf-8')
    top = r'(?:u1_plugin|tests|tools|configs|docs)'
    # `u1_plugin/nn` is a path, `u1_plugin[lab]` and `u1_plugin::` are not.
    paths = set(re.findall(rf'`({top}/[\w./-]+)`', text))
    assert len(paths) > 1
    for path in paths:
        assert (ROOT / path).exists(), path


def test_the_version_has_its_section_of_the_changelog():
    text = (ROOT / 'CHANGELOG.md').read_text(encoding='utf-8')
    assert f'\n## [{u1_plugin.__version__}]' in text


def test_hooks_before_commits_run_the_commands_of_the_tests():
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())
    entries = {
        hook['id']: hook['entry'].split(' -m ', 1)[1]
        for hook in hooks['repos'][0]['hooks']
    }
    script = (ROOT / 'tools/check.sh').read_text()
    script = ' '.join(script.replace('\\\n', ' ').split())
    for command in entries.values():
        assert f'"$PYTHON" -m {command} ' in script
    assert set(entries) == {'ruff-check', 'ruff-format', 'mypy'}


def test_issue_forms_ask_for_what_is_needed():
    folder = ROOT / '.github/ISSUE_TEMPLATE'
    needed = {
        'bug.yml': {'versions', 'config', 'command', 'happened'},
        'results.yml': {'page', 'yours', 'how'},
    }
    for name, fields in needed.items():
        form = yaml.safe_load((folder / name).read_text(encoding='utf-8'))
        assert {'name', 'description', 'body'} <= set(form)
        required = {
            part['id']
            for part in form['body']
            if part.get('validations', {}).get('required')
        }
        assert required == fields


def test_the_command_that_prints_versions_prints_them():
    form = (ROOT / '.github/ISSUE_TEMPLATE/bug.yml').read_text()
    code = re.search(r'python -c "(.*?)"`', form)[1]
    printed = subprocess.check_output([sys.executable, '-c', code], text=True)
    names = set(re.findall(r'([\w-]+)==\d', printed))
    assert {'torch', 'numpy'} <= names
    assert names & {'mmengine', 'onedl-mmengine'}


def test_the_release_check_is_a_script():
    script = ROOT / 'tools/maintenance/release_check.sh'
    subprocess.run(['bash', '-n', str(script)], check=True)
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    extras = re.search(r'\$wheel\[(.*?)\]', script.read_text())[1].split(',')
    assert set(extras) <= set(config['options.extras_require'])


def code_cells() -> list:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == 'code']


def test_the_notebook_is_whole():
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))
    outputs = [out for cell in code_cells() for out in cell.outputs]
    assert all(out.output_type != 'error' for out in outputs)
    assert str(ROOT) not in NOTEBOOK.read_text(encoding='utf-8')
    for cell in code_cells():
        ast.parse(cell.source.replace('%matplotlib', '# '))


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', str(ROOT))
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    monkeypatch.delenv('MPLBACKEND', raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook,
        timeout=1800,
        kernel_name='python3',
        resources=dict(metadata=dict(path=str(tmp_path))),
    ).execute()
    printed = '\n'.join(
        output.get('text', '')
        for cell in notebook.cells
        for output in cell.get('outputs', [])
    )
    accuracies = re.findall(r'test top-1: ([\d.]+)', printed)
    # Ten classes: above chance, not by luck.
    assert len(accuracies) == 2 and min(map(float, accuracies)) > 30
    assert 'equal weights: True' in printed


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, '-W', 'ignore', '-m', 'sphinx', '-W'),
            *('--keep-going', '-q', '-b', 'html', '-d', str(tmp_path / 'd')),
            *(str(ROOT / 'docs'), str(tmp_path / 'site')),
        ],
        env=dict(os.environ, PYTHONWARNINGS='ignore'),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    for page in ('index', 'zoo', 'tutorial', 'results/README', 'api/nn'):
        assert (tmp_path / f'site/{page}.html').is_file()
    reference = (tmp_path / 'site/api/nn.html').read_text(encoding='utf-8')
    for name in import_module('u1_plugin.nn').__all__:
        assert f'id="u1_plugin.nn.{name}"' in reference
