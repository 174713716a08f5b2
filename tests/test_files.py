"""Folders and files that appear at once, and what kills leave."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from u1_plugin import files
from u1_plugin.files import (
    check_new,
    check_own,
    check_own_folder,
    check_writable,
    new_file,
    new_folder,
    replaced_file,
)

#: The package without what it imports, which takes seconds.
ALONE = f"""
import sys, types
sys.modules['u1_plugin'] = package = types.ModuleType('u1_plugin')
package.__path__ = [{str(Path(files.__file__).parent)!r}]
"""
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


def unseen(folder: Path) -> list:
    """What lies in a folder beside what was asked for."""
    return [file.name for file in folder.iterdir() if file.name[0] == '.']


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


@pytest.mark.parametrize('taken', ['folder', 'file', 'out-1 too'])
def test_work_is_kept_if_its_place_was_taken_meanwhile(tmp_path, taken):
    out = tmp_path / 'out'
    with pytest.raises(FileExistsError, match=r"in '.*out-\d'") as caught:
        with new_folder(out) as part:
            (part / 'report').write_text('hours')
            if taken == 'file':
                out.write_text('theirs')
            else:
                out.mkdir()
                (out / 'theirs').touch()
            if taken == 'out-1 too':
                (tmp_path / 'out-1').write_text('theirs')
    kept = tmp_path / ('out-2' if taken == 'out-1 too' else 'out-1')
    assert str(kept) in str(caught.value)
    assert (kept / 'report').read_text() == 'hours'
    assert not unseen(tmp_path)


def test_an_empty_folder_that_appeared_is_filled(tmp_path):
    with new_folder(tmp_path / 'out') as part:
        (part / 'report').touch()
        (tmp_path / 'out').mkdir()
    assert (tmp_path / 'out' / 'report').exists()


def test_a_file_that_appeared_is_not_overwritten(tmp_path):
    out = tmp_path / 'out.json'
    for write in (
        lambda: new_file(out),
        lambda: replaced_file(out, b'"made by"'),
    ):
        with pytest.raises(FileExistsError, match=r"in '.*out-\d\.json'"):
            with write() as part:
                part.write_text('work')
                out.write_text('theirs')
        assert out.read_text() == 'theirs'
        out.unlink()
    names = {'out-1.json': 'work', 'out-2.json': 'work'}
    assert {f.name: f.read_text() for f in tmp_path.iterdir()} == names


def test_work_that_can_be_moved_nowhere_is_not_swept(tmp_path):
    """A folder in the file's place and one in that of every sibling."""
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'theirs').touch()
    for number in range(1, 1000):
        (tmp_path / f'out-{number}').mkdir()
    with pytest.raises(OSError, match=r'\.part/out') as caught:
        with replaced_file(tmp_path / 'out') as part:
            part.write_text('work')
    with replaced_file(tmp_path / 'other') as part:
        part.touch()
    (kept,) = tmp_path.glob('.u1-*.part/out')
    assert str(kept) in str(caught.value) and kept.read_text() == 'work'


def test_foreign_files_are_refused_before_the_work(tmp_path):
    file = tmp_path / 'table.csv'
    with replaced_file(file, b'run,arm') as part:
        part.write_text('run,arm\n1,a\n')
    with replaced_file(file, b'run,arm') as part:
        part.write_text('run,arm\n2,b\n')
    check_own(file, b'run,arm', '--out')
    file.write_text('mine\n')
    for check in (
        lambda: check_own(file, b'run,arm', '--out'),
        lambda: check_writable(file, '--out', mark=b'run,arm'),
        lambda: check_new(file, '--out'),
    ):
        with pytest.raises(FileExistsError, match=r"--out='.*table\.csv'"):
            check()
    with pytest.raises(FileExistsError):
        with replaced_file(file, b'run,arm'):
            pytest.fail('the work has begun')
    assert file.read_text() == 'mine\n'
    file.write_text('\n')  # nothing that could be lost
    with replaced_file(file, b'run,arm') as part:
        part.write_text('run,arm\n')


def test_foreign_folders_are_refused_before_the_work(tmp_path):
    out = tmp_path / 'out'
    check_own_folder(out, 'settings.json', b'"demo"', '--out')
    out.mkdir()
    check_own_folder(out, 'settings.json', b'"demo"', '--out')
    (out / 'settings.json').write_text('{"demo": 1}')
    check_own_folder(out, 'settings.json', b'"demo"', '--out')
    (out / 'settings.json').write_text('mine')
    with pytest.raises(FileExistsError, match="--out='.*' holds files"):
        check_own_folder(out, 'settings.json', b'"demo"', '--out')
    with pytest.raises(ValueError, match="--out='.*' is a file"):
        check_own_folder(
            out / 'settings.json', 'settings.json', b'"demo"', '--out'
        )


def test_places_that_cannot_be_written_are_named_at_once(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'folder').mkdir()
    for path, reason in (
        (tmp_path / 'folder', 'is a folder'),
        (tmp_path / 'file' / 'x', 'of which all parts are folders'),
        (tmp_path / 'file' / 'x' / 'y', 'of which all parts are folders'),
        (tmp_path / 'missing' / 'x', 'make the folder'),
        (tmp_path / ('x' * 300), 'shorter name'),
        ('/dev/null', 'no regular file'),
    ):
        with pytest.raises(ValueError, match=f'--out=.*{reason}'):
            check_writable(path, '--out')
    for path in ('file/x', 'x' * 300):
        with pytest.raises(ValueError, match='--out='):
            check_new(tmp_path / path, '--out', parents=True)
    check_writable(tmp_path / 'file', '--out')
    check_writable(tmp_path / 'new' / 'deep', '--out', parents=True)
    names = sorted(file.name for file in tmp_path.rglob('*'))
    assert names == ['file', 'folder', 'new']


WORLD = f"""{ALONE}
from u1_plugin.files import check_writable
for path in sys.argv[1:]:
    try:
        check_writable(path, '--out')
        print('accepted')
    except Exception as error:
        print(type(error).__name__, error)
"""


def in_world(
    tmp_path: Path, setup: str, *paths: str, command=(), script=WORLD
) -> list:
    """What a script prints where a shell has set up a folder."""
    world = tmp_path / 'world'
    world.mkdir()
    shell = f'set -e; W={world}; {setup}; exec "$@"'
    done = subprocess.run(
        [*command, 'sh', '-c', shell, 'sh', sys.executable, '-c', script]
        + [str(world / path) for path in paths],
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stderr
    return done.stdout.splitlines()


def runs(*command: str) -> bool:
    """Whether this machine lets a command through."""
    return bool(shutil.which(command[0])) and not (
        subprocess.run(command, capture_output=True).returncode
    )


#: A process whose mounts are its own, and one without root's rights.
MOUNTS = ('unshare', '-m')
PLAIN = ('setpriv', '--bounding-set=-dac_override,-dac_read_search')
mounts = pytest.mark.skipif(
    not runs(*MOUNTS, 'mount', '-t', 'tmpfs', 'x', '/mnt'),
    reason='mounting needs the administrator',
)


@mounts
def test_a_full_disk_is_named_at_once(tmp_path):
    setup = (
        'mount -t tmpfs -o size=64k x $W; '
        'dd if=/dev/zero of=$W/full bs=4k count=16 2>/dev/null'
    )
    (line,) = in_world(tmp_path, setup, 'out', command=MOUNTS)
    assert line.startswith('ValueError --out=') and 'make space' in line


FILL = f"""{ALONE}
from pathlib import Path
from u1_plugin.files import new_folder, replaced_file
for write in (new_folder, replaced_file):
    out = Path(sys.argv[1]) / write.__name__
    try:
        with write(out) as part:
            file = part / 'x' if part.is_dir() else part
            file.write_bytes(bytes(2**20))
    except OSError as error:
        print(error.strerror)
print(sorted(path.name for path in out.parent.iterdir()))
print((out.parent / 'replaced_file').read_text())
"""


@mounts
def test_a_disk_that_fills_up_loses_nothing(tmp_path):
    setup = 'mount -t tmpfs -o size=256k x $W; printf old >$W/replaced_file'
    lines = in_world(tmp_path, setup, '', command=MOUNTS, script=FILL)
    full = 'No space left on device'
    assert lines == [full, full, "['replaced_file']", 'old']


@mounts
def test_a_read_only_disk_is_named_at_once(tmp_path):
    setup = 'mount -t tmpfs x $W; touch $W/old; mount -o remount,ro $W'
    for line in in_world(tmp_path, setup, 'new', 'old', command=MOUNTS):
        assert line.startswith('PermissionError --out='), line


@pytest.mark.skipif(
    os.getuid() == 0 and not runs(*PLAIN, 'true'), reason='root writes all'
)
def test_a_read_only_folder_or_file_is_named_at_once(tmp_path):
    setup = 'cd $W; mkdir closed; touch file; chmod 444 file; chmod 555 closed'
    command = PLAIN if os.getuid() == 0 else ()
    closed, file, new = in_world(
        tmp_path, setup, 'closed/new', 'file', 'new', command=command
    )
    assert closed.startswith('PermissionError --out=')
    assert file.startswith('PermissionError --out=')
    assert new == 'accepted'


@pytest.mark.parametrize('path', [None, 3.5, 'a\0b', 'a\ud800', b'a'])
def test_what_can_be_no_path(path):
    for check in (check_new, check_writable):
        with pytest.raises(ValueError, match='out=.* can be no path'):
            check(path, 'out')
    for write in (new_folder, new_file):
        with pytest.raises(ValueError, match='out=.* can be no path'):
            write(path).__enter__()
    with pytest.raises(ValueError, match='file=.* can be no path'):
        replaced_file(path).__enter__()
