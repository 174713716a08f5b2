"""The PCA plane: what varies most *across* the medial vector."""

import pytest
import torch

from u1_plugin.geometry import pca_basis
from u1_plugin.measure import VectorAccumulator

C = 6


def directions() -> torch.Tensor:
    """Orthonormal rows: the medial vector, then others across it."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(C, C, generator=generator, dtype=torch.float64)
    rows[0] = 1
    basis = torch.linalg.qr(rows.T).Q.T
    return basis * torch.where(basis[:, :1].sum(1) < 0, -1.0, 1.0)[:, None]


def cloud(sizes, count=4000) -> torch.Tensor:
    """Vectors whose parts along the directions have these exact variances."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(count, C, generator=generator, dtype=torch.float64)
    parts = torch.linalg.qr(parts - parts.mean(0)).Q * count**0.5
    return parts * torch.tensor(sizes).double() @ directions()


def signed(rows: torch.Tensor) -> torch.Tensor:
    peak = rows.gather(1, rows.abs().argmax(1, keepdim=True))
    return rows * peak.sign()


@pytest.mark.parametrize('brightness', [0.0, 0.3, 1.0, 30.0])
@pytest.mark.parametrize('offset', [0.0, 50.0])
def test_what_varies_along_the_medial_vector_is_left_out(brightness, offset):
    vectors = cloud([brightness, 0.2, 1.0, 0.1, 0.5, 0.05])
    vectors = vectors + offset * directions()[[0, 3]].sum(0)
    expected = signed(directions()[[2, 4]])
    torch.testing.assert_close(pca_basis(vectors), expected)
    # The first row is the wider one.
    swapped = cloud([brightness, 0.2, 0.5, 0.1, 1.0, 0.05])
    torch.testing.assert_close(pca_basis(swapped), expected.flip(0))


def test_a_plane_that_leans_towards_the_medial_vector():
    """Brightness and colour vary together; their common axis is not it."""
    medial, first, second, other = directions()[:4]
    a, b, c = cloud([0, 1.0, 0.6, 0.5, 0, 0]).matmul(directions()[1:4].T).T
    # Of these three the third varies most, but mostly along the medial one.
    vectors = (
        a[:, None] * first
        + b[:, None] * second
        + c[:, None] * (5 * medial + other)
    )
    found = pca_basis(vectors)
    torch.testing.assert_close(found, signed(torch.stack([first, second])))


def test_rows_are_orthonormal_and_across():
    vectors = torch.rand(40, C, dtype=torch.float64) ** 3
    rows = pca_basis(vectors)
    torch.testing.assert_close(rows @ rows.T, torch.eye(2).double())
    assert rows.sum(1).abs().max() < 1e-12
    assert (rows.gather(1, rows.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize('brightness', [0.1, 0.3])
def test_streamed_sums_give_the_same_plane(brightness):
    vectors = cloud([brightness, 0.02, 0.1, 0.01, 0.05, 0.005])
    # Normalising vectors of grey and a little colour lets brightness vary.
    vectors = vectors + 2 * directions()[0] + 0.8 * directions()[5]
    accumulator = VectorAccumulator()
    for part in vectors.split(1500):
        accumulator.update(part)
    unit = torch.nn.functional.normalize(vectors)
    medial = unit @ directions()[0]
    assert medial.var() > 0
    rows = torch.from_numpy(accumulator.pca_basis())
    torch.testing.assert_close(rows, pca_basis(unit), rtol=0, atol=1e-6)
    across = unit - unit.mean(1, keepdim=True)
    values = torch.linalg.eigh((across - across.mean(0)).T.cov(correction=0))
    expected = values.eigenvectors[:, -2:].flip(1).T
    torch.testing.assert_close(rows, signed(expected), rtol=0, atol=1e-6)
