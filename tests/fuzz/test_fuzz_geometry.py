"""Every function of the geometry against float64 arithmetic of NumPy."""

import math

import numpy as np
import torch
from hypothesis import strategies as st
from oracle import REFUSED, attempt, fuzz
from strategies import (
    FLOATING,
    ODD_TENSORS,
    SEED,
    SIZES,
    close,
    smooth,
    tensors,
    turned,
    whole,
)

from u1_plugin import geometry

POINTS = smooth(SIZES, 2, dtype=torch.float64)
ANGLES = tensors(SIZES, values=st.floats(-50, 50, width=32))
MAPS = tensors(SIZES, SIZES, SIZES, SIZES, dtype=FLOATING)
#: Relative errors of what is computed in float32 from either kind.
EXACT = 1e-5


def _complex(points: torch.Tensor) -> np.ndarray:
    return points.double().numpy() @ np.array([1, 1j])


def _error(tensor: torch.Tensor) -> float:
    return EXACT if tensor.dtype in (torch.float32, torch.float64) else 2e-2


@fuzz('geometry.angle_difference', first=ANGLES, second=st.floats(-50, 50))
def test_angle_difference(first, second):
    found = attempt(lambda: geometry.angle_difference(first, second))
    assert turned(found, first.double() - second)
    assert (found.abs() <= math.pi + 1e-6).all()


@fuzz(
    'geometry.resultant_length',
    theta=tensors(SIZES, SIZES, values=st.floats(-50, 50, width=32)),
    weighted=st.booleans(),
    dim=st.sampled_from([0, 1, -1, -2]),
)
def test_resultant_length(theta, weighted, dim):
    weight = torch.rand(theta.shape) + 0.1 if weighted else None
    each = np.ones(theta.shape) if weight is None else weight.double().numpy()
    sums = (each * np.exp(1j * theta.double().numpy())).sum(dim) / each.sum(dim)
    length = attempt(lambda: geometry.resultant_length(theta, weight, dim))
    assert close(length, abs(sums))
    assert (length <= 1 + 1e-6).all()


@fuzz(
    'geometry.direction, to_unit',
    vectors=tensors(SIZES, SIZES),
    eps=st.none() | st.floats(1e-6, 10),
)
def test_direction(vectors, eps):
    found = attempt(lambda: geometry.direction(vectors, eps))
    wide = vectors.double()
    length = (wide.square().sum(-1) + (eps or 0) ** 2).sqrt()[:, None]
    assert close(found, wide / length.where(length > 0, torch.tensor(1.0)))
    if vectors.size(1) == 2 and eps is not None:
        unit = attempt(lambda: geometry.to_unit(vectors, eps))
        assert close(unit, found, 1e-6)


@fuzz(
    'geometry.weighted_mean',
    weights=tensors(3, 4, values=st.floats(0, 100, width=32)),
    points=smooth(4, 2),
)
def test_weighted_mean(weights, points):
    rows = torch.cat([points, torch.ones(4, 1)], 1)
    found = attempt(lambda: geometry.weighted_mean(weights, rows))
    total = weights.double().sum(1, keepdim=True)
    wanted = weights.double() @ points.double()
    assert close(found, wanted / total.where(total > 0, torch.tensor(1.0)))


@fuzz('geometry.safe_norm', values=MAPS, dim=st.integers(-4, 3))
def test_safe_norm(values, dim):
    found = attempt(lambda: geometry.safe_norm(values.float(), dim))
    assert close(found, values.double().norm(dim=dim))


@fuzz('geometry.energy, pooled_vector', maps=MAPS)
def test_energy(maps):
    found = attempt(lambda: geometry.energy(maps))
    assert found.dtype in (torch.float32, torch.float64)
    assert close(found, maps.double().square().sum(1), _error(maps))
    pooled = attempt(lambda: geometry.pooled_vector(maps))
    assert close(pooled, maps.double().mean((2, 3)), _error(maps))


@fuzz('geometry.off_axis_angle', maps=smooth(SIZES, SIZES, 2, 2))
def test_off_axis_angle(maps):
    wide = maps.double()
    norm = wide.norm(dim=1)
    cosine = wide.sum(1) / norm / maps.size(1) ** 0.5
    found = attempt(lambda: geometry.off_axis_angle(wide))
    assert close(found.cos(), cosine)


@fuzz(
    'geometry.to_positive_orthant',
    maps=MAPS,
    rho=st.sampled_from([*geometry.ORTHANT_MAPS, 'Relu', '', 3, None]),
)
def test_to_positive_orthant(maps, rho):
    wide = maps.double()
    wanted = dict(
        relu=wide.clamp_min(0),
        abs=wide.abs(),
        softplus=torch.log1p((-wide.abs()).exp()) + wide.clamp_min(0),
        identity=wide,
    )
    wrong = {} if rho in wanted else dict(rho=rho)
    found = attempt(lambda: geometry.to_positive_orthant(maps, rho), wrong)
    if found is not REFUSED:
        assert close(found, wanted[rho], _error(maps))


@fuzz(
    'geometry.feature_moment, fourier_basis',
    channels=st.integers(3, 12) | st.integers(0, 12),
    other=st.integers(0, 1),
    winding=st.just(1) | st.integers(0, 6),
    seed=SEED.right,
)
def test_feature_moment(channels, other, winding, seed):
    rooms = channels >= 3 and 1 <= winding < channels / 2
    wrong = dict(channels=channels) if channels < 3 else dict(winding=winding)
    basis = attempt(
        lambda: geometry.fourier_basis(
            channels, torch.float64, winding=winding
        ),
        {} if rooms else wrong,
    )
    if basis is REFUSED:
        return
    phase = np.exp(2j * np.pi * winding * np.arange(channels) / channels)
    assert close(basis, np.stack([phase.real, phase.imag]))
    generator = torch.Generator().manual_seed(int(seed))
    vectors = torch.rand(3, channels + other, generator=generator)
    found = attempt(
        lambda: geometry.feature_moment(vectors, basis),
        dict(vectors=vectors) if other else {},
    )
    if found is not REFUSED:
        wanted = vectors.double().numpy() @ phase
        assert close(_complex(found).real, wanted.real)
        assert close(_complex(found).imag, wanted.imag)


@fuzz(
    'geometry.image_plane_basis, image_moment_basis',
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    winding=st.integers(1, 30),
)
def test_image_plane_basis(height, width, winding):
    y, x = np.mgrid[:height, :width]
    x, y = x - (width - 1) / 2, (height - 1) / 2 - y
    wanted = np.exp(1j * winding * np.arctan2(y, x)) * ((x != 0) | (y != 0))
    found = attempt(
        lambda: geometry.image_plane_basis(
            height, width, torch.float64, winding=winding
        )
    )
    assert close(found, np.stack([wanted.real, wanted.imag]))
    rows = attempt(
        lambda: geometry.image_moment_basis(height, width, winding=winding)
    )
    assert close(rows[:, :2], found.flatten(1).T)
    assert (rows[:, 2] == 1).all()


@fuzz(
    'geometry.image_moment, mirrored',
    maps=smooth(SIZES, SIZES, SIZES),
    windings=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    flips=st.tuples(st.booleans(), st.booleans()),
)
def test_mirrored_moments_are_those_of_the_mirrored_map(maps, windings, flips):
    energy = maps.square().double()
    dims = [dim for dim, flip in zip((-1, -2), flips) if flip]

    def moments(values: torch.Tensor) -> torch.Tensor:
        found = [geometry.image_moment(values, n) for n in windings]
        return torch.stack(found, 1)

    before = attempt(lambda: moments(energy))
    y, x = np.mgrid[: energy.size(1), : energy.size(2)]
    x, y = x - x.max() / 2, y.max() / 2 - y
    phase = np.exp(1j * np.arctan2(y, x)) * ((x != 0) | (y != 0))
    for k, n in enumerate(windings):
        wanted = (energy.numpy() * phase**n).sum((1, 2))
        wanted = wanted / energy.sum((1, 2)).numpy()
        assert close(_complex(before[:, k]).real, wanted.real)
        assert close(_complex(before[:, k]).imag, wanted.imag)
    asked = torch.tensor([flips] * len(maps))
    found = attempt(
        lambda: geometry.mirrored(moments(energy.flip(dims)), asked, windings)
    )
    assert close(found, before)


@fuzz('geometry.angle', points=POINTS)
def test_angle(points):
    found = attempt(lambda: geometry.angle(points))
    assert close(found, np.angle(_complex(points)))


@fuzz(
    'geometry.orthonormal_basis, random_basis, pca_basis',
    kind=st.sampled_from(['orthonormal', 'random', 'pca']),
    channels=st.integers(1, 9),
    rows=st.integers(1, 6),
    seed=whole(0, 9).right,
)
def test_planes(kind, channels, rows, seed):
    generator = torch.Generator().manual_seed(int(seed))
    vectors = torch.randn(rows, channels, generator=generator).double()
    calls = dict(
        orthonormal=lambda: geometry.orthonormal_basis(vectors),
        random=lambda: geometry.random_basis(channels, seed, torch.float64),
        pca=lambda: geometry.pca_basis(vectors),
    )
    fits = dict(orthonormal=rows == 2, random=True, pca=rows >= 3)[kind]
    wrong = dict(rows=vectors, vectors=vectors, channels=channels)
    right = fits and channels >= 3
    basis = attempt(calls[kind], {} if right else wrong)
    if basis is REFUSED:
        return
    assert close(basis.sum(1), np.zeros(2))
    across = vectors - vectors.mean(1, keepdim=True)
    if kind == 'orthonormal':  # the same plane, the first row kept
        assert close(basis[0] * across[0].norm(), across[0], 1e-3)
    if kind == 'pca' and rows > 3 and channels > 3:
        across = across - across.mean(0)
        most = np.linalg.svd(across.numpy())[1][:2]
        assert close((across @ basis.T).norm(dim=0), most, 1e-3)
    if not (kind == 'pca' and min(rows - 1, channels - 1) < 2):
        assert close(basis @ basis.T, np.eye(2))


@fuzz(
    'geometry: odd tensors',
    name=st.sampled_from(['angle', 'energy', 'off_axis_angle', 'to_unit']),
    tensor=ODD_TENSORS,
)
def test_odd_tensors(name, tensor):
    found = attempt(
        lambda: getattr(geometry, name)(tensor),
        dict(moment=tensor, intensity=tensor),
        either=True,
    )
    assert found is REFUSED or found.dtype in (torch.float32, torch.float64)
