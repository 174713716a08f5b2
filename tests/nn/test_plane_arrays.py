"""A plane takes what is one from a checkpoint, and says what it replaces."""

import numpy as np
import pytest
import torch
from unit_vectors import C, vectors

from u1_plugin.geometry import random_basis
from u1_plugin.nn import FeaturePlane


def fitted(folder, seed: int) -> FeaturePlane:
    file = folder / f'plane{seed}.npz'
    center = np.full(C, 0.01 * seed, np.float32)
    np.savez(file, basis=random_basis(C, seed).numpy(), center=center)
    return FeaturePlane(basis='pca', center='file', file=file)


def test_rows_of_a_learned_plane_are_no_fitted_plane(tmp_path):
    """They are made orthonormal where they are used, and a file's are not."""
    learned = FeaturePlane(in_channels=C, basis='learned')
    with torch.no_grad():
        learned.rows += torch.rand(2, C)
    plane = fitted(tmp_path, 1)
    before = plane(vectors())
    state = dict(learned.state_dict(), center=plane.center)
    with pytest.raises(ValueError, match="^rows of .* of basis='learned'"):
        plane.load_state_dict(state)
    assert torch.equal(plane(vectors()), before)
    # The other way round they are a beginning as good as any.
    learned.load_state_dict(dict(rows=plane.rows))
    assert torch.equal(learned.rows, plane.rows)


def test_arrays_of_another_file_are_loaded_with_a_word(tmp_path, messages):
    first, second = fitted(tmp_path, 1), fitted(tmp_path, 2)
    first.load_state_dict(first.state_dict())
    for dtype in (torch.float16, torch.bfloat16):
        rounded = {k: v.to(dtype) for k, v in first.state_dict().items()}
        fitted(tmp_path, 1).load_state_dict(rounded)
    unbuilt = fitted(tmp_path, 1).to('meta')
    unbuilt.load_state_dict(first.state_dict(), assign=True)
    assert not messages
    second.load_state_dict(first.state_dict())
    assert [text.split()[0] for text in messages] == ["'rows'", "'center'"]
    assert 'feature_plane.file' in messages[0]
    assert torch.equal(second(vectors()), first(vectors()))


@pytest.mark.parametrize('name', ['rows', 'center', 'running_mean'])
def test_what_is_not_finite_is_refused(name, tmp_path):
    plane = fitted(tmp_path, 1)
    if name == 'running_mean':
        plane = FeaturePlane(in_channels=C, center='running')
    state = {key: value.clone() for key, value in plane.state_dict().items()}
    state[name].view(-1)[1] = float('nan')
    with pytest.raises(ValueError, match=f'^{name} of the checkpoint is not'):
        plane.load_state_dict(state)
