"""What imports what, what the plugin registers, and what it declares."""

import ast
import configparser
import re
import sys
import sysconfig
from pathlib import Path
from typing import Iterator, List, Tuple

import mmengine.registry
import mmpretrain.registry
import pytest
from mmengine.registry import Registry

from u1_plugin.lab import registration as lab_registration
from u1_plugin.lab.subsets import subset_dataset
from u1_plugin.mm import registration

#: Rooms that each room may import.
DIRECTIONS = {
    'geometry': set(),
    'nn': {'geometry'},
    'memory': {'geometry'},
    'measure': {'geometry', 'nn'},
    'mm': {'geometry', 'nn', 'memory', 'measure'},
    'timm': {'geometry', 'nn', 'memory', 'measure'},
    'lab': {'geometry', 'nn', 'memory', 'measure', 'mm', 'timm'},
}
#: Modules beside the rooms, which know of no room.
SHARED = {
    'dist',
    'extras',
    'files',
    'networks',
    'options',
    'registry',
    'unfinished',
    'version',
}
#: Where a distribution has not the name of its module.
DISTRIBUTIONS = dict(
    PIL='pillow',
    faiss='faiss-cpu',
    fontTools='fonttools',
    imagecorruptions='imagecorruptions-imaug',
    mmcv='mmcv-lite',
    resvg_py='resvg-py',
    skimage='scikit-image',
    sklearn='scikit-learn',
    torch='torchvision',
    yaml='pyyaml',
)
MM_PACKAGES = {'mmengine', 'mmcv', 'mmpretrain'}
#: Of the laboratory and the tools alone.
LABORATORY = {'jinja2', 'pandas', 'rich', 'sklearn', 'statsmodels'}
#: Of a part of the method that does without until it is asked for.
ON_DEMAND = {'faiss', 'matplotlib', 'scipy', 'yaml'}


def imports(file: Path, root: Path) -> Iterator[Tuple[str, bool]]:
    """Absolute name of every import, and whether it runs on import."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Tuple[str, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, at_once
        elif isinstance(node, ast.ImportFrom):
            parts = file.relative_to(root).with_suffix('').parts
            base = list(parts[: len(parts) - node.level]) if node.level else []
            base += node.module.split('.') if node.module else []
            for alias in node.names:
                yield '.'.join([*base, alias.name]), at_once
        else:
            if isinstance(node, ast.FunctionDef) or (
                isinstance(node, ast.If)
                and ast.unparse(node.test) == 'TYPE_CHECKING'
            ):
                at_once = False
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_once)

    yield from visit(ast.parse(file.read_text()), True)


def modules(root: Path, room: str = '') -> List[Path]:
    return sorted((root / 'u1_plugin' / room).rglob('[!.]*.py'))


def foreign(file: Path, root: Path) -> Iterator[Tuple[str, bool]]:
    """Packages that are neither the plugin nor Python's own."""
    for name, at_once in imports(file, root):
        top = name.partition('.')[0]
        if top != 'u1_plugin' and top not in STANDARD:
            yield top, at_once


# `sys.stdlib_module_names` came with Python 3.10.
_STDLIB = Path(sysconfig.get_path('stdlib'))
STANDARD = {
    *getattr(sys, 'stdlib_module_names', sys.builtin_module_names),
    *(file.stem for file in _STDLIB.glob('[a-z_]*')),
    *(file.name.partition('.')[0] for file in _STDLIB.glob('lib-dynload/*')),
}


@pytest.mark.parametrize('room', DIRECTIONS)
def test_rooms_import_in_one_direction(root, room):
    files = modules(root, room)
    assert files
    allowed = DIRECTIONS[room] | {room}
    if room != 'geometry':
        allowed |= SHARED
    for file in files:
        for name, _ in imports(file, root):
            parts = name.split('.')
            if parts[0] == 'u1_plugin':
                assert parts[1] in allowed, f'{file} imports {name}'


def test_what_lies_beside_the_rooms_knows_none_of_them(root):
    for name in SHARED:
        for imported, _ in imports(root / f'u1_plugin/{name}.py', root):
            package, _, module = imported.partition('.')
            assert package != 'u1_plugin' or module.split('.')[0] in SHARED
    beside = {file.stem for file in (root / 'u1_plugin').glob('*.py')}
    folders = {file.parent.name for file in modules(root)} - {'u1_plugin'}
    assert beside == SHARED | {'__init__'}
    assert set(DIRECTIONS) <= folders


@pytest.mark.parametrize('room', DIRECTIONS)
def test_rooms_need_what_they_are_meant_to(root, room):
    for file in modules(root, room):
        for top, at_once in foreign(file, root):
            line = f'{file} imports {top}'
            if room not in ('mm', 'lab'):
                assert top not in MM_PACKAGES, line
            if room != 'lab':
                assert top not in LABORATORY, line
                assert not (at_once and top in ON_DEMAND), line
            if room not in ('timm', 'lab'):
                assert not (at_once and top == 'timm'), line


def test_every_import_is_declared(root):
    """In ``setup.cfg``: a dependency, or one of an extra.

    A tool may also import what lies beside it.
    """
    config = configparser.ConfigParser()
    config.read(root / 'setup.cfg')
    text = config['options']['install_requires'] + '\n'.join(
        config['options.extras_require'].values()
    )
    declared = set(re.findall(r'^[\w-]+', text.replace('_', '-'), re.MULTILINE))
    tools = sorted((root / 'tools').rglob('*.py'))
    for file in [*modules(root), *tools]:
        for top, _ in foreign(file, root):
            if file in tools and (file.parent / f'{top}.py').is_file():
                continue
            name = DISTRIBUTIONS.get(top, top).replace('_', '-')
            assert name in declared, f'{file} imports {top}'


def registries() -> List[Registry]:
    every = {
        id(value): value
        for package in (mmengine.registry, mmpretrain.registry)
        for value in vars(package).values()
        if isinstance(value, Registry)
    }
    return list(every.values())


def test_what_is_registered_is_in_the_lists():
    found = {
        (registry, component)
        for registry in registries()
        for component in registry.module_dict.values()
        if getattr(component, '__module__', '').partition('.')[0] == 'u1_plugin'
    }
    listed = {
        (registry, component)
        for part in (registration, lab_registration)
        for registry, components in part.COMPONENTS
        for component in components
    }
    datasets = mmengine.registry.DATASETS
    assert found == listed | {(datasets, subset_dataset)}
    names = [component.__name__ for _, component in found]
    assert len(set(names)) == len(names)


def test_nothing_else_registers(root):
    for file in modules(root):
        if file.name != 'registration.py':
            for node in ast.walk(ast.parse(file.read_text())):
                name = getattr(node, 'attr', None)
                assert name != 'register_module', f'{file}:{node.lineno}'


def test_files_are_short(root):
    """Longer ones hold two ideas."""
    places = ('u1_plugin', 'tools', 'tests', 'configs', 'docs')
    files = [file for p in places for file in (root / p).rglob('*.py')]
    lengths = {
        file.relative_to(root).as_posix(): file.read_text().count('\n')
        for file in files
    }
    assert len(lengths) > 300
    assert {name: n for name, n in lengths.items() if n > 300} == {}


def test_tests_mirror_the_rooms(root):
    """One room of `mm`, the hooks, is tested with what they are hooked to."""
    rooms = {
        file.parent.relative_to(root / 'u1_plugin').as_posix()
        for file in modules(root)
    } - {'.', 'mm/hooks'}
    assert {'lab/analysis', 'lab/benchmark', *DIRECTIONS} == rooms
    for room in rooms:
        assert list((root / 'tests' / room).glob('test_*.py')), room


def test_a_name_of_a_module_means_one_thing(root):
    """`registration` is the same in two rooms."""
    names = [file.stem for file in modules(root)]
    twice = {name for name in names if names.count(name) > 1}
    assert twice == {'__init__', 'registration'}
