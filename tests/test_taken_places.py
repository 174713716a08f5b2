"""Where a place was taken meanwhile, both what lies there and the work stay."""

import pytest
from written_files import unseen

from u1_plugin.files import new_file, new_folder, replaced_file


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
