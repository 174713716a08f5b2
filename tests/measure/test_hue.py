"""Pictures of images, beside which maps are drawn."""

import numpy as np
import pytest
import torch

from u1_plugin.measure.hue import photograph


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5])
def test_a_photograph_of_any_channels(channels):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (channels, 4, 5), generator=generator)
    shown = image.double().mean(0).expand(3, -1, -1)
    if channels in (3, 4):
        shown = image[[2, 1, 0]].double()
    expected = shown.permute(1, 2, 0).numpy() / 255
    for given in (image.byte(), image.float(), image / 255):
        np.testing.assert_allclose(photograph(given), expected, atol=1e-6)
    if channels == 3:
        found = photograph(image.byte(), rgb=True)
        np.testing.assert_allclose(found, expected[..., ::-1], atol=1e-6)
