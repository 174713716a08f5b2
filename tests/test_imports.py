"""What importing the plugin does, to others and where others are missing."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Set

import pytest
from test_rooms import LABORATORY, MM_PACKAGES, ON_DEMAND

from u1_plugin.mm import compat


def run(code: str, *options: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', *options, '-c', code],
        env=dict(os.environ, **environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


#: What MMPretrain loads sooner or later whenever it is used.
MMPRETRAIN = """
import mmengine, mmengine.hub, mmengine.infer, mmengine.runner, mmengine.testing
import mmengine.visualization, mmengine.model, mmengine.optim
import mmpretrain, mmpretrain.apis, mmpretrain.datasets, mmpretrain.engine
import mmpretrain.evaluation, mmpretrain.models, mmpretrain.visualization
import random, sys, types, numpy as np, torch
"""

UNCHANGED = (
    MMPRETRAIN
    + """
OTHERS = ('mmengine', 'mmcv', 'mmpretrain', 'torch', 'torchvision', 'numpy')
OTHERS += ('pickle', 'timm', 'builtins', 'copyreg', 'logging', 'warnings')

def attributes():
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition('.')[0] not in OTHERS or module is None:
            continue
        for key, value in list(vars(module).items()):
            if isinstance(value, types.ModuleType):
                continue
            found[name, key] = value
            if isinstance(value, type) and value.__module__ == name:
                for part, what in list(vars(value).items()):
                    found[name, key, part] = what
    return found

def states():
    return (random.getstate(), np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(), torch.get_default_dtype(),
            set(torch.serialization.get_safe_globals()),
            torch.are_deterministic_algorithms_enabled())

before, modules, state = attributes(), set(sys.modules), states()
import u1_plugin
assert states() == state
after = attributes()
for name, value in after.items():
    new = name[0] not in modules
    if not new and before.get(name, after) is not value:
        print('changed', '.'.join(name))
for name in before.keys() - after.keys():
    print('changed', 'gone:', '.'.join(name))
"""
)


def test_importing_changes_no_attribute_of_another_package():
    """Module by module and class by class; nor random states, nor lists."""
    # OneDL's packages print lines of their own.
    lines = run(UNCHANGED).splitlines()
    start = 'changed '
    changed = {line[len(start) :] for line in lines if line.startswith(start)}
    # MMEngine's registry of loaders makes a new table for every entry.
    table = 'mmengine.runner.checkpoint.CheckpointLoader._schemes'
    assert changed == (set() if compat.reads_history() else {table})


def test_importing_enters_the_plugins_name_alone():
    """MMEngine's table of packages whose configs it finds."""
    code = """
from mmengine.config.utils import MODULE2PACKAGE
before = dict(MODULE2PACKAGE)
import u1_plugin
assert MODULE2PACKAGE.pop('u1_plugin') and MODULE2PACKAGE == before
"""
    run(MMPRETRAIN + code)


def test_importing_loads_no_large_library():
    names = sorted(LABORATORY | ON_DEMAND | {'PIL', 'timm', 'IPython', 'cv2'})
    code = f"""
before = set({names}) & set(sys.modules)
import u1_plugin
print(sorted(set({names}) & set(sys.modules) - before))
"""
    assert run(MMPRETRAIN + code).split('\n')[-2] == '[]'


def test_import_where_python_has_no_resource_module():
    """Windows has none."""
    code = 'import sys; sys.modules["resource"] = None\nimport u1_plugin'
    run(code)


@pytest.fixture(scope='module')
def without(tmp_path_factory, root):
    """Makes folders of installed packages that lack the named ones."""

    def make(missing: Set[str]) -> dict:
        site = tmp_path_factory.mktemp('site')
        for entry in Path(sysconfig.get_path('purelib')).iterdir():
            name = re.split(r'[.-]', entry.name)[0]
            if name not in missing and entry.suffix != '.pth':
                (site / entry.name).symlink_to(entry)
        # Without `site` (-S) Python sees no other package.
        return dict(PYTHONPATH=f'{root}{os.pathsep}{site}')

    return make


def test_without_mm_packages_the_method_works(without):
    """Nor any library of the laboratory, timm and faiss."""
    lack = MM_PACKAGES | LABORATORY | ON_DEMAND | {'timm', 'PIL', 'torchvision'}
    code = f"""
import importlib.util, torch
assert not any(map(importlib.util.find_spec, {sorted(lack)}))
import u1_plugin
from u1_plugin import geometry, memory, nn
backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
pool = torch.nn.AdaptiveAvgPool2d(1)
model = torch.nn.Sequential(backbone, pool, torch.nn.Flatten())
branch = nn.U1Branch(model, 8, neck=dict(layers=['0'], plane='joint'))
with branch.reading():
    model(torch.rand(4, 3, 9, 9))
branch(torch.arange(4))['loss_u1'].backward()
assert backbone[0].weight.grad.abs().sum() > 0
print(u1_plugin.measure.EnergyAccumulator.__module__)
for name in ('U1ImageClassifier', 'mm', 'timm'):
    try:
        getattr(u1_plugin, name)
    except ImportError as error:
        print(error)
try:
    from u1_plugin import U1TimmClassifier
except ImportError as error:
    print(error)
assert not hasattr(u1_plugin, 'nonsense')
"""
    printed = run(code, '-S', **without(lack)).splitlines()
    assert printed[0].startswith('u1_plugin.measure')
    for line in (printed[1], printed[2], printed[4]):
        assert 'mmengine, mmcv, mmpretrain cannot be found' in line
        assert 'u1_plugin[openmmlab,mmcv-lite]' in line
        assert 'u1_plugin[onedl]' in line
    assert 'u1_plugin[timm]' in printed[3]


def test_a_missing_mm_package_is_named(without):
    code = """
import u1_plugin
try:
    u1_plugin.mm
except ImportError as error:
    print(error)
"""
    printed = run(code, '-S', **without({'mmcv'}))
    assert 'and mmcv cannot be found' in printed


def test_timm_needs_no_mm_package(without):
    pytest.importorskip('u1_plugin.timm', exc_type=ImportError)
    lack = MM_PACKAGES | LABORATORY
    code = 'import u1_plugin; print(u1_plugin.timm.U1ClassificationTask)'
    assert 'u1_plugin.timm' in run(code, '-S', **without(lack))
