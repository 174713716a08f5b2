"""Files of planes and centres are refused where they are none."""

import pickle
import zipfile

import numpy as np
import pytest
import torch
from unit_vectors import C, vectors

from u1_plugin.nn import FeaturePlane, data_files


@pytest.mark.parametrize(
    'arrays, words',
    [
        (dict(other=np.zeros(3)), ('other', "'basis'")),
        (dict(basis=np.zeros((3, C))), ('(3, 12)', '(2, C)')),
        (dict(basis=np.full((2, C), np.nan)), ('finite',)),
        (dict(basis=np.eye(2, 5)), ('5 channels', 'in_channels=12')),
    ],
)
def test_bad_files_are_refused(tmp_path, arrays, words):
    file = tmp_path / 'plane.npz'
    np.savez(file, **arrays)
    with pytest.raises(ValueError) as caught:
        FeaturePlane(C, basis='pca', file=str(file))
    assert all(word in str(caught.value) for word in (*words, 'plane.npz'))


def test_files_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match='missing.npz'):
        FeaturePlane(basis='pca', file=str(tmp_path / 'missing.npz'))
    text = tmp_path / 'text.npz'
    text.write_text('not an archive')
    with pytest.raises(ValueError, match='text.npz.*not an .npz'):
        FeaturePlane(basis='pca', file=str(text))


DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(2, C))


@pytest.mark.parametrize(
    'basis, words',
    [
        (np.stack([np.arange(C), 2.0 * np.arange(C)]), 'parallel'),
        (np.stack([ROWS[0], 3 - ROWS[0]]), 'parallel'),
        (np.stack([ROWS[0], 1e-9 * ROWS[1] + ROWS[0]]), 'parallel'),
        (np.ones((2, C)), 'constant'),
        (np.zeros((2, C)), 'constant'),
        (np.stack([ROWS[0], np.full(C, 0.1)]), 'constant'),
        (ROWS + 1e9, 'constant'),
        (np.array([['a'] * C] * 2), 'real numbers'),
        (ROWS * 1j, 'real numbers'),
        (ROWS > 0, 'real numbers'),
        (ROWS.astype('m8[s]'), 'real numbers'),
        (np.zeros((2, C), [('a', float)]), 'real numbers'),
        (np.full((2, C), np.inf), 'finite'),
        (ROWS[0], '(2, C)'),
        (ROWS.T, '(2, C)'),
        (ROWS[:, None], '(2, C)'),
        (np.float64(1), '(2, C)'),
        (np.zeros((2, 0)), '>= 3'),
        (ROWS[:, :2], '>= 3'),
    ],
)
def test_what_spans_no_plane_is_refused(tmp_path, basis, words):
    file = tmp_path / 'plane.npz'
    np.savez(file, basis=basis)
    with pytest.raises(ValueError) as caught:
        FeaturePlane(basis='pca', file=str(file))
    assert 'feature_plane.file=' in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize('scale', [1e-200, 1e-5, 1, 1e30, 1e200])
@pytest.mark.parametrize('kind', ['<f8', '>f8'])
def test_planes_of_any_scale_and_kind_are_the_same(tmp_path, scale, kind):
    file = str(tmp_path / 'plane.npz')
    np.savez(file, basis=(scale * ROWS + scale).astype(kind))
    np.savez(str(tmp_path / 'plain.npz'), basis=ROWS.astype(np.float32))
    plain = FeaturePlane(basis='pca', file=str(tmp_path / 'plain.npz'))
    torch.testing.assert_close(
        FeaturePlane(basis='pca', file=file)(vectors()), plain(vectors())
    )


@pytest.mark.parametrize(
    'center, words',
    [
        (np.ones(C), 'norm 3.464'),
        (np.full(C, np.inf), 'finite'),
        (np.zeros((1, C)), '(C,)'),
        (np.zeros(2), '>= 3'),
        (np.array(['a'] * C), 'real numbers'),
    ],
)
def test_what_is_no_mean_of_unit_vectors_is_refused(tmp_path, center, words):
    file = tmp_path / 'plane.npz'
    np.savez(file, center=center)
    with pytest.raises(ValueError) as caught:
        FeaturePlane(center='file', file=str(file))
    assert 'feature_plane.file=' in str(caught.value)
    assert words in str(caught.value)


def test_how_long_a_mean_of_unit_vectors_may_be(tmp_path):
    file = str(tmp_path / 'plane.npz')
    for norm in (0.5, 1.0, 1.001):
        np.savez(file, center=norm * np.eye(C)[3])
        plane = FeaturePlane(center='file', file=file)
        assert plane.center[3] == np.float32(norm)
    np.savez(file, center=1.0012 * np.eye(C)[3])
    with pytest.raises(ValueError, match='norm 1.001, but a mean'):
        FeaturePlane(center='file', file=file)


def test_how_flat_rows_of_a_file_may_be(tmp_path):
    file = str(tmp_path / 'plane.npz')
    flat = np.ones(C)
    flat[::2] += 3e-4  # 1.5e-4 of its norm lies across the medial vector
    np.savez(file, basis=np.stack([ROWS[0], flat]))
    rows = FeaturePlane(basis='pca', file=file).rows
    torch.testing.assert_close(rows @ rows.T, torch.eye(2))
    alike = ROWS[0] + 3e-4 * ROWS[1]
    np.savez(file, basis=np.stack([ROWS[0], alike]))
    FeaturePlane(basis='pca', file=file)
    for row in (1 + (flat - 1) / 3, ROWS[0] + 3e-5 * ROWS[1]):
        np.savez(file, basis=np.stack([ROWS[0], row]))
        with pytest.raises(ValueError, match='constant|parallel'):
            FeaturePlane(basis='pca', file=file)


def crafted(file) -> dict:
    """Damaged, foreign and made-up files, each in the place of a plane."""

    def header(text: str, data: bytes = b'') -> bytes:
        length = len(text).to_bytes(2, 'little')
        return b'\x93NUMPY\x01\x00' + length + text.encode() + data

    def member(content: bytes) -> None:
        with zipfile.ZipFile(file, 'w') as archive:
            archive.writestr('basis.npy', content)

    shape = "{'descr': '<f8', 'fortran_order': False, 'shape': (%s)}"
    return {
        'junk': lambda: file.write_bytes(b'PK\x03\x04junk'),
        'empty': lambda: file.write_bytes(b''),
        'array': lambda: np.save(open(file, 'wb'), ROWS),
        'pickle': lambda: file.write_bytes(pickle.dumps(dict(basis=ROWS))),
        'objects': lambda: np.savez(file, basis=np.array([[None] * C] * 2)),
        'text': lambda: member(b'[[1, 2, 3], [4, 5, 6]]'),
        'huge': lambda: member(header(shape % '2, 1000000000000000')),
        'negative': lambda: member(header(shape % '2, -12')),
        'short': lambda: member(header(shape % '2, 12', b'1' * 8)),
        'code': lambda: member(header('__import__("os").getcwd()')),
        'deep': lambda: member(header('(' * 9000)),
        'nothing': lambda: member(b''),
    }


@pytest.mark.parametrize('kind', crafted(None))
def test_crafted_files_are_refused_by_name(tmp_path, kind):
    file = tmp_path / 'plane.npz'
    crafted(file)[kind]()
    with pytest.raises(ValueError, match=r'feature_plane\.file=.*plane\.npz'):
        FeaturePlane(basis='pca', file=str(file))


def test_an_archive_that_grows_beyond_measure_is_not_unpacked(
    tmp_path, monkeypatch
):
    file = tmp_path / 'plane.npz'
    np.savez_compressed(file, basis=ROWS, more=np.zeros(10**6))
    FeaturePlane(basis='pca', file=str(file))
    monkeypatch.setattr(data_files, '_LARGEST', 10**6)
    with pytest.raises(ValueError, match='unpacks to more than'):
        FeaturePlane(basis='pca', file=str(file))


def test_every_flipped_byte_is_refused_or_harmless(tmp_path):
    """Of the archive; a plane that is read is the one that was written."""
    file = tmp_path / 'plane.npz'
    np.savez(file, basis=ROWS)
    whole = file.read_bytes()
    expected = FeaturePlane(basis='pca', file=str(file)).rows
    read = 0
    for place in range(0, len(whole), 3):
        data = bytearray(whole)
        data[place] ^= 255
        file.write_bytes(data)
        try:
            rows = FeaturePlane(basis='pca', file=str(file)).rows
        except ValueError as error:
            assert 'feature_plane.file=' in str(error)
        else:
            read += 1
            assert torch.equal(rows, expected), place
    assert read < len(whole) / 6


def test_a_file_is_a_path():
    for file in (True, 7):
        with pytest.raises(ValueError, match=f'feature_plane.file={file} must'):
            FeaturePlane(file=file)


def test_a_file_that_would_not_be_read_is_refused(tmp_path):
    file = tmp_path / 'plane.npz'
    np.savez(file, center=np.full(4, 0.1))
    with pytest.raises(ValueError, match=r'feature_plane\.file=.*is not read'):
        FeaturePlane(4, file=str(file))
    assert FeaturePlane(4, center='file', file=file).center_type == 'file'
