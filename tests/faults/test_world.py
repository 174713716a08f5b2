"""A full disk, a read-only folder, bad images, lost ranks, NaN."""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator, List

import pytest
import tiny
from chains import Attempt, Command, output, reference

pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A file system of 10 MiB."""
    place = tmp_path / 'disk'
    place.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=10m', 'none', str(place)]
    try:
        done = subprocess.run(mount, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        pytest.skip('no `mount`')
    if done.returncode:
        pytest.skip(f'this user may not mount: {done.stderr.strip()}')
    yield place
    subprocess.run(['umount', '-l', str(place)], check=True)


def fill(disk: Path, left: int) -> Path:
    """Leave so many bytes free."""
    ballast = disk / 'ballast'
    free = os.statvfs(disk)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - left))
    return ballast


@pytest.fixture(scope='module')
def training(data, tmp_path_factory) -> tuple:
    """A command, and what it leaves when all is well."""
    command = tiny.training(data, 'training on a small disk', 1, {})
    place = tmp_path_factory.mktemp('training') / 'reference'
    return command, reference(command, place)[0]


def check_state(command: Command, folder: Path, expected: dict) -> None:
    Attempt(command, folder).check()
    found = command.state(folder)
    assert {n for n in found if found[n] != expected.get(n)} == set()
    assert set(found) == set(expected)


@pytest.mark.parametrize('left', [30_000, 250_000, 400_000, 700_000])
def test_a_full_disk(disk, training, left):
    """Whatever no longer fits: the log, a checkpoint, the record."""
    command, expected = training
    folder = disk / 'place'
    ballast = fill(disk, left)
    code, text = output(command, folder)
    assert code and 'No space left on device' in text, text[-2000:]
    ballast.unlink()
    check_state(command, folder, expected)


def test_a_benchmark_on_a_full_disk(disk, data):
    command = tiny.benchmark(data, 'benchmark on a small disk')
    expected = reference(command, disk / 'whole')[0]
    folder = disk / 'place'
    ballast = fill(disk, 900_000)
    code, text = output(command, folder)
    assert code and 'the same command tries them' in text, text[-2000:]
    assert 'No space left on device' in text
    ballast.unlink()
    check_state(command, folder, expected)


def test_a_read_only_folder(disk, data):
    folder = disk / 'place'
    commands = [
        (tiny.benchmark(data, 'benchmark'), '--out='),
        (tiny.bank(data, 'bank', 1), 'Read-only file system'),
        (tiny.analysis(data, 'analysis'), '--out='),
        (tiny.training(data, 'read-only', 1, {}), 'Read-only file system'),
    ]
    folder.mkdir()
    subprocess.run(['mount', '-o', 'remount,ro', str(disk)], check=True)
    for command, words in commands:
        # The log lies beside the folder.
        inside = command._replace(
            ranks=[lambda _, run=command.ranks[0]: _inside(folder, run)]
        )
        code, text = output(inside, disk.parent / command.name)
        assert code and words in text, text[-2000:]
        assert not list(folder.iterdir())


def _inside(folder: Path, run) -> None:
    os.chdir(folder)
    run(folder)


@pytest.mark.parametrize('split', ['train', 'val'])
@pytest.mark.parametrize('kind', ['empty', 'garbage', 'half'])
def test_a_corrupt_image_is_named(data, tmp_path, kind, split):
    command = tiny.training(data, f'{kind} {split}', 1, {})
    picture = data / split / '3/001.png'
    content = picture.read_bytes()
    bad = dict(empty=b'', garbage=b'no picture' * 9, half=content[:60])[kind]
    picture.write_bytes(bad)
    try:
        code, text = output(command, tmp_path / 'run')
        assert code and str(picture) in text, text[-2000:]
    finally:
        picture.write_bytes(content)
    Attempt(command, tmp_path / 'run').check()


def test_a_run_that_diverges_is_left_out(data, tmp_path):
    wild = dict(role='rival', set={'optim_wrapper.optimizer.lr': 1e30})
    wild['set']['param_scheduler.eta_max'] = 1e30
    define = {'one-hot': dict(role='baseline'), 'wild': wild}
    command = tiny.benchmark(
        data, 'NaN', arms=list(define), define=define, seeds=1
    )
    for _ in range(2):  # again the same
        code, text = output(command, tmp_path / 'run')
        assert code and 'epoch 1 has diverged: the loss' in text
        assert '1 run(s) failed' in text
        table = (tmp_path / 'run/out/results.csv').read_text()
        assert 'one-hot' in table and 'wild' not in table


def processes(folder: Path, *words: str) -> List[int]:
    """That work in a folder, with these words in command or environment."""
    found = []
    for entry in Path('/proc').glob('[0-9]*'):
        try:
            text = (entry / 'cmdline').read_bytes() + b'\0'
            text += (entry / 'environ').read_bytes()
            inside = Path(os.readlink(entry / 'cwd')) == folder
        except OSError:
            continue
        if inside and all(word.encode() in text for word in words):
            found.append(int(entry.name))
    return found


def wait_for(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.fixture
def distributed(data, tmp_path) -> tuple:
    """A benchmark of two runs, of two ranks each."""
    command = tiny.benchmark(data, 'ranks', processes=2, seeds=1)
    return command, tmp_path / 'run'


def test_a_lost_rank_ends_its_run_and_no_other(distributed):
    command, folder = distributed
    folder.mkdir()
    attempt = Attempt(command, folder)
    rank = 'train.py', '\0RANK=1\0'
    wait_for(lambda: processes(folder, *rank), 200, 'no rank')
    os.kill(processes(folder, *rank)[0], signal.SIGKILL)
    attempt.wait(300)
    assert not attempt.running and attempt.processes[0].exitcode
    text = attempt.log.read_text()
    assert '1 run(s) failed' in text and '[2/2]' in text, text[-2000:]
    Attempt(command, folder).check()
    assert len(command.state(folder)['results.csv'][1:]) == 1


def test_a_killed_benchmark_leaves_no_rank_behind(distributed):
    command, folder = distributed
    folder.mkdir()
    attempt = Attempt(command, folder)
    wait_for(lambda: processes(folder, '\0RANK=1\0'), 200, 'no rank')
    time.sleep(2)
    attempt.end()
    wait_for(lambda: not processes(folder, '\0RANK='), 60, 'ranks live on')
    Attempt(command, folder).check()
