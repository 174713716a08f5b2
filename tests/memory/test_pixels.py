"""Pixels are cut from maps with their places, the most energetic first."""

import numpy as np
import pytest
import torch

from u1_plugin.geometry import energy
from u1_plugin.memory import bottleneck_pixels
from u1_plugin.nn.feature_plane import FeaturePlane


def test_pixels_have_their_places():
    maps = torch.rand(2, 5, 3, 5)
    plane = FeaturePlane(in_channels=5).eval()
    labels, images = torch.tensor([7, 8]), torch.tensor([3, 4])
    pixels = bottleneck_pixels(maps, labels, images, plane)
    assert pixels.vectors.shape == (30, 5)
    # Row 0 is the top: y is up; column 4 the right. The corner is at radius 1.
    top_right = 15 + 4
    assert torch.equal(pixels.vectors[top_right], maps[1, :, 0, 4])
    assert pixels.labels[top_right] == 8 and pixels.images[top_right] == 4
    expected = torch.tensor([2.0, 1.0]) / 5**0.5
    torch.testing.assert_close(pixels.positions[top_right], expected)
    assert torch.equal(pixels.positions[15 + 7], torch.zeros(2))  # the axis
    hue = plane(maps[1, :, 0, 4][None])[0]
    expected = torch.atan2(hue[1], hue[0])
    torch.testing.assert_close(pixels.hues[top_right], expected)


def test_the_most_energetic_pixels_are_kept():
    maps = torch.rand(3, 5, 4, 4)
    plane = FeaturePlane(in_channels=5).eval()
    ids = torch.arange(3)
    every = bottleneck_pixels(maps, ids, ids, plane)
    few = bottleneck_pixels(maps, ids, ids, plane, keep=4)
    assert len(few.labels) == 12
    for image in range(3):
        strongest = energy(maps)[image].flatten().topk(4).values.min()
        own = every.select(every.images == image)
        expected = own.select(own.vectors.square().sum(1) >= strongest - 1e-6)
        found = few.select(few.images == image)
        for a, b in zip(found, expected):
            torch.testing.assert_close(a, b)


def test_pooled_mode_has_one_vector_an_image():
    maps = torch.rand(3, 5, 4, 4)
    plane = FeaturePlane(in_channels=5).eval()
    ids = torch.arange(3)
    pixels = bottleneck_pixels(maps, ids, ids, plane, mode='pooled')
    torch.testing.assert_close(pixels.vectors, maps.mean((2, 3)))
    assert pixels.positions.norm(dim=1).max() <= 1


@pytest.mark.parametrize('scale', [1e-30, 1e-19, 1.0, 1e19, 1e30])
@pytest.mark.parametrize('mode', ['pixel', 'pooled'])
def test_scales_do_not_change_what_is_memorised(mode, scale):
    generator = torch.Generator().manual_seed(1)
    maps = torch.rand(3, 5, 4, 4, generator=generator)
    plane = FeaturePlane(in_channels=5).eval()
    ids = torch.arange(3)
    keep = dict(keep=5) if mode == 'pixel' else {}
    plain = bottleneck_pixels(maps, ids, ids, plane, mode, **keep)
    scaled = bottleneck_pixels(maps * scale, ids, ids, plane, mode, **keep)
    torch.testing.assert_close(scaled.vectors / scale, plain.vectors)
    torch.testing.assert_close(scaled.positions, plain.positions)


@pytest.mark.parametrize('batch', [1, 2, 5])
def test_of_equal_energies_the_first_pixels_are_kept(batch):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randint(0, 3, (10, 7, 5, 5), generator=generator).float()
    plane = FeaturePlane(in_channels=7).eval()
    found = [
        bottleneck_pixels(part, ids, ids, plane, keep=6).positions
        for part, ids in zip(maps.split(batch), torch.arange(10).split(batch))
    ]
    places = bottleneck_pixels(
        maps[:1], torch.zeros(1).long(), torch.zeros(1).long(), plane
    ).positions
    expected = []
    for one in maps:
        energies = one.square().sum(0).flatten().tolist()
        order = sorted(range(25), key=lambda i: (-energies[i], i))[:6]
        expected.append(places[sorted(order)])
    assert torch.equal(torch.cat(found), torch.cat(expected))


@pytest.mark.parametrize(
    'maps', [torch.ones(1, 3, 0, 2), torch.ones(1, 3, 2, 2).cfloat()], ids=str
)
def test_pixels_are_cut_from_real_maps(maps):
    ids = torch.zeros(1).long()
    with pytest.raises(ValueError, match='^intensity'):
        bottleneck_pixels(maps, ids, ids, FeaturePlane(in_channels=3))


@pytest.mark.parametrize(
    'height, width, places',
    [
        (1, 1, [(0, 0)]),
        (1, 2, [(-1, 0), (1, 0)]),
        (2, 1, [(0, 1), (0, -1)]),
        (1, 3, [(-1, 0), (0, 0), (1, 0)]),
        # The corners of 3 x 2 lie at the distance sqrt(1 + 1/4).
        (3, 2, np.array([(-1, 2), (1, 2), (-1, 0), (1, 0), (-1, -2), (1, -2)])),
    ],
)
def test_places_on_the_smallest_maps(height, width, places):
    maps, ids = torch.rand(1, 3, height, width), torch.zeros(1).long()
    plane = FeaturePlane(in_channels=3).eval()
    found = bottleneck_pixels(maps, ids, ids, plane).positions
    places = torch.as_tensor(np.array(places)) / (5**0.5 if height > 2 else 1)
    torch.testing.assert_close(found, places.float())


@pytest.mark.parametrize('keep', [3, 4, 5, 2**31 - 1])
def test_no_more_pixels_are_kept_than_there_are(keep):
    generator = torch.Generator().manual_seed(0)
    maps, ids = torch.rand(2, 3, 2, 2, generator=generator), torch.arange(2)
    plane = FeaturePlane(in_channels=3).eval()
    every = bottleneck_pixels(maps, ids, ids, plane)
    found = bottleneck_pixels(maps, ids, ids, plane, keep=keep)
    assert len(found.labels) == min(2 * keep, 8)
    if keep > 3:
        assert all(torch.equal(one, two) for one, two in zip(every, found))


@pytest.mark.parametrize('mode', ['pixel', 'pooled'])
def test_a_plane_that_trains_is_not_changed(mode):
    plane = FeaturePlane(4, center='running')
    maps = torch.rand(8, 4, 3, 3)
    plane(maps.mean((2, 3)))
    mean, labels = plane.running_mean.clone(), torch.zeros(8).long()
    hues = [
        bottleneck_pixels(maps, labels, labels, plane, mode).hues
        for _ in range(2)
    ]
    assert torch.equal(*hues) and torch.equal(plane.running_mean, mean)
    assert plane.training and plane.num_batches_tracked == 1
    with torch.autocast('cpu', torch.bfloat16):
        found = bottleneck_pixels(maps, labels, labels, plane, mode).hues
    assert torch.equal(found, hues[0])
    with pytest.raises(ValueError, match='has seen no vectors yet'):
        fresh = FeaturePlane(4, center='running')
        bottleneck_pixels(maps, labels, labels, fresh, mode)
    parts = torch.nn.Sequential(torch.nn.BatchNorm1d(4).eval(), plane)
    bottleneck_pixels(maps, labels, labels, parts, mode)
    assert plane.training and not parts[0].training
