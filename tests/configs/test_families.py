"""MMPretrain's other families: one option turns each into its U(1) twin."""

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmpretrain.registry import MODELS
from twins import (
    build_untrained,
    check_same_network,
    listed_row,
    load_tool,
    samples_of,
    unreached,
)

from u1_plugin.nn import find_maps

TOOL = load_tool('maintenance/zoo_layers.py')
STOCK = sorted(name for names in TOOL.STOCK.values() for name in names)
#: The largest; each of these families but MixMIM, BEiT, MLP-Mixer, ConvMixer
#: and RepMLP has a smaller one here, too.
SLOW = (
    'beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k.py',
    'convmixer/convmixer-768-32_10xb64_in1k.py',
    'cspnet/cspdarknet50_8xb32_in1k.py',
    'hornet/hornet-tiny-gf_8xb128_in1k.py',
    'mixmim/benchmarks/mixmim-base_8xb128-coslr-100e_in1k.py',
    'mlp_mixer/mlp-mixer-base-p16_64xb64_in1k.py',
    'repmlp/repmlp-base_8xb64_in1k.py',
    'twins/twins-pcpvt-small_8xb128_in1k.py',
    'vig/pvig-tiny_8xb128_in1k.py',
    'vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
    'wrn/wide-resnet50_8xb32_in1k.py',
)
#: Images other than 224x224 in three channels.
IMAGES = {
    'eva02': (3, 336, 336),
    'lenet': (1, 32, 32),
    'swin_transformer_v2': (3, 256, 256),
}
#: MMPretrain trains these without the teacher of their papers only.
CHANGED = {
    'efficientformer': dict(head=dict(distillation=False)),
    'levit': dict(head=dict(distillation=False)),
}
#: Where the parameters lie that come after the map (or beside it).
AFTER_THE_MAP = {
    'beit': ('ln2',),
    'conformer': ('conv_trans_12',),
    'convnext_v2': ('norm3',),
    'edgenext': ('norm3',),
    'eva02': ('ln2',),
    'hornet': ('norm3',),
    'inception_v3': ('fc',),
    'lenet': ('features.6', 'classifier'),
    'tinyvit': ('norm3',),
    'xcit': ('cls_token', 'ca_layers', 'norm'),
}


def config_of(name: str) -> Config:
    config = get_config(f'mmpretrain::{name}')
    config.merge_from_dict(dict(model=CHANGED.get(name.split('/')[0], {})))
    return config


def test_there_are_enough():
    zoo = {name.split('/')[0] for name in TOOL.zoo()}
    others = {name.split('/')[0] for name in STOCK} - zoo
    assert len(others) >= 35
    assert set(SLOW) < set(STOCK)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in STOCK
    ],
)
def test_the_twin_of(name):
    family = name.split('/')[0]
    stock_config, config = config_of(name), config_of(name)
    config.model.type = 'u1_plugin.U1ImageClassifier'
    stock = build_untrained(stock_config.model, seed=0)
    u1 = build_untrained(config.model, seed=1)
    row = TOOL.Row.of(f'mmpretrain::{name}', u1.u1.sources[0])
    assert str(row) == listed_row(f'mmpretrain::{name}')

    inputs = torch.rand(2, *IMAGES.get(family, (3, 224, 224)))
    check_same_network(stock, u1, inputs)
    classes = u1.u1.class_angles.num_classes
    assert classes == config.model.head.get('num_classes', classes)
    late = unreached(u1, inputs, samples_of(config.model, classes))
    prefixes = AFTER_THE_MAP.get(family, ())
    assert all(name.startswith(prefixes) for name in late)
    assert bool(late) == bool(prefixes)


def test_the_page_is_what_the_tool_writes(root):
    names = [name for group in TOOL.configs().values() for name in group]
    rows = {}
    for name in names:
        cells = listed_row(name)[2:-2].split(' | ')
        rows[name] = TOOL.Row(*cells)
    assert TOOL.page(rows) == (root / 'docs/layers.md').read_text()


def test_rows_of_configs_of_ones_own(root, capsys, monkeypatch):
    config = root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    monkeypatch.setattr('sys.argv', ['zoo_layers.py', str(config)])
    TOOL.main()
    assert f'| `{config}` | `backbone` | 128x' in capsys.readouterr().out


@pytest.mark.parametrize('name', ['levit/levit-128s_8xb256_in1k.py'])
def test_looking_for_a_map_leaves_no_trace(name):
    """LeViT's attention keeps a tensor when it is set to evaluation."""
    model = MODELS.build(get_config(f'mmpretrain::{name}').model).train()
    model.backbone.stages[0].eval()
    before = [dict(module.__dict__) for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    find_maps(model, 'auto')
    assert torch.equal(torch.get_rng_state(), generator)
    after = [dict(module.__dict__) for module in model.modules()]
    for old, new in zip(before, after):
        assert old.keys() == new.keys()
        assert all(old[key] is new[key] for key in old)
    assert all(
        torch.equal(value, state[key])
        for key, value in model.state_dict().items()
    )
    assert not any(m._forward_hooks for m in model.modules())


def test_a_network_without_a_map_is_told_what_there_is():
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='LeNet5', num_classes=-1),
        )
    )
    # Its last convolution gives one pixel, the poolings before it more.
    del model.backbone.features[:6]
    model.backbone.features[0] = torch.nn.Conv2d(1, 120, 224)
    with pytest.raises(ValueError, match=r'features.0 \(120, 1, 1\)'):
        find_maps(model, 'auto')
