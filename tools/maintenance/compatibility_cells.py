"""Fresh environments for the test suite: which there are, and what runs there.

A cell is a family of mm packages, a choice of versions and a Python.
``tools/maintenance/compatibility.py`` runs them.
"""

import configparser
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

import compatibility_logs as logs

FAMILIES = dict(openmmlab='openmmlab,mmcv-lite', onedl='onedl')
PYTHONS = ('3.9', '3.10', '3.11', '3.12', '3.13')


class Cell(NamedTuple):
    """One environment."""

    family: str  # a key of `FAMILIES`
    choice: str  # oldest or newest
    python: str

    @property
    def name(self) -> str:
        """What the cell is called in records and options."""
        return '-'.join(self)


CELLS = {
    cell.name: cell
    for cell in (
        Cell(family, choice, python)
        for family in FAMILIES
        for choice in ('oldest', 'newest')
        for python in PYTHONS
    )
}


class NoWheels(Exception):
    """pip finds no versions that go together, or cannot install them."""


def requirements(root: Path, *extras: str) -> List[str]:
    """Lines of ``setup.cfg``: what is always needed, and extras."""
    config = configparser.ConfigParser()
    config.read(root / 'setup.cfg', encoding='utf-8')
    lines = config['options']['install_requires'].splitlines()
    for extra in extras:
        lines += config['options.extras_require'][extra].splitlines()
    return [line.strip() for line in lines if line.strip()]


def floors(root: Path, family: str) -> List[str]:
    """The least versions that ``setup.cfg`` states, as requirements of them.

    Those of the method, the mm packages and timm. torch has none of its own:
    the one that torchvision needs is taken.
    """
    extras = (*FAMILIES[family].split(','), 'timm')
    return [
        line.replace('>=', '==', 1)
        for line in requirements(root, *extras)
        if '>=' in line.partition(';')[0]  # after it, for which Python
    ]


@cache
def interpreter(python: str, bring: bool = True) -> Optional[str]:
    """A Python of this version: of PATH, pyenv or uv, if there is one.

    Args:
        python (str): Such as ``'3.12'``.
        bring (bool): Whether uv may download one.
    """
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv'))
    folders = [
        folder
        for folder in pyenv.glob(f'versions/{python}.*')
        if re.fullmatch(r'[\d.]+', folder.name)
    ]
    folders.sort(key=lambda folder: -int(folder.name.split('.')[-1]))
    version = platform.python_version().rpartition('.')[0]
    commands = [[sys.executable]] * (version == python) + [[f'python{python}']]
    commands += [[str(folder / 'bin/python')] for folder in folders]
    commands += [['uv', 'run', '--no-project', '--python', python, 'python']]
    # venv is apart on Debian; pyenv has commands of versions that are off.
    test = 'import ensurepip, sys, venv; print(sys._base_executable)'
    downloads = 'automatic' if bring else 'never'
    env = dict(os.environ, UV_PYTHON_DOWNLOADS=downloads)
    for command in commands:
        if shutil.which(command[0]):
            done = subprocess.run(
                [*command, '-c', test],
                capture_output=True,
                text=True,
                env=env,
            )
            if done.returncode == 0:
                return done.stdout.strip()
    return None


class Run:
    """One cell in a folder of its own.

    Args:
        cell (Cell): Which.
        python (str): The interpreter of its version.
        root (Path): The checkout whose last commit is tested.
        folder (Path): Must not exist yet.
    """

    def __init__(
        self, cell: Cell, python: str, root: Path, folder: Path
    ) -> None:
        self.cell, self.root, self.folder = cell, root, folder
        self.copy, self.log = folder / 'u1_plugin', folder / 'log.txt'
        self.python = str(folder / 'venv/bin/python')
        self.extras = f'{FAMILIES[cell.family]},test'
        (folder / 'tmp').mkdir(parents=True)
        # Threads of several processes would fight for the cores.
        self.plain = dict(os.environ, OMP_NUM_THREADS='1')
        for name in ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV', 'MPLBACKEND'):
            self.plain.pop(name, None)
        self.env = dict(
            self.plain,
            PYTHON=python,
            U1_VENV=str(folder / 'venv'),
            U1_EXTRAS=self.extras,
            TMPDIR=str(folder / 'tmp'),
            PIP_PREFER_BINARY='1',
            PIP_DISABLE_PIP_VERSION_CHECK='1',
        )

    def call(self, *command: str, **options: Any) -> int:
        """A command's exit status; what it prints becomes the log."""
        limit = options.pop('timeout', None)
        options = dict(dict(cwd=self.folder, env=self.env), **options)
        with self.log.open('w') as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
            try:
                return process.wait(limit)
            finally:
                if process.returncode is None:  # it and what it started
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()

    def must(self, *command: str) -> None:
        """Run a command that has to succeed.

        Raises:
            NoWheels: If it fails, with pip's words on the cause.
        """
        if self.call(*command):
            text = self.log.read_text(errors='replace')
            raise NoWheels(logs.pip_line(text))

    def prepare(self) -> Dict[str, str]:
        """Copy, empty environment, and the versions that it would get."""
        clone = ('git', 'clone', '--quiet', str(self.root), str(self.copy))
        new = (self.env['PYTHON'], '-m', 'venv', self.env['U1_VENV'])
        if self.call(*clone) or self.call(*new):
            raise SystemExit(self.log.read_text(errors='replace'))
        names = [re.split(r'[^\w-]', s)[0] for s in requirements(self.copy)]
        # Their sources would build for hours, or fail.
        self.env['PIP_ONLY_BINARY'] = ','.join(['torch', *names])
        if self.cell.choice == 'oldest':
            file = self.folder / 'floors.txt'
            file.write_text('\n'.join(floors(self.copy, self.cell.family)))
            self.env['PIP_CONSTRAINT'] = str(file)
        plan = self.folder / 'plan.json'
        pip = (self.python, '-m', 'pip', 'install', '--quiet')
        self.must(*pip, '--upgrade', 'pip')  # old ones download for a plan
        # Not quiet, for then pip keeps the cause of a conflict to itself.
        requirement = f'{self.copy}[{self.extras}]'
        self.must(*pip[:-1], '--dry-run', '--report', str(plan), requirement)
        planned = json.loads(plan.read_text(encoding='utf-8'))
        versions = logs.packages(i['metadata'] for i in planned['install'])
        python = planned['environment']['python_full_version']
        return dict(versions, python=python)

    def install(self) -> Dict[str, str]:
        """What ``tools/setup_env.sh`` makes; all packages that it holds."""
        script = str(self.copy / 'tools/setup_env.sh')
        self.must('bash', '-euo', 'pipefail', '-c', 'source "$0"', script)
        command = [self.python, '-m', 'pip', 'list', '--format', 'json']
        listed = subprocess.check_output(command, env=self.env)
        return logs.packages(json.loads(listed))

    def tests(self, options: List[str], hours: float) -> Dict[str, Any]:
        """Counts, failing tests, why tests were skipped, seconds of pytest."""
        report = self.folder / 'report.xml'
        processes = os.environ.get('U1_TEST_PROCESSES', 'auto')
        command = [self.python, '-m', 'pytest', '-q', '-n', processes]
        command += ['--dist', 'worksteal', '--continue-on-collection-errors']
        command += ['-o', 'junit_family=xunit1', f'--junitxml={report}']
        command += [f'--basetemp={self.folder / "tests"}', *options]
        start, reason, status = time.monotonic(), '', 1
        here = dict(cwd=self.copy, env=self.plain, timeout=hours * 3600)
        try:
            status = self.call(*command, **here)
        except subprocess.TimeoutExpired:
            reason = f'stopped after {hours:g} hours'
        outcomes = {}
        if report.is_file():
            outcomes = logs.outcomes(report, f'{self.folder}/')
        failing = {**outcomes.get('errors', {}), **outcomes.get('failed', {})}
        # With 0 and 1 the tests ran.
        ran = any(outcomes.values()) and (status < 2 or failing)
        if not ran and not reason:
            lines = self.log.read_text(errors='replace').splitlines()
            reason = f'pytest ended with {status}: {"".join(lines[-1:])}'
        outcome = 'failed' if failing or status else 'passed'
        return dict(
            outcome='broken' if reason else outcome,
            reason=reason,
            **{kind: len(outcomes.get(kind, ())) for kind in logs.COUNTS},
            seconds=round(time.monotonic() - start),
            failing=sorted(failing),
            messages=failing,
            skips=Counter(outcomes.get('skipped', {}).values()),
        )
