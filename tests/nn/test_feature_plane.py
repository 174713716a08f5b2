"""A feature plane has its basis, centre and state in any precision."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from unit_vectors import C, unit, vectors

from u1_plugin.geometry import feature_moment, fourier_basis, random_basis
from u1_plugin.nn import FeaturePlane


@pytest.fixture
def fitted(tmp_path) -> str:
    file = tmp_path / 'plane.npz'
    basis = random_basis(C, 4).numpy()
    np.savez(file, basis=basis, center=np.full(C, 0.2, np.float32))
    return str(file)


def test_fourier_and_random_planes():
    v = vectors()
    for name, basis in (
        ('fourier', fourier_basis(C)),
        ('random', random_basis(C, 7)),
    ):
        plane = FeaturePlane(basis=name, seed=7)
        torch.testing.assert_close(plane(v), feature_moment(unit(v), basis))
        assert not list(plane.state_dict()) and not list(plane.parameters())


def test_the_defaults():
    plane = FeaturePlane()
    assert (plane.momentum, plane.seed, plane.windings) == (0.1, 0, (1,))
    found = (plane.in_channels, plane.basis_type, plane.center_type)
    assert found == (None, 'fourier', 'none')


def test_windings_are_planes_side_by_side():
    v = vectors()
    moments = FeaturePlane(windings=(1, 3))(v)
    assert moments.shape == (8, 2, 2)
    for place, winding in enumerate((1, 3)):
        basis = fourier_basis(C, winding=winding)
        torch.testing.assert_close(
            moments[:, place], feature_moment(unit(v), basis)
        )
    torch.testing.assert_close(
        FeaturePlane(windings=(1, 3))(v.view(2, 4, C)), moments.view(2, 4, 2, 2)
    )


@pytest.mark.parametrize('center', ['none', 'running', 'file'])
@pytest.mark.parametrize('basis', ['fourier', 'random', 'pca', 'learned'])
def test_gradcheck(basis, center, fitted):
    options = dict(basis=basis, center=center)
    if basis == 'pca' or center == 'file':
        options['file'] = fitted
    # In evaluation the running centre is a constant, as autograd sees it.
    plane = FeaturePlane(C, **options).double().eval()
    v = vectors(3).double().requires_grad_()
    assert torch.autograd.gradcheck(plane, v)
    pixels = vectors(4).double().view(2, 2, C).requires_grad_()
    assert torch.autograd.gradcheck(plane, pixels)


@pytest.mark.parametrize('basis', ['fourier', 'random'])
def test_half_precision_and_inference_mode_keep_the_plane_exact(basis):
    plane, v = FeaturePlane(basis=basis), vectors()
    expected = FeaturePlane(basis=basis)(v)
    with torch.inference_mode():
        plane(v)
    assert torch.equal(plane.half()(v), expected)
    v.requires_grad_()
    plane(v).sum().backward()
    assert v.grad.isfinite().all() and (v.grad != 0).any()
    assert plane(v.double()).dtype == torch.float64


def test_pca_plane_and_centre_from_a_file(fitted):
    v = vectors()
    plane = FeaturePlane(basis='pca', center='file', file=fitted)
    expected = feature_moment(unit(v) - 0.2, random_basis(C, 4))
    torch.testing.assert_close(plane(v), expected)


def test_scale_of_the_vector_does_not_matter():
    plane = FeaturePlane(C, basis='learned', center='running').eval()
    plane.running_mean += 0.1
    torch.testing.assert_close(plane(vectors() * 50), plane(vectors()))


def test_running_centre_is_the_mean_then_a_running_mean():
    plane = FeaturePlane(C, center='running', momentum=0.25)
    batches = [unit(vectors(seed=s)).mean(0) for s in range(6)]
    expected = torch.zeros(C)
    for step, mean in enumerate(batches, 1):
        expected += max(1 / step, 0.25) * (mean - expected)
        plane(vectors(seed=step - 1))
        torch.testing.assert_close(plane.running_mean, expected)
        if step == 4:  # until 1/n falls below the momentum
            torch.testing.assert_close(
                plane.running_mean, torch.stack(batches[:4]).mean(0)
            )
    plane.eval()
    z = plane(vectors(seed=9))
    torch.testing.assert_close(plane.running_mean, expected)
    centred = feature_moment(unit(vectors(seed=9)) - expected, fourier_basis(C))
    torch.testing.assert_close(z, centred)


def test_what_has_no_direction_moves_no_centre():
    plane, v = FeaturePlane(C, center='running'), vectors()
    plane(torch.cat([torch.zeros(3, C), v, torch.zeros(5, C)])[None])
    expected = unit(v).mean(0)
    torch.testing.assert_close(plane.running_mean, expected)
    plane(torch.zeros(2, C))
    torch.testing.assert_close(plane.running_mean, expected)
    assert plane.num_batches_tracked == 1


def test_running_centre_survives_nan():
    plane = FeaturePlane(C, center='running')
    plane(vectors())
    before = plane.running_mean.clone()
    plane(torch.full((2, C), torch.nan))
    assert torch.equal(plane.running_mean, before)


def test_centring_breaks_a_shared_angle():
    # Two classes on a common offset: one angle before, two after.
    offset = fourier_basis(C)[0] * 5 + 6
    side = fourier_basis(C)[1] * 0.5
    v = torch.stack([offset + side, offset - side])
    raw = FeaturePlane()(v)
    centred = FeaturePlane(C, center='running')(v)

    def cosine(z):
        return torch.nn.functional.cosine_similarity(z[0], z[1], dim=0)

    assert cosine(raw) > 0.9
    assert cosine(centred) < -0.9


def test_learned_plane_learns_and_stays_a_plane():
    plane = FeaturePlane(C, basis='learned')
    optimizer = torch.optim.SGD(plane.parameters(), lr=1.0)
    start = plane.basis(vectors()).detach()
    for seed in range(20):
        optimizer.zero_grad()
        (plane(vectors(seed=seed))[:, 0] - 1).square().mean().backward()
        optimizer.step()
    basis = plane.basis(vectors()).detach()
    assert (basis - start).abs().max() > 0.05
    torch.testing.assert_close(basis @ basis.T, torch.eye(2))
    torch.testing.assert_close(basis.sum(1), torch.zeros(2), atol=1e-5, rtol=0)


def test_state_round_trip():
    options = dict(in_channels=C, basis='learned', center='running')
    saved, loaded = FeaturePlane(**options), FeaturePlane(**options, seed=5)
    saved(vectors())
    loaded.load_state_dict(saved.state_dict(), strict=True)
    torch.testing.assert_close(
        loaded.eval()(vectors(seed=3)), saved.eval()(vectors(seed=3))
    )
    # A part of the state is not a plain checkpoint, and is reported.
    partial = dict(rows=saved.rows)
    assert loaded.load_state_dict(partial, strict=False).missing_keys


@pytest.mark.parametrize(
    'options, words',
    [
        (dict(basis='wavelet'), ('wavelet', 'fourier')),
        (dict(center='median'), ('median', 'running')),
        (dict(basis='learned'), ('in_channels=None', 'set it')),
        (dict(center='running'), ('in_channels=None', 'set it')),
        (dict(in_channels=2), ('in_channels=2', '>= 3')),
        (dict(windings=(0,)), ('windings=(0,)', '>= 1')),
        (dict(windings=(1, 1)), ('windings=(1, 1)', 'different')),
        (
            dict(windings=(1, 2), basis='random'),
            ('windings=(1, 2)', "basis='random'"),
        ),
        (dict(momentum=0), ('feature_plane.momentum=0', '> 0 and <= 1')),
        (dict(momentum=float('nan')), ('momentum=nan', 'finite')),
        (dict(momentum='0.1'), ("momentum='0.1'", 'number')),
        (dict(seed=-1), ('feature_plane.seed=-1', '>= 0')),
        (dict(seed=0.5), ('seed=0.5', 'an integer')),
        (dict(windings=(1.5,)), ('windings=(1.5,)', 'an integer')),
        (dict(windings=()), ('windings=()', '>= 1')),
        (dict(in_channels=True), ('in_channels=True', 'an integer')),
        (dict(file=3), ('file=3', 'a string')),
        (dict(basis='pca'), ('file=None', "'basis'")),
        (dict(center='file'), ('file=None', "'center'")),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(ValueError) as caught:
        FeaturePlane(**options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize('scale', [2.0**-100, 2.0**100])
def test_vectors_of_any_size_have_their_moment(scale):
    plane = FeaturePlane(3, center='running').eval()
    expected = plane(vectors()[:, :3])
    assert torch.equal(plane(scale * vectors()[:, :3]), expected)


def test_another_channel_number_is_refused():
    with pytest.raises(ValueError, match='in_channels=12.*5 channels'):
        FeaturePlane(C)(torch.rand(2, 5))


@pytest.mark.parametrize('basis', ['fourier', 'random', 'learned'])
def test_numbers_of_numpy_are_numbers(basis):
    options = dict(in_channels=5, seed=3, momentum=0.5)
    given_options = dict(
        in_channels=np.int64(5), seed=np.int64(3), momentum=np.float32(0.5)
    )
    vectors = torch.rand(4, 5)
    found, wanted = (
        FeaturePlane(basis=basis, center='running', **own)(vectors)
        for own in (given_options, options)
    )
    assert torch.equal(found, wanted)


@pytest.mark.parametrize('shape', [(5,), (2, 5), (2, 3, 5), (0, 5)], ids=str)
def test_vectors_of_any_shape_move_the_centre(shape):
    plane = FeaturePlane(5, center='running')
    vectors = torch.rand(shape) + 0.1
    assert plane(vectors).shape == (*shape[:-1], 2)
    if vectors.numel():
        unit = torch.nn.functional.normalize(vectors, dim=-1).reshape(-1, 5)
        torch.testing.assert_close(plane.running_mean, unit.mean(0))


@pytest.mark.parametrize('wrong', [None, torch.tensor(1.0), torch.ones(2, 0)])
def test_what_are_no_vectors_is_named(wrong):
    with pytest.raises(ValueError, match='^vectors'):
        FeaturePlane()(wrong)


def test_a_batch_without_vectors_is_none_for_the_running_centre():
    plane = FeaturePlane(C, center='running')
    plane(torch.ones(0, C))
    plane(torch.full((2, C), torch.nan))
    assert plane.num_batches_tracked == 0
    plane(vectors())
    mean = unit(vectors()).mean(0)
    torch.testing.assert_close(plane.running_mean, mean)


RANKS = """
import torch
from u1_plugin.nn import FeaturePlane

torch.distributed.init_process_group('gloo')
rows = torch.eye(4)
plane = FeaturePlane(4, center='running')
first = torch.distributed.get_rank() == 0
plane(rows[[0, 1, 2]] if first else rows[[3]])
if first:
    print('mean', plane.running_mean.tolist())
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""


def test_each_vector_counts_on_whatever_rank(environment, tmp_path):
    (tmp_path / 'ranks.py').write_text(RANKS)
    launch = ['torch.distributed.run', '--nproc_per_node=2', '--standalone']
    found = subprocess.check_output(
        [sys.executable, '-m', *launch, str(tmp_path / 'ranks.py')],
        env=environment,
        text=True,
        timeout=120,
    )
    # Gloo of torch 2.8 says on the same stream who is connected.
    (mean,) = re.findall(r'mean (\[.*?\])', found)
    assert json.loads(mean) == pytest.approx([0.25] * 4)


def test_a_running_centre_is_in_float32_whatever_the_default():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        plane = FeaturePlane(8, center='running')
    finally:
        torch.set_default_dtype(before)
    assert plane.running_mean.dtype == torch.float32
