"""``layers='auto'`` on networks of timm: the last map before pooling."""

import pytest
import timm
import torch
from torch import nn

from u1_plugin.nn import U1Branch
from u1_plugin.nn.maps import as_map

SMALL = dict(img_size=64, depth=2)
NARROW = dict(SMALL, embed_dim=96, num_heads=4)
#: Options that make a network small, the layer, how it holds its map.
NETWORKS = {
    'resnet10t': ({}, 'layer4', 'NCHW'),
    'convnext_atto': ({}, 'stages', 'NCHW'),
    'efficientnet_b0': ({}, 'bn2', 'NCHW'),
    # Its last convolution follows the pooling.
    'mobilenetv3_small_050': ({}, 'blocks', 'NCHW'),
    'vgg11': (dict(mlp_ratio=0.01), 'features', 'NCHW'),
    'regnetx_002': ({}, 's4', 'NCHW'),
    'densenet121': ({}, 'features', 'NCHW'),
    'hrnet_w18_small': ({}, 'final_layer', 'NCHW'),
    'nfnet_l0': ({}, 'final_act', 'NCHW'),
    'edgenext_xx_small': ({}, 'stages', 'NCHW'),
    # Its stem folds pixels into channels.
    'tresnet_m': ({}, 'body', 'NCHW'),
    'coatnet_pico_rw_224': ({}, 'norm', 'NCHW'),
    'poolformer_s12': ({}, 'stages', 'NCHW'),
    'pvt_v2_b0': ({}, 'stages', 'NCHW'),
    'levit_128s': ({}, 'stages', 'NLC'),
    'hiera_tiny_224': ({}, 'blocks.11', 'NLC'),
    'mambaout_femto': ({}, 'stages', 'NHWC'),
    'swin_tiny_patch4_window7_224': (
        dict(
            img_size=64,
            window_size=4,
            embed_dim=24,
            depths=(1, 1, 1, 1),
            num_heads=(1, 2, 3, 4),
        ),
        'norm',
        'NHWC',
    ),
    'mixer_s32_224': ({}, 'norm', 'NLC'),
    'vit_tiny_patch16_224': (SMALL, 'norm', 'NLC after 1'),
    # No norm, but for the pooled tokens.
    'vit_base_patch16_reg4_gap_256': (NARROW, 'blocks', 'NLC after 4'),
    'vit_small_patch14_reg4_dinov2': (
        dict(SMALL, img_size=56),
        'norm',
        'NLC after 5',
    ),
    'deit_tiny_distilled_patch16_224': (SMALL, 'norm', 'NLC after 2'),
    'beit_base_patch16_224': (NARROW, 'blocks.1', 'NLC after 1'),
    'eva02_tiny_patch14_224': (
        dict(SMALL, img_size=56),
        'blocks.1',
        'NLC after 1',
    ),
    'cait_xxs24_224': (SMALL, 'norm', 'NLC after 1'),
    # Class attention follows, whose output of patches is no map.
    'xcit_nano_12_p16_224': (dict(depth=2), 'blocks.1', 'NLC'),
    # The head takes class tokens alone.
    'pit_ti_224': ({}, 'transformers', 'NCHW'),
}
#: Whose ``forward_features`` gives something else than the map.
OTHER_FEATURES = {'xcit_nano_12_p16_224', 'pit_ti_224'}


def images_of(model: nn.Module, size) -> torch.Tensor:
    """No square where a network takes more than one size."""
    shape = (64, 96)
    if size is not None:
        shape = (size, size)
    elif model.default_cfg['fixed_input_size']:
        shape = model.default_cfg['input_size'][1:]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, *shape, generator=generator)


@pytest.mark.parametrize('name', NETWORKS)
def test_the_last_map_is_found_and_trains_the_network(name):
    options, layer, layout = NETWORKS[name]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **options)
    branch = U1Branch(model, 10, neck=dict(plane='joint'))
    (source,) = branch.sources
    assert source.module == layer
    assert str(source.layout).startswith(layout)
    assert layout.startswith('NLC after') == (source.layout.prefix > 0)
    images = images_of(model, options.get('img_size'))
    if name not in OTHER_FEATURES:
        model.eval()
        branch.eval()
        with torch.no_grad(), branch.reading() as reader:
            model(images)
            (found,) = reader.maps()
            features = model.forward_features(images)
        grid = tuple(found.shape[-2:])
        assert torch.equal(found, as_map(features, source.layout, grid))
        assert min(grid) > 1
    model.train()
    branch.train()
    with branch.reading():
        model(images)
    branch(torch.tensor([1, 2]))['loss_u1'].backward()
    grads = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    assert all(grad.isfinite().all() for grad in grads.values())
    stem = next(
        m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))
    )
    assert (stem.weight.grad != 0).any()
