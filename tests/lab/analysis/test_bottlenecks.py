"""Bottlenecks are the last maps before each downsampling, in any layout."""

import math
from collections import namedtuple

import pytest
import torch
from helpers import build, images, plain_config
from torch import nn

from u1_plugin.lab.analysis.bottlenecks import (
    _all_passes_through,
    find_bottlenecks,
)
from u1_plugin.lab.analysis.layer import LayerState
from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.nn.collector import MapCollector


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


Out = namedtuple('Out', 'value factor')
WRAPPINGS = dict(
    tensor=lambda x: x,
    dict=lambda x: dict(value=x),
    named=lambda x: Out(x, 1.0),
    tuple=lambda x: (x.mean((2, 3)), x, 1.0),
    list=lambda x: [x],
)


def unwrapped(output) -> torch.Tensor:
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, dict):
        return output['value']
    value, *factors = output[-2:]
    return math.prod(factors, start=value)


class HandOn(nn.Module):
    def forward(self, first, *others):
        return first


class Stage(nn.Module):
    """A convolution whose map is wrapped."""

    def __init__(self, wrap, channels, out_channels, stride=2):
        super().__init__()
        self.wrap = wrap
        self.conv = nn.Conv2d(channels, out_channels, 3, stride, 1)

    def forward(self, x):
        return self.wrap(self.conv(x))


class Chain(nn.Module):
    """Maps of 8x16, 4x8, 2x16 and 2x8, and much that is none of them."""

    def __init__(self, wrap=WRAPPINGS['tensor'], scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.backbone = Stage(wrap, 3, 1)
        self.mid = nn.Conv2d(1, 1, 1)  # changes nothing, but could learn
        nn.init.ones_(self.mid.weight), nn.init.zeros_(self.mid.bias)
        self.still, self.note = HandOn(), HandOn()
        self.twice = nn.Conv2d(1, 1, 1)
        self.down = Stage(wrap, 1, 5)
        self.beside = nn.Conv2d(5, 5, 1)  # in parallel to a shortcut
        self.windows = nn.Conv2d(5, 5, 1)  # of 4x4 pixels, as more images
        self.last = Stage(wrap, 5, 6, (2, 1))
        self.up = nn.ConvTranspose2d(6, 6, (4, 2), (4, 2))
        self.strip = nn.Conv2d(6, 6, (4, 1), (4, 1))
        self.point = nn.Conv2d(6, 6, 1)
        self.fc = nn.Linear(6, 3)
        nn.init.zeros_(self.fc.weight[0])  # a score that is always the same

    def forward(self, x):
        self.note('of no tensor')
        x = self.still(self.mid(unwrapped(self.backbone(x))), 1.0)
        x = unwrapped(self.down(self.twice(self.twice(x))))
        x = x + self.beside(x)
        x = self.windows(
            x.unflatten(3, (2, 4)).permute(0, 3, 1, 2, 4).flatten(0, 1)
        )
        x = x.unflatten(0, (-1, 2)).permute(0, 2, 3, 1, 4).flatten(3)
        x = self.strip(self.up(unwrapped(self.last(x))))
        x = self.fc(self.point(x.mean((2, 3), True)).flatten(1))
        return dict(constant=torch.ones_like(x), scores=self.scale * x)


BOTTLENECKS = ['mid', 'down', 'strip', 'last']


def wide_images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 16, 32, generator=generator)


@pytest.mark.parametrize('wrapping', WRAPPINGS)
def test_what_is_a_map_and_what_is_none(wrapping):
    model = Chain(WRAPPINGS[wrapping]).eval()
    assert find_bottlenecks(model, wide_images(2)) == BOTTLENECKS
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize('scale', [1e-7, 1e7])
def test_scores_of_any_scale_tell_the_same_bottlenecks(scale):
    model = Chain(scale=scale).eval()
    assert find_bottlenecks(model, wide_images(2)) == BOTTLENECKS


@pytest.mark.parametrize('count', [1, 3])
def test_one_image_has_its_negative_to_differ_from(count):
    assert find_bottlenecks(Chain().eval(), wide_images(count)) == BOTTLENECKS


def test_a_head_that_refuses_is_not_asked():
    class Unfilled(Chain):
        def extract_feat(self, x):
            return super().forward(x)

        def forward(self, x):
            raise ValueError('fill it first')

    assert find_bottlenecks(Unfilled().eval(), wide_images(2)) == BOTTLENECKS


def test_the_network_itself_is_none_of_its_modules():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    assert find_bottlenecks(model, images(2)) == ['0']


def test_tokens_lie_in_the_grid_of_a_named_module():
    class Embed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 8, 8)

        def forward(self, x):
            x = self.conv(x)
            return x.flatten(2).transpose(1, 2), tuple(x.shape[2:])

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.mix = Embed(), nn.Linear(4, 4)

        def forward(self, x):
            return self.mix(self.embed(x)[0]).mean(1)

    torch.manual_seed(0)
    model, pair = Tokens().eval(), wide_images(2)
    # Eight tokens fill 2x4 pixels, which the embedding's map tells.
    for named in ({}, dict(token_grid='embed')):
        assert find_bottlenecks(model, pair, **named) == ['mix']


def timm_model(name: str, **options) -> nn.Module:
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, **options).eval()


SMALL = dict(embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8)
SWIN = dict(
    img_size=32,
    patch_size=2,
    window_size=4,
    embed_dim=16,
    depths=(1, 1, 1),
    num_heads=(1, 2, 4),
)


@pytest.mark.parametrize(
    'name, options, shapes',
    [
        # A class token; with a distillation token; with four registers.
        ('deit_tiny_patch16_224', SMALL, [(32, 4, 4)]),
        ('deit_tiny_distilled_patch16_224', SMALL, [(32, 4, 4)]),
        ('vit_small_patch14_reg4_dinov2', SMALL, [(32, 4, 4)]),
        # Patches alone.
        (
            'vit_tiny_patch16_224',
            dict(SMALL, class_token=False, global_pool='avg'),
            [(32, 4, 4)],
        ),
        # Channels last.
        (
            'swin_tiny_patch4_window7_224',
            SWIN,
            [(16, 16, 16), (32, 8, 8), (64, 4, 4)],
        ),
    ],
)
def test_layouts_that_the_network_tells(name, options, shapes):
    """Without an option, and as the network's own pooling sees the maps."""
    model = timm_model(name, **options)
    pair = images(2, 32)
    found = find_bottlenecks(model, pair)
    with MapCollector(model, found) as collector, torch.no_grad():
        tokens = model.forward_features(pair)
        maps = collector.maps()
    assert [tuple(maps[n].shape[1:]) for n in found] == shapes
    last = maps[found[-1]]
    prefix = getattr(model, 'num_prefix_tokens', 0)
    if tokens.ndim == 3:
        own = tokens[:, prefix:].mean(1)
    else:
        own = tokens.mean((1, 2))
    torch.testing.assert_close(last.mean((2, 3)), own)


def test_the_analysis_takes_channels_last(tmp_path):
    """The survey's moments are those of the map, channels first."""
    model = timm_model('swin_tiny_patch4_window7_224', **SWIN)
    pair = images(6, 32)
    layer = find_bottlenecks(model, pair)[-1]
    state = LayerState(layer, 'relu', 6, tmp_path)
    with MapCollector(model, [layer]) as collector, torch.no_grad():
        own = model.forward_features(pair)
        state.update(collector.maps()[layer], torch.arange(6))
    found = state.finish(torch.zeros(6).long().numpy(), 1, ())
    energy = own.relu().square().sum(-1)
    assert found.channels == own.size(-1)
    relative = energy / energy.mean((1, 2), keepdim=True)
    torch.testing.assert_close(
        torch.from_numpy(found.energy.mean_map).float(), relative.mean(0)
    )
