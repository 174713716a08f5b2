"""What a plain `pip install` of the wheel holds, and that it works."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.fileio import load

CONFIG = 'digits/resnet18-narrow_1xb64_digits_u1.py'


@pytest.fixture(scope='module')
def wheel(root, tmp_path_factory) -> Path:
    """Built from a copy, so that no build folder appears in the checkout."""
    folder = tmp_path_factory.mktemp('wheel')
    tracked = subprocess.check_output(
        ['git', 'ls-files', '-co', '--exclude-standard'], cwd=root, text=True
    )
    copy = folder / 'source'
    for name in tracked.splitlines():
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        source = root / name
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.exists():
            target.write_bytes(source.read_bytes())
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps'),
            *('--no-build-isolation', '--wheel-dir', str(folder), str(copy)),
        ],
        check=True,
    )
    return next(folder.glob('*.whl'))


@pytest.fixture(scope='module')
def site(wheel, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('site')
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'install', '--quiet', '--no-deps'),
            *('--target', str(folder), str(wheel)),
        ],
        check=True,
    )
    return folder


def run(site: Path, folder: Path, *args: str) -> str:
    return subprocess.check_output(
        [sys.executable, *args],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=str(site)),
        text=True,
    )


def test_every_config_and_tool_is_in_the_wheel(root, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools'):
        for file in (root / folder).rglob('*'):
            if file.suffix in ('.py', '.sh', '.yml'):
                name = f'u1_plugin/.mim/{file.relative_to(root)}'
                assert name in names
    assert 'u1_plugin/.mim/model-index.yml' in names
    assert not any(name.startswith(('tests', 'configs')) for name in names)


def test_the_index_names_files_that_exist(site):
    mim = site / 'u1_plugin' / '.mim'
    for metafile in load(mim / 'model-index.yml')['Import']:
        content = load(mim / metafile)
        collections = {c['Name'] for c in content['Collections']}
        for model in content['Models']:
            assert (mim / model['Config']).is_file()
            assert model['In Collection'] in collections


def test_configs_of_the_installed_package_are_found(site, tmp_path):
    (tmp_path / 'mine.py').write_text(f"_base_ = ['u1_plugin::{CONFIG}']\n")
    code = (
        'import u1_plugin, mmengine; print(u1_plugin.__file__);'
        "print(mmengine.Config.fromfile('mine.py').model.head.type)"
    )
    printed = run(site, tmp_path, '-c', code).split()
    assert Path(printed[-2]).is_relative_to(site)
    assert printed[-1] == 'U1ClsHead'


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_tools_of_the_installed_package_run(site, tmp_path, tool):
    path = site / 'u1_plugin/.mim/tools' / tool
    assert '--cfg-options' in run(site, tmp_path, str(path), '--help')


def test_no_mm_package_is_a_hard_dependency(site):
    metadata = next(site.glob('u1_plugin*.dist-info')) / 'METADATA'
    required = [
        line.split(':', 1)[1]
        for line in metadata.read_text().splitlines()
        if line.startswith('Requires-Dist')
    ]
    hard = [line for line in required if 'extra ==' not in line]
    assert hard and not any('mm' in line for line in hard)
    assert any(
        'setuptools<81' in line and 'openmmlab' in line for line in required
    )
