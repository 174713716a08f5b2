"""Hooks and metric on any layout of maps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from analysed_runs import make_runner, summary_file
from helpers import Pictures
from torch import nn

from u1_plugin.geometry import energy, image_moment, pooled_vector
from u1_plugin.lab.benchmark.behaviour_features import features
from u1_plugin.measure import AngleAccumulator, collapse_of
from u1_plugin.mm.symmetry_breaking import SymmetryBreaking
from u1_plugin.networks import find_module
from u1_plugin.nn import FeaturePlane

HOOKS = [
    dict(type='EnergyMapHook', radial_bins=4),
    dict(type='AngleStatsHook', permutations=9),
    dict(type='U1VisualizationHook', enable=True, interval=20),
]
METRIC = [dict(type='SymmetryBreaking', permutations=9)]


def timm_config(name: str, **options) -> dict:
    return dict(
        type='TimmClassifier', model_name=name, num_classes=10, **options
    )


def vit_config(kind: str, **options) -> dict:
    arch = dict(
        embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=48
    )
    backbone = dict(type=kind, arch=arch, img_size=64, patch_size=16, **options)
    head = dict(type='VisionTransformerClsHead', num_classes=10, in_channels=48)
    if kind == 'DistilledVisionTransformer':
        head['type'] = 'DeiTClsHead'
    return dict(type='ImageClassifier', backbone=backbone, neck=None, head=head)


def nhwc(output: torch.Tensor) -> torch.Tensor:
    return output.permute(0, 3, 1, 2)


def tokens_after(prefix: int):
    def maps(output: torch.Tensor) -> torch.Tensor:
        patches = output[:, prefix:].transpose(1, 2)
        return patches.unflatten(2, (4, 4))

    return maps


SWIN = dict(window_size=4, embed_dim=24, depths=(1, 1, 1, 1))
SMALL = dict(img_size=64, depth=2, embed_dim=48, num_heads=3)
#: Config of a network, the module that gives the last map, how it holds it.
NETWORKS = {
    'channels last': (
        timm_config(
            'swin_tiny_patch4_window7_224',
            img_size=64,
            num_heads=(1, 2, 3, 4),
            **SWIN,
        ),
        'model.norm',
        nhwc,
    ),
    'class token of timm': (
        timm_config('vit_tiny_patch16_224', **SMALL),
        'model.norm',
        tokens_after(1),
    ),
    'registers': (
        timm_config(
            'vit_small_patch14_reg4_dinov2', **dict(SMALL, img_size=56)
        ),
        'model.norm',
        tokens_after(5),
    ),
    'class token': (
        vit_config('VisionTransformer'),
        'backbone.ln1',
        tokens_after(1),
    ),
    'distilled': (
        vit_config('DistilledVisionTransformer'),
        'backbone.ln1',
        tokens_after(2),
    ),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_maps_of_any_layout_are_found_without_options(name, tmp_path):
    config, module, to_maps = NETWORKS[name]
    size = 56 if name == 'registers' else 64
    runner = make_runner(tmp_path, HOOKS, METRIC, model=config, size=size)
    metrics = runner.test()
    outputs = []
    handle = find_module(runner.model, module, '').register_forward_hook(
        lambda part, args, output: outputs.append(to_maps(output))
    )
    data = Pictures(23, size)
    with torch.no_grad():
        # The batches of the loop, for equal rounding.
        for part in ((data.inputs * 255 - 127.5) / 127.5).split(5):
            runner.model(part)
    handle.remove()
    maps = torch.cat(outputs)
    labels = torch.arange(23) % 10
    intensity = maps.relu()
    moments = dict(
        feature=FeaturePlane().eval()(pooled_vector(intensity)),
        image=image_moment(energy(intensity)),
    )
    found = summary_file(runner, 'angles_test_epoch_0')
    assert len(found['sources']) == 2
    for source, own in found['sources'].items():
        angles = AngleAccumulator(10)
        angles.update(moments[source.rpartition('/')[2]], labels)
        expected = angles.summary()
        np.testing.assert_allclose(own['mean'], expected.mean, atol=1e-4)
        np.testing.assert_allclose(own['length'], expected.length, atol=1e-4)
    expected = collapse_of(maps.mean((2, 3)), labels, 10)
    for values in (*found['layers'].values(), u1_values(metrics)):
        assert values['nc1'] == pytest.approx(expected.nc1, rel=1e-3)
        assert values['cdnv'] == pytest.approx(expected.cdnv, rel=1e-3)
        assert values['class_separation'] == pytest.approx(
            expected.separation, rel=1e-3
        )
    (layer,) = summary_file(runner, 'energy_test_epoch_0')['layers'].values()
    assert layer['map_size'] == list(maps.shape[2:])
    folder = Path(runner.log_dir) / 'vis_data/vis_image'
    assert len(list(folder.glob('u1_hue_*.png'))) == 2


def u1_values(metrics: dict) -> dict:
    return {k[3:]: v for k, v in metrics.items() if k.startswith('u1/')}


def test_collapse_is_the_report_s_of_the_same_features(tmp_path):
    """What the classifier takes after global average pooling."""
    runner = make_runner(tmp_path, HOOKS[1:2], METRIC)
    found = u1_values(runner.test())
    shown = features(runner.model, Pictures(23).inputs * 255)
    vectors = torch.cat([batch.vectors for batch in shown])
    expected = collapse_of(vectors, torch.arange(23) % 10, 10)
    assert found['nc1'] == pytest.approx(expected.nc1, rel=1e-4)
    assert found['cdnv'] == pytest.approx(expected.cdnv, rel=1e-4)
    assert found['class_separation'] == pytest.approx(
        expected.separation, rel=1e-4
    )


class Hues(nn.Module):
    """A network whose only map is the image."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 3, 1, bias=False)
        self.backbone.weight.data = torch.eye(3)[:, :, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.backbone(images).mean((2, 3))


@pytest.mark.parametrize('spread', [0.0, 1.0])
def test_a_shared_angle_is_long_and_says_nothing_of_the_class(spread):
    """For which no checkpoint should be chosen."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    theta = spread * 2 * torch.pi * labels / 3
    theta = theta + 0.1 * torch.randn(300, generator=generator)
    channel = 2 * torch.pi * torch.arange(3) / 3
    colors = 1 + (theta[:, None] - channel).cos()
    inputs = colors[:, :, None, None].expand(-1, -1, 32, 32)
    metric = SymmetryBreaking(layers='backbone')
    metric.dataset_meta = dict(classes=('red', 'green', 'blue'))
    model = Hues().eval()
    metric.attach(model)
    with torch.no_grad():
        model(inputs)
    metric.process(None, [dict(gt_label=label) for label in labels.view(-1, 1)])
    found = u1_values(metric.evaluate(300))
    metric.detach()
    assert found['resultant_length'] > 0.98
    if spread:
        assert found['class_information'] > 0.98
        assert found['class_information_p'] == pytest.approx(1 / 200)
        assert found['class_separation'] > 0.9
    else:
        assert abs(found['class_information']) < 0.05
        assert abs(found['between_share']) < 0.05
        assert found['shared_length'] > 0.98
