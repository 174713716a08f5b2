"""The demo, from data to table and picture, cut short and called again."""

import inspect
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine import Config
from mmpretrain.registry import MODELS
from PIL import Image
from rich.console import Console

from u1_plugin.lab.demo_report import (
    conclusion,
    next_steps,
    paired_difference,
    print_next,
)


@pytest.fixture(scope='module')
def demo(root, environment, tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')

    def run(*args: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [
                sys.executable,
                str(root / 'tools/demo.py'),
                '--seeds',
                '2',
                *args,
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )

    run.folder = folder
    return run


def test_demo_reports_and_does_not_repeat_itself(demo):
    first = demo('--epochs', '2', '--workers', '1')
    assert first.returncode == 0, first.stdout + first.stderr
    # Quiet: what is told, in this order, and nothing of other libraries.
    assert first.stderr == ''
    assert not re.search('Loads checkpoint| INFO ', first.stdout)
    told = ['4 of 4', 'top-1 (%)', 'Result over 2 paired seeds', 'moments.png']
    places = [first.stdout.index(words) for words in (*told, 'to try next')]
    assert places == sorted(places)
    out = demo.folder / 'work_dirs/demo'
    report = json.loads((out / 'report.json').read_text())
    accuracy = report['accuracy']
    assert set(accuracy) == {'baseline', 'u1'}
    differences = [b - a for a, b in zip(*accuracy.values())]
    assert report['difference']['mean'] == pytest.approx(sum(differences) / 2)
    with Image.open(out / 'moments.png') as picture:
        assert picture.width > picture.height > 500

    # A second call trains nothing: no checkpoint is written again.
    files = {f: f.stat().st_mtime_ns for f in out.rglob('*.pth')}
    assert len(files) == 4
    second = demo('--epochs', '2', '--workers', '1')
    assert second.returncode == 0
    assert {f: f.stat().st_mtime_ns for f in out.rglob('*.pth')} == files
    again = json.loads((out / 'report.json').read_text())
    assert again['accuracy'] == accuracy

    # Other settings must not mix with these results.
    other = demo('--epochs', '3')
    assert other.returncode and 'choose another folder' in other.stderr


def test_too_few_seeds(demo):
    done = demo('--seeds', '1')
    assert done.returncode == 2 and 'at least 2' in done.stderr


def test_next_steps_are_commands_of_files_that_are_there(root):
    text = next_steps(root, 'PYTHON')
    lines = [line.split() for line in text.splitlines()]
    commands = [words for words in lines if words[:1] == ['PYTHON']]
    assert len(commands) == 4
    paths = [word for words in lines for word in words if str(root) in word]
    assert len(paths) == 4 + 2 + 2
    for path in paths:
        assert Path(path.rstrip(')')).is_file(), path
    made = commands[1][-1]  # what the converter writes, the others read
    assert made in commands[2] and made in commands[3]
    own = re.search(r'_base_ = .*\n.*\n', text)[0]
    config = Config.fromstring(inspect.cleandoc(own), '.py')
    assert config.model.type == 'u1_plugin.U1ImageClassifier'
    assert MODELS.build(config.model).u1.neck.layers


def test_paths_of_next_steps_are_short_in_the_checkout(root, monkeypatch):
    monkeypatch.chdir(root)
    console = Console(record=True, width=20, file=io.StringIO())
    print_next(root, console)
    printed = console.export_text()
    assert ' tools/train.py mine.py\n' in printed
    assert str(root / 'tools') not in printed


def test_a_few_pairs_claim_nothing():
    """Their interval may leave out 0; reports ask for more than that."""
    pairs = [99.4, 99.4, 99.5, 99.3], [98.6, 98.7, 98.6, 98.4]
    assert 'show no gain' in conclusion(paired_difference(*pairs))
    assert 'show no loss' in conclusion(paired_difference(*pairs[::-1]))
