"""Every config pair: what differs, what loads, what the logits are."""

import re
from pathlib import Path

import mmpretrain
import pytest
import torch
from helpers import build
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint
from mmpretrain.registry import MODELS
from twins import (
    build_untrained,
    check_same_network,
    listed_row,
    load_tool,
    samples_of,
    unreached,
)

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
TOOL = load_tool('maintenance/zoo_layers.py')
U1 = TOOL.zoo()
TWIN = 'u1_plugin.U1ImageClassifier'
#: Whose smaller sister has the same layers, only fewer or narrower.
LARGE = re.compile('(convnext|swin)-(base|small)|vit-base|resnet(34|101)_')
#: Parameters that come after the map, so that loss_u1 cannot reach them.
AFTER_THE_MAP = {
    'convnext': {'norm3.weight', 'norm3.bias'},
    'vgg': {
        f'classifier.{i}.{p}' for i in (0, 3, 6) for p in ('weight', 'bias')
    },
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read_pair(name: str, tmp_path: Path) -> tuple:
    """The stock config, read as a config that only inherits it, and ours."""
    u1 = CONFIGS / name
    base = Config._get_base_files(str(u1))
    assert len(base) == 1
    if '::' not in base[0]:
        base = [str((u1.parent / base[0]).resolve())]
    stock = tmp_path / 'stock.py'
    stock.write_text(f'_base_ = {base!r}\n')
    return Config.fromfile(stock), Config.fromfile(u1)


def inputs_of(name: str) -> torch.Tensor:
    small = any(word in name for word in ('digits', 'cifar', 'mnist'))
    side = 32 if small else 224
    return torch.rand(2, 3, side, side)


@pytest.mark.parametrize('name', U1)
def test_one_line_differs(name, tmp_path):
    stock, u1 = read_pair(name, tmp_path)
    assert stock.model.type == 'ImageClassifier' and u1.model.type == TWIN
    u1.model.type = 'ImageClassifier'
    u1.model.pop('u1', None)
    assert u1.to_dict() == stock.to_dict()


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.slow)
        if LARGE.search(name)
        else name
        for name in U1
    ],
)
def test_checkpoint_logits_and_gradients(name, tmp_path):
    stock_config, config = read_pair(name, tmp_path)
    stock = build_untrained(stock_config.model, seed=0)
    u1 = build_untrained(config.model, seed=1)
    row = TOOL.Row.of(name, u1.u1.sources[0])
    assert str(row) == listed_row(name)
    inputs = inputs_of(name)
    check_same_network(stock, u1, inputs)

    # A file, too: MMEngine raises for a missing or an unexpected key.
    save_checkpoint(dict(state_dict=stock.state_dict()), 'c.pth')
    load_checkpoint(u1, 'c.pth', map_location='cpu', strict=True)
    classes = u1.u1.class_angles.num_classes
    if 'vgg' not in name:
        assert classes == config.model.head.num_classes
    late = unreached(u1, inputs, samples_of(config.model, classes))
    assert late == AFTER_THE_MAP.get(name.split('/')[0], set())


@pytest.mark.parametrize(
    'name',
    [
        'digits/resnet18-narrow_1xb64_digits_u1.py',
        'digits/swin-narrow_1xb64_digits_u1.py',
    ],
)
def test_one_option_switches_every_choice(name):
    config = Config.fromfile(CONFIGS / name)
    config.merge_from_dict(
        {
            'model.u1.loss.loss_weight': 0.3,
            'model.u1.loss.mode': 'mse',
            'model.u1.class_angles.mode': 'uniform',
            'model.u1.neck.plane': 'joint',
            'model.u1.neck.orthant': 'softplus',
            'model.u1.neck.feature_plane.basis': 'learned',
            'model.u1.neck.feature_plane.center': 'running',
        }
    )
    branch = build_untrained(config.model, seed=0).u1
    assert (branch.loss.loss_weight, branch.loss.mode) == (0.3, 'mse')
    assert branch.class_angles.mode == 'uniform'
    assert (branch.neck.plane, branch.neck.orthant) == ('joint', 'softplus')
    assert branch.neck.feature_planes[0].basis_type == 'learned'


def test_the_index_lists_every_config(root):
    listed = {}
    for metafile in load(root / 'model-index.yml')['Import']:
        content = load(root / metafile)
        collections = {c['Name'] for c in content['Collections']}
        for model in content['Models']:
            assert model['In Collection'] in collections
            assert model['Name'] == Path(model['Config']).stem
            listed[model['Config']] = model
    files = {
        f'configs/{f.relative_to(CONFIGS)}'
        for f in CONFIGS.glob('*/*.py')
        if f.parent.name != '_base_'
    }
    assert set(listed) == files
    for config, model in listed.items():
        if 'Parameters' not in model.get('Metadata', {}):
            continue
        stock = Config.fromfile(root / config).model
        stock.type = 'ImageClassifier'
        built = MODELS.build(stock)  # the twin has as many
        count = sum(p.numel() for p in built.parameters())
        assert count == model['Metadata']['Parameters'], config


def test_mmpretrain_lists_and_gets_the_models():
    names = mmpretrain.list_models('*_u1')
    assert {Path(name).stem for name in U1} <= set(names)
    assert not mmpretrain.list_models('resnet18_8xb16_cifar100*_u2')
    name = 'resnet18-narrow_1xb64_digits_u1'
    model = mmpretrain.get_model(name)
    assert type(model).__name__ == 'U1ImageClassifier'
    assert model.u1.class_angles.num_classes == 10


def test_get_model_changes_the_classes_as_it_does_in_stock():
    name = 'resnet18-narrow_1xb64_digits'
    stock = mmpretrain.get_model(name, head=dict(num_classes=5))
    u1 = mmpretrain.get_model(f'{name}_u1', head=dict(num_classes=5))
    assert u1.u1.class_angles.num_classes == 5
    assert u1(torch.rand(2, 3, 16, 16)).shape == (2, 5)
    check_same_network(stock, u1, torch.rand(2, 3, 16, 16))


@pytest.mark.parametrize(
    'name, size, layers, channels',
    [
        (
            'resnet/resnet18_8xb32_in1k_u1.py',
            (64, 96),
            ['backbone.layer2', 'backbone.layer4'],
            [128, 512],
        ),
        (
            'swin_transformer/swin-tiny_16xb64_in1k_u1.py',
            (224, 288),
            ['backbone.stages.1', -1],
            [192, 768],
        ),
        (
            'convnext/convnext-tiny_32xb128_in1k_u1.py',
            (96, 160),
            ['backbone.stages.1', 'backbone.stages.3'],
            [192, 768],
        ),
        (
            'vision_transformer/deit-small_4xb256_in1k_u1.py',
            (96, 160),
            ['backbone.layers.5', 'backbone.ln1'],
            [384, 384],
        ),
        (
            'timm/timm-tf-efficientnet-lite0_8xb32_in1k_u1.py',
            (96, 160),
            ['backbone.timm_model.blocks.4', -1],
            [112, 1280],
        ),
    ],
)
def test_pyramids_and_other_sizes(name, size, layers, channels):
    config = Config.fromfile(CONFIGS / name)
    config.merge_from_dict(
        {
            'model.u1.neck': dict(
                layers=layers,
                plane='joint',
                feature_plane=dict(basis='random', center='running'),
            )
        }
    )
    model = build(config.model).train()
    assert model.u1.neck.in_channels == channels
    inputs = torch.rand(2, 3, *size)
    losses = model.loss(inputs, samples_of(config.model, 1000))
    parts = {key for key in losses if key.startswith('u1_')}
    assert parts == {
        f'u1_{plane}_{layer}'
        for plane in ('feature', 'image')
        for layer in layers
    }
    assert losses['loss_u1'].isfinite()
