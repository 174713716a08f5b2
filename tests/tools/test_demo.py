"""The demo, from data to table and picture, cut short and called again."""

import json
import subprocess
import sys

import pytest
from PIL import Image


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
    first = demo('--epochs', '2', '--jobs', '1')
    assert first.returncode == 0, first.stdout + first.stderr
    assert 'Result over 2 paired seeds' in first.stdout
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
    second = demo('--epochs', '2', '--jobs', '1')
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
