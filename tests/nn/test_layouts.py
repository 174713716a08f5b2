"""Tokens of other kinds among those of the image, and what runs late."""

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet18

from u1_plugin.nn import MapCollector, U1Branch, find_maps

GRID = 196  # of 14 x 14 patches


class Prompted(nn.Module):
    """A ViT with prompts before its patches (visual prompt tuning)."""

    def __init__(self, prompts: int, channels: int = 16) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, channels, 16, 16)
        self.prompts = nn.Parameter(torch.zeros(1, prompts, channels))
        self.block = nn.TransformerEncoderLayer(
            channels, 2, 32, batch_first=True
        )
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, 4)

    def forward_features(self, images):
        tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
        prompts = self.prompts.expand(len(tokens), -1, -1)
        return self.norm(self.block(torch.cat([prompts, tokens], 1)))

    def forward(self, images):
        return self.head(self.forward_features(images)[:, 0])


# 29 more tokens fill a square of 15 x 15, 60 one of 16 x 16.
@pytest.mark.parametrize('prompts', [1, 16, 17, 29, 60, 93])
def test_prompts_are_no_pixels(prompts):
    (named,) = find_maps(Prompted(prompts), ['norm'], 'patch_embed')
    assert named.shape[1:] == (14, 14)
    assert named.layout == ('NLC', prompts)
    if prompts <= 16:
        assert find_maps(Prompted(prompts), 'auto')[0][1:] == named[1:]
        return
    # And the patch embedding is not the last map because no other is known.
    with pytest.raises(ValueError, match="'auto' found no map.*token_grid"):
        find_maps(Prompted(prompts), 'auto')
    with pytest.raises(ValueError, match=r"'norm' gives .*token_grid"):
        find_maps(Prompted(prompts), ['norm'])


def test_prompts_of_a_named_grid_train():
    model = Prompted(50)
    neck = dict(plane='image', token_grid='patch_embed')
    branch = U1Branch(model, 4, neck=neck)
    images = torch.rand(2, 3, 96, 160)
    with branch.reading():
        tokens = model.forward_features(images)
    (activation,) = branch._reader.maps()
    pixels = tokens[:, 50:].transpose(1, 2).unflatten(2, (6, 10))
    assert torch.equal(activation, pixels)
    assert branch(torch.tensor([0, 1]))['loss_u1'].isfinite()


def test_tokens_in_the_order_of_mask_units_are_refused():
    model = timm.create_model('hiera_tiny_224', num_classes=4)
    (last,) = find_maps(model, 'auto')
    assert last.module == 'blocks.11' and last.shape[1:] == (7, 7)
    assert find_maps(model, ['blocks.10'])[0].shape == last.shape
    with pytest.raises(ValueError, match="'blocks.0' holds tokens in the ord"):
        find_maps(model, ['blocks.0'])


def test_a_layer_of_the_head_runs_too():
    model = timm.create_model('efficientvit_b0', num_classes=4)
    (source,) = find_maps(model, ['head.in_conv'])
    assert source.shape[0] == 1024
    with pytest.raises(ValueError, match='did not run'):
        find_maps(Unused(), ['spare'])


class Unused(nn.Module):
    """A module by two names, and one that does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.body = self.encoder = nn.Conv2d(3, 8, 3)
        self.spare = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        return self.body(images).mean((2, 3))


def test_a_module_has_all_its_names():
    (source,) = find_maps(Unused(), ['encoder'])
    assert (source.layer, source.shape[0]) == ('encoder', 8)


def test_a_trial_decides_no_size():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.LazyLinear(4))
    with pytest.raises(ValueError, match='2.weight has no size'):
        find_maps(model, 'auto')
    assert model[2].in_features == 0
    model(torch.rand(1, 3, 32, 32))
    assert find_maps(model, 'auto')[0].shape == (8, 30, 30)


@pytest.mark.parametrize('passes', [1, 2])
def test_in_inference_mode_a_map_is_as_it_was_returned(passes):
    """ResNet adds to it in place, and such tensors count no changes."""
    model = resnet18(num_classes=4).eval()
    images = torch.rand(2, 3, 64, 64)
    with MapCollector(model, ['layer4.1.bn2']) as collector:
        found = []
        for mode in (*[torch.inference_mode] * passes, torch.no_grad):
            with mode():
                model(images)
                found.append(collector.maps()['layer4.1.bn2'])
    for value in found:
        assert torch.equal(value, found[-1]) and value.min() < 0


class Unfolded(nn.Module):
    """Patches by reshaping and a linear layer: nothing has a grid."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * 8 * 8, 16)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.fc = nn.Linear(16, 4)

    def forward(self, images):
        patches = F.unfold(images, 8, stride=8).transpose(1, 2)
        return self.fc(self.block(self.embed(patches)).mean(1))


def test_without_a_grid_images_are_square():
    """64 tokens of 32 x 128 pixels would be read as 8 x 8, and not 4 x 16."""
    model = Unfolded()
    branch = U1Branch(model, 4, neck=dict(plane='image'))
    labels = torch.tensor([0, 1])
    with branch.reading():
        model(torch.rand(2, 3, 64, 64))
    assert branch(labels)['loss_u1'].isfinite()
    with branch.reading():
        model(torch.rand(2, 3, 32, 128))
    with pytest.raises(ValueError, match=r'\(H, W\) = \(32, 128\).*token_grid'):
        branch(labels)


class TwoGrids(Prompted):
    """With another module that has a map of its own, of half the size."""

    def __init__(self) -> None:
        super().__init__(1)
        self.coarse = nn.Conv2d(3, 16, 32, 32)

    def forward_features(self, images):
        shift = self.coarse(images).mean()
        return super().forward_features(images) + shift


def test_the_grid_of_another_stage_is_not_the_tokens():
    """7 x 7 after 148 others would be the last quarter of the image."""
    assert find_maps(TwoGrids(), ['norm'], 'patch_embed')[0].shape[1] == 14
    with pytest.raises(ValueError, match=r"'norm' gives .*token_grid"):
        find_maps(TwoGrids(), ['norm'], 'coarse')


class Normalising(Unfolded):
    """No module is called with the images as they come."""

    def forward(self, images):
        return self.net((images - 0.5) / 0.2)

    def __init__(self) -> None:
        super().__init__()
        self.net = Unfolded()

    forward_features = forward


def test_what_has_the_images_shape_tells_it():
    model = Normalising()
    branch = U1Branch(model, 4, neck=dict(plane='image'))
    labels = torch.tensor([0, 1])
    for images, square in (((32, 128), False), ((64, 64), True)) * 2:
        with branch.reading():
            model(images=torch.rand(2, 3, *images))
        if square:
            assert branch(labels)['loss_u1'].isfinite()
        else:
            with pytest.raises(ValueError, match='token_grid'):
                branch(labels)


def test_a_compiled_pass_is_one_graph():
    model = resnet18(num_classes=4)
    branch = U1Branch(model, 4, neck=dict(layers=['layer3', 'layer4']))

    def step(images):
        with branch.reading():
            return model(images)

    found = torch._dynamo.explain(step)(torch.rand(2, 3, 64, 64))
    assert found.graph_break_count == 0, found.break_reasons
