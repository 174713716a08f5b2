"""What cannot be written or is not ours is named before the work."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from written_files import ALONE

from u1_plugin.files import (
    check_new,
    check_tool_file,
    check_tool_folder,
    check_writable,
    replaced_file,
)


def test_foreign_files_are_refused_before_the_work(tmp_path):
    file = tmp_path / 'table.csv'
    with replaced_file(file, b'run,arm') as part:
        part.write_text('run,arm\n1,a\n')
    with replaced_file(file, b'run,arm') as part:
        part.write_text('run,arm\n2,b\n')
    check_tool_file(file, b'run,arm', '--out')
    file.write_text('mine\n')
    for check in (
        lambda: check_tool_file(file, b'run,arm', '--out'),
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
    check_tool_folder(out, 'settings.json', b'"demo"', '--out')
    out.mkdir()
    check_tool_folder(out, 'settings.json', b'"demo"', '--out')
    (out / 'settings.json').write_text('{"demo": 1}')
    check_tool_folder(out, 'settings.json', b'"demo"', '--out')
    (out / 'settings.json').write_text('mine')
    with pytest.raises(FileExistsError, match="--out='.*' holds files"):
        check_tool_folder(out, 'settings.json', b'"demo"', '--out')
    with pytest.raises(ValueError, match="--out='.*' is a file"):
        check_tool_folder(
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
