"""What a plain `pip install` of the wheel holds, and that it works."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.fileio import load

CONFIG = 'digits/resnet18-narrow_1xb64_digits_u1.py'
FIND = f"""
import os, mmengine, mmpretrain, u1_plugin
from mmengine.hub import get_config
print(u1_plugin.__file__)
config = get_config('u1_plugin::{CONFIG}')
print(os.path.realpath(config.filename))
print(config.model.type)
mine = mmengine.Config.fromfile('mine.py')
print(mine.model.type)
model, = mmpretrain.list_models('resnet18-narrow_1xb64_digits_u1')
print(mmpretrain.ModelHub.get(model).config.filename)
"""


def python(folder: Path, path: Path, *args: str) -> str:
    """Run Python in ``folder`` with ``path`` ahead of what is installed."""
    return subprocess.run(
        [sys.executable, *args],
        cwd=folder,
        env=dict(os.environ, PYTHONPATH=str(path)),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def build(source: Path, what: str, out: Path) -> Path:
    """Have setuptools build what pip would ask it for."""
    code = (
        'import sys; from setuptools import build_meta\n'
        'print(getattr(build_meta, sys.argv[1])(sys.argv[2]))'
    )
    printed = python(source, source, '-c', code, what, str(out))
    return out / printed.splitlines()[-1]


def found(folder: Path, path: Path) -> list:
    (folder / 'mine.py').write_text(f"_base_ = ['u1_plugin::{CONFIG}']\n")
    return python(folder, path, '-W', 'ignore', '-c', FIND).splitlines()[-5:]


@pytest.fixture(scope='module')
def source(root, tmp_path_factory) -> Path:
    """A copy, so that no build folder appears in the checkout."""
    listed = subprocess.check_output(
        ['git', 'ls-files', '-co', '--exclude-standard'], cwd=root, text=True
    )
    copy = tmp_path_factory.mktemp('source')
    for name in listed.splitlines():
        if (root / name).exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((root / name).read_bytes())
    return copy


@pytest.fixture(scope='module')
def wheel(source, tmp_path_factory) -> Path:
    """Built from the source distribution, which must hold all it needs."""
    folder = tmp_path_factory.mktemp('wheel')
    archive = build(source, 'build_sdist', folder)
    subprocess.run(
        [
            *(sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps'),
            *('--no-build-isolation', '--wheel-dir', str(folder)),
            str(archive),
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


def test_no_link_is_tracked(root):
    modes = subprocess.check_output(['git', 'ls-files', '-s'], cwd=root)
    assert not re.findall(rb'^120000.*$', modes, re.MULTILINE)


def test_every_config_and_tool_is_in_the_wheel(source, wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ('configs', 'tools'):
        for file in (source / folder).rglob('*'):
            if file.suffix in ('.py', '.sh', '.yml'):
                name = f'u1_plugin/.mim/{file.relative_to(source)}'
                # What needs a checkout is of no use there.
                assert (name in names) == ('maintenance' not in file.parts)
    assert 'u1_plugin/.mim/model-index.yml' in names
    assert 'u1_plugin/lab/analysis/report.html' in names
    tops = {name.partition('/')[0].partition('-')[0] for name in names}
    assert tops == {'u1_plugin'}


def test_the_wheel_holds_what_a_build_in_the_checkout_would(
    source, wheel, tmp_path
):
    direct = build(source, 'build_wheel', tmp_path)
    assert set(zipfile.ZipFile(direct).namelist()) == set(
        zipfile.ZipFile(wheel).namelist()
    )


def test_the_index_names_files_that_exist(site):
    mim = site / 'u1_plugin' / '.mim'
    for metafile in load(mim / 'model-index.yml')['Import']:
        content = load(mim / metafile)
        collections = {c['Name'] for c in content['Collections']}
        for model in content['Models']:
            assert (mim / model['Config']).is_file()
            assert model['In Collection'] in collections


def test_an_installed_package_is_complete(site, tmp_path):
    package, config, kind, mine, listed = found(tmp_path, site)
    assert Path(package).is_relative_to(site)
    assert Path(config) == site / 'u1_plugin/.mim/configs' / CONFIG
    assert kind == mine == 'u1_plugin.U1ImageClassifier'
    assert Path(listed).is_relative_to(site)


def test_an_editable_installation_uses_the_checkout(source, tmp_path):
    build(source, 'build_editable', tmp_path)
    package, config, kind, mine, listed = found(tmp_path, source)
    assert Path(package).is_relative_to(source)
    assert Path(config) == source / 'configs' / CONFIG
    assert kind == mine == 'u1_plugin.U1ImageClassifier'
    assert Path(listed) == source / 'configs' / CONFIG
    # Once more: what an earlier installation left is renewed.
    build(source, 'build_editable', tmp_path)
    assert (source / 'configs' / CONFIG).is_file()


def test_a_checkout_works_before_any_installation(source, tmp_path):
    bare = tmp_path / 'bare'
    subprocess.run(['cp', '-r', str(source), str(bare)], check=True)
    subprocess.run(['rm', '-rf', str(bare / 'u1_plugin/.mim')], check=True)
    code = (
        'import mmpretrain, u1_plugin; print(u1_plugin.__file__)\n'
        'print(len(mmpretrain.list_models("*_u1")))'
    )
    package, count = python(tmp_path, bare, '-c', code).splitlines()[-2:]
    assert Path(package).is_relative_to(bare)
    assert int(count) > 20
    printed = python(tmp_path, bare, str(bare / 'tools/train.py'), '--help')
    assert '--cfg-options' in printed


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_tools_of_the_installed_package_run(site, tmp_path, tool):
    path = site / 'u1_plugin/.mim/tools' / tool
    assert '--cfg-options' in python(tmp_path, site, str(path), '--help')


def test_the_method_depends_on_torch_and_little_else(site):
    metadata = next(site.glob('u1_plugin*.dist-info')) / 'METADATA'
    required = re.findall(
        r'^Requires-Dist: (.*)$', metadata.read_text(), re.MULTILINE
    )
    hard = {
        re.split(r'[<>=!~; ]', line)[0]
        for line in required
        if 'extra ==' not in line
    }
    # torch comes with torchvision; the mm packages of the two families
    # overwrite one another, so neither can be a dependency.
    assert hard == {'numpy', 'safetensors', 'torchvision'}
    assert any(
        'setuptools<81' in line and 'openmmlab' in line for line in required
    )
