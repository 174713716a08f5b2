"""Streaming sums of few images, of flat ones, and at the bins' edges."""

import numpy as np
import pytest
import torch
from test_sums import angles_of, energies

from u1_plugin.geometry import pca_basis
from u1_plugin.measure.accumulators import AngleAccumulator, EnergyAccumulator
from u1_plugin.measure.vectors import VectorAccumulator


def test_groups_without_an_image_are_left_out():
    maps = energies(5).double()
    total = EnergyAccumulator(groups=4)
    total.update(maps, torch.tensor([2, 8, 6, 4, 0]))  # of 4: 2, 0, 2, 0, 0
    found = total.summary()
    assert found.group_sizes.tolist() == [3, 2]
    relative = (maps / maps.mean((1, 2), keepdim=True)).numpy()
    for own, images in zip(found.group_maps, ([1, 3, 4], [0, 2])):
        np.testing.assert_allclose(own, relative[images].mean(0), rtol=1e-12)


def test_bins_of_angles_have_their_edges():
    theta = torch.tensor([-2.0, -1.0, 0.0, 1.0]).double() * torch.pi / 2
    moments = angles_of(theta + 1e-9)
    moments = torch.cat([moments, angles_of(theta - 1e-9)])
    exact = torch.tensor([[-1.0, 0.0], [-1.0, -1e-30]])  # pi, and above -pi
    total = AngleAccumulator(1, bins=4)
    total.update(torch.cat([moments, exact]), torch.zeros(10).long())
    assert total.summary().table.tolist() == [[3, 2, 2, 3]]


def test_flat_images_have_no_symmetry_of_their_own():
    maps = energies(4)
    rest, total = EnergyAccumulator(), EnergyAccumulator()
    rest.update(maps), total.update(maps)
    total.update(torch.ones(3, 6, 9))
    assert total.n == 7
    found, expected = total.summary(), rest.summary()
    np.testing.assert_allclose(found.image_symmetry, expected.image_symmetry)
    flat = EnergyAccumulator()
    flat.update(torch.ones(3, 6, 9))
    assert np.isnan(flat.summary().image_symmetry)


@pytest.mark.parametrize('count, channels', [(2, 3), (3, 2), (3, 3)])
def test_a_plane_needs_three_vectors_of_three_channels(count, channels):
    vectors = torch.rand(
        count, channels, generator=torch.Generator().manual_seed(0)
    ).double()
    total = VectorAccumulator()
    total.update(torch.cat([vectors, torch.zeros(2, channels)]))
    assert (total.state()['count'], total.state()['skipped']) == (count, 2)
    if min(count, channels) < 3:
        with pytest.raises(ValueError, match=f'^{count} vector.* {channels} '):
            total.pca_basis()
    else:
        unit = vectors / vectors.norm(dim=1, keepdim=True)
        expected = pca_basis(unit)
        np.testing.assert_allclose(total.pca_basis(), expected, atol=1e-7)


def test_vectors_that_are_not_finite_count_apart():
    vectors = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    total = VectorAccumulator()
    broken = torch.tensor([[np.nan, 1, 1, 1], [np.inf, 1, 1, 1]])
    total.update(torch.cat([vectors, broken]))
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    state = total.state()
    assert (state['count'], state['skipped']) == (5, 2)
    np.testing.assert_allclose(state['total'], unit.sum(0))
    np.testing.assert_allclose(state['products'], unit.T @ unit)


def test_a_state_stays_as_it_was():
    total = AngleAccumulator(3)
    total.update(torch.ones(2, 2), torch.tensor([0, 1]))
    state = total.state()
    total.update(torch.ones(2, 2), torch.tensor([0, 1]))
    assert state['table'].sum() == 2 and total.state()['table'].sum() == 4


def test_energies_below_zero_are_refused():
    total = EnergyAccumulator()
    with pytest.raises(ValueError, match=r'energy has -1\b.* >= 0'):
        total.update(torch.tensor([[[1.0, -1.0]]]))
    assert total.size is None


def test_no_vector_with_a_direction_has_no_centre():
    total = VectorAccumulator()
    total.update(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r'none of 3 vector\(s\)'):
        total.center()
