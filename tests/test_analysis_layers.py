"""Which layers are bottlenecks, and how their padding is switched."""

import pytest
import torch
import torch.nn.functional as F
from helpers import build, images, plain_config
from torch import nn

from u1_plugin.lab.analysis.sources import load_network, set_padding
from u1_plugin.measure.bottlenecks import _all_passes_through, find_bottlenecks


def test_bottlenecks_are_the_last_maps_before_downsampling():
    model = build(plain_config()).eval()
    found = find_bottlenecks(model, images(2))
    assert found == [
        'backbone.layer1',
        'backbone.layer2',
        'backbone.layer3',
        'backbone',
    ]


def test_a_map_beside_a_shortcut_is_no_bottleneck():
    model = build(plain_config()).eval()
    pair = images(2)
    with torch.no_grad():
        assert _all_passes_through(model, 'backbone.layer2', pair)
        assert not _all_passes_through(model, 'backbone.layer3.0.conv1', pair)


def test_bottlenecks_of_tokens(root):
    config = root / 'configs/digits/swin-narrow_1xb64_digits.py'
    model = load_network(str(config), seed=0).model
    assert find_bottlenecks(model, images(2)) == [
        'backbone.stages.0',
        'backbone',
    ]


def test_a_network_without_maps_is_refused():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 2)

        def forward(self, x):
            return self.fc(x.mean((2, 3)))

    with pytest.raises(ValueError, match='--layers'):
        find_bottlenecks(Pooled(), images(2))


@pytest.mark.parametrize('mode', ['circular', 'reflect'])
def test_padding_is_switched(mode):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = images(2, 8)
    expected = F.conv2d(F.pad(x, (1,) * 4, mode), conv.weight, conv.bias)
    assert set_padding(nn.Sequential(conv, nn.Conv2d(4, 4, 1)), mode) == 1
    torch.testing.assert_close(conv(x), expected)
    with pytest.raises(ValueError, match='no zero-padded'):
        set_padding(nn.Sequential(conv), mode)


def test_same_padding_is_switched():
    """With circular padding, a rolled image gives the rolled map."""
    from timm.layers import Conv2dSame

    torch.manual_seed(0)
    conv = Conv2dSame(3, 4, 3, stride=2)
    x = images(2, 8)
    size = conv(x).shape
    rolled = x.roll(2, -1)
    assert not torch.allclose(conv(rolled), conv(x).roll(1, -1))
    set_padding(conv, 'circular')
    assert conv(x).shape == size
    torch.testing.assert_close(conv(rolled), conv(x).roll(1, -1))
