"""What works without the laboratory's libraries, and what says so."""

import subprocess
import sys

import pytest

#: None of them is needed to train with the method.
LAB = ('pandas', 'statsmodels', 'jinja2', 'sklearn', 'scipy', 'skimage')
MM = ('mmengine', 'mmpretrain', 'mmcv')


def without(names, code: str, root, environment) -> subprocess.CompletedProcess:
    """Run code where importing those packages fails as if they were absent."""
    hide = f'import sys\nfor name in {names!r}: sys.modules[name] = None\n'
    return subprocess.run(
        [sys.executable, '-c', hide + code],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    'names, code',
    [
        ((*LAB, 'resource'), 'import u1_plugin, u1_plugin.measure'),
        ((*LAB, 'resource'), 'import u1_plugin.lab'),
        (
            (*LAB, *MM, 'matplotlib', 'rich'),
            'from u1_plugin.nn import U1Branch',
        ),
    ],
    ids=['method', 'components of the laboratory', 'modules'],
)
def test_importing_needs_none_of_them(names, code, root, environment):
    done = without(names, code, root, environment)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    'code, missing',
    [
        ("import runpy; runpy.run_path('tools/report.py')", 'pandas'),
        (
            "import runpy; runpy.run_path('tools/studies/orthant_maps.py')",
            'sklearn',
        ),
        ('import u1_plugin.lab.benchmark.arm_statistics', 'scipy'),
        ('import u1_plugin.lab.analysis.html_report', 'jinja2'),
        (
            'from u1_plugin.measure import estimate\n'
            'estimate.t_estimate(1.0, 1.0, 3.0)',
            'scipy',
        ),
    ],
)
def test_what_needs_one_names_the_extra(code, missing, root, environment):
    done = without((missing,), code, root, environment)
    assert done.returncode == 1
    words = f"{missing} is not installed; run pip install 'u1_plugin[lab]'"
    assert words in done.stderr


def test_importing_changes_no_other_package(root, environment):
    code = """
from mmengine.hooks import CheckpointHook
before = list(CheckpointHook._default_greater_keys)
import u1_plugin.lab
assert CheckpointHook._default_greater_keys == before
"""
    done = without((), code, root, environment)
    assert done.returncode == 0, done.stderr[-2000:]
