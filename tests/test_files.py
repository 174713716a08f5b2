"""Folders and files appear at once, and what kills leave is swept."""

import os
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest
from written_files import ALONE, unseen

from u1_plugin.files import (
    check_new,
    check_writable,
    new_file,
    new_folder,
    replaced_file,
)

WRITER = f"""{ALONE}
import time
from pathlib import Path
from u1_plugin.files import new_folder, replaced_file
kind, place = sys.argv[1:]
with dict(folder=new_folder, file=replaced_file)[kind](Path(place)) as part:
    file = part / 'content' if kind == 'folder' else part
    file.write_text('half')
    print('writing', flush=True)
    time.sleep(600)
"""


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def writer(kind: str, place: Path) -> Iterator[subprocess.Popen]:
    """A process in the middle of writing ``place``."""
    process = subprocess.Popen(
        [sys.executable, '-c', WRITER, kind, str(place)],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b'writing\n'
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_nothing_is_seen_before_the_end(tmp_path):
    with new_folder(tmp_path / 'out') as part:
        assert part.name == 'out'
        (part / 'content').write_text('new')
        assert not (tmp_path / 'out').exists()
    assert (tmp_path / 'out' / 'content').read_text() == 'new'
    file = tmp_path / 'out' / 'content'
    with replaced_file(file) as part:
        assert part.name == 'content'
        part.write_text('newer')
        assert file.read_text() == 'new'
    assert file.read_text() == 'newer'
    with new_file(tmp_path / 'deep' / 'file') as part:
        part.write_text('first')
    assert (tmp_path / 'deep' / 'file').read_text() == 'first'
    assert not unseen(tmp_path) and not unseen(tmp_path / 'out')


@pytest.mark.parametrize('write', [new_folder, new_file, replaced_file])
def test_nothing_stays_of_what_fails(tmp_path, write):
    with pytest.raises(KeyError), write(tmp_path / 'out') as part:
        (part / 'x' if part.is_dir() else part).write_text('half')
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('mask', [0o022, 0o027, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path, mask):
    with umask(mask):
        with new_folder(tmp_path / 'out'):
            pass
        for write in (new_file, replaced_file):
            with write(tmp_path / write.__name__) as part:
                part.touch(0o600)  # as libraries do that write privately
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    assert modes == dict(
        out=0o777 & ~mask, new_file=0o666 & ~mask, replaced_file=0o666 & ~mask
    )


def test_a_replaced_file_keeps_its_mode(tmp_path):
    file = tmp_path / 'file'
    file.touch()
    file.chmod(0o640)
    with replaced_file(file) as part:
        part.write_text('new')
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / 'disk').mkdir()
    target, link = tmp_path / 'disk' / 'real', tmp_path / 'link'
    target.write_text('old')
    link.symlink_to(target)
    with replaced_file(link) as part:
        assert tmp_path / 'disk' in part.parents  # of the same file system
        part.write_text('new')
    assert link.is_symlink() and target.read_text() == 'new'


def test_links_in_the_way_are_not_followed(tmp_path):
    victim = tmp_path / 'victim'
    victim.write_text('theirs')
    (tmp_path / '.out').symlink_to(victim)
    (tmp_path / f'.{os.getpid()}-out').symlink_to(victim)
    with replaced_file(tmp_path / 'out') as part:
        part.write_text('ours')
    (tmp_path / 'dangling').symlink_to(tmp_path / 'nowhere')
    with pytest.raises(FileExistsError, match='dangling'):
        with new_folder(tmp_path / 'dangling'):
            pass
    assert victim.read_text() == 'theirs'
    assert not (tmp_path / 'nowhere').exists()


def test_private_folders_are_private_and_of_drawn_names(tmp_path):
    names = set()
    for _ in range(3):
        with replaced_file(tmp_path / 'out') as part:
            part.touch()
            names.add(part.parent.name)
            assert stat.S_IMODE(part.parent.stat().st_mode) == 0o700
    assert len(names) == 3


@pytest.mark.parametrize('kind', ['folder', 'file'])
def test_what_a_kill_leaves_is_swept_by_the_next_writer(tmp_path, kind):
    with writer(kind, tmp_path / 'out') as process:
        assert unseen(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert unseen(tmp_path)
    with replaced_file(tmp_path / 'other') as part:
        part.touch()
    assert [file.name for file in tmp_path.iterdir()] == ['other']


def test_a_living_writer_is_left_alone(tmp_path):
    with writer('folder', tmp_path / 'out'):
        (before,) = unseen(tmp_path)
        with replaced_file(tmp_path / 'other') as part:
            part.touch()
        assert unseen(tmp_path) == [before]
        assert (tmp_path / before / 'out' / 'content').read_text() == 'half'


def test_a_writer_of_another_machine_is_left_alone_for_a_week(tmp_path):
    place = tmp_path / '.u1-abcdefgh.part'
    place.mkdir()
    lock = place / 'lock'
    lock.write_text('u1_plugin writes here: another-machine')
    (place / 'out').write_text('theirs')
    with replaced_file(tmp_path / 'other') as part:
        part.touch()
    assert (place / 'out').read_text() == 'theirs'
    os.utime(lock, (0, 0))
    with replaced_file(tmp_path / 'other') as part:
        part.touch()
    assert not place.exists()


def test_a_sweep_removes_nothing_of_a_users(tmp_path):
    for name in ('.u1-abcdefgh.part', '.u1-thing.part', '.out-abcdefgh'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'mine').touch()
    (tmp_path / '.u1-abcdefgh.part' / 'lock').write_text('mine')
    (tmp_path / '.u1-ijklmnop.part').mkdir()
    (tmp_path / '.u1-ijklmnop.part' / 'lock').touch()
    (tmp_path / '.u1-ijklmnop.part' / 'mine').touch()
    (tmp_path / '.u1-qrstuvwx.part').write_text('mine')
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / '.u1-linklink.part').symlink_to(tmp_path / 'elsewhere')
    before = sorted(tmp_path.rglob('*'))
    with replaced_file(tmp_path / 'new') as part:
        part.touch()
    assert sorted(tmp_path.rglob('*')) == sorted([*before, tmp_path / 'new'])


@pytest.mark.parametrize('steps', ['folder', 'lock'])
def test_kills_before_the_first_byte_leave_nothing_for_ever(tmp_path, steps):
    place = tmp_path / '.u1-abcdefgh.part'
    place.mkdir()
    if steps == 'lock':
        (place / 'lock').touch()
    with replaced_file(tmp_path / 'new') as part:
        part.touch()
    assert not place.exists()


def test_writers_beside_each_other_do_not_sweep_each_other(tmp_path):
    failed = []

    def write(name: str) -> None:
        try:
            for turn in range(40):
                with replaced_file(tmp_path / name) as part:
                    part.write_text(f'{turn}')
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=write, args=(f'{i % 3}',)) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert sorted(file.name for file in tmp_path.iterdir()) == ['0', '1', '2']
    assert {file.read_text() for file in tmp_path.iterdir()} == {'39'}


@pytest.mark.parametrize('path', [None, 3.5, 'a\0b', 'a\ud800', b'a'])
def test_what_can_be_no_path(path):
    for check in (check_new, check_writable):
        with pytest.raises(ValueError, match='out=.* is not a valid path'):
            check(path, 'out')
    for write in (new_folder, new_file):
        with pytest.raises(ValueError, match='out=.* is not a valid path'):
            write(path).__enter__()
    with pytest.raises(ValueError, match='file=.* is not a valid path'):
        replaced_file(path).__enter__()
