"""Every config pair: what differs, what loads, what the logits are."""

import copy
from pathlib import Path

import mmpretrain
import pytest
import torch
from helpers import build, soft_samples
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.runner.checkpoint import load_checkpoint, save_checkpoint
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

CONFIGS = Path(__file__).resolve().parent.parent / 'configs'
U1 = sorted(str(f.relative_to(CONFIGS)) for f in CONFIGS.glob('*/*_u1.py'))
#: Parameters that come after the map, so that loss_u1 cannot reach them.
AFTER_THE_MAP = {
    'convnext': {'norm3.weight', 'norm3.bias'},
    'vgg': {
        f'classifier.{i}.{p}' for i in (0, 3, 6) for p in ('weight', 'bias')
    },
}


def read_pair(name: str, tmp_path: Path) -> tuple:
    """The stock config, read as a config that only inherits it, and ours."""
    u1 = CONFIGS / name
    base = (u1.parent / name.split('/')[1].replace('_u1', '')).resolve()
    if not base.exists():
        bases = Config._get_base_files(str(u1))
        base = next(b for b in bases if b.startswith('mmpretrain::'))
    stock = tmp_path / 'stock.py'
    stock.write_text(f'_base_ = [{str(base)!r}]\n')
    return Config.fromfile(stock), Config.fromfile(u1)


def build_untrained(model: dict, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(model))


def inputs_of(name: str) -> torch.Tensor:
    small = 'digits' in name or 'cifar' in name
    side = 32 if small else 224
    return torch.rand(2, 3, side, side)


def samples_of(config: Config, classes: int) -> list:
    if 'augments' in (config.model.get('train_cfg') or {}):
        return soft_samples(torch.full((2, classes), 1 / classes))
    return [DataSample().set_gt_label(i) for i in (0, classes - 1)]


@pytest.mark.parametrize('name', U1)
def test_only_neck_head_and_imports_differ(name, tmp_path):
    stock, u1 = read_pair(name, tmp_path)
    changed = {
        key
        for key in {*stock, *u1}
        if stock.get(key) != u1.get(key) and key != 'model'
    }
    assert changed == {'custom_imports', 'u1_neck', 'u1_head'}
    changed = {
        key
        for key in {*stock.model, *u1.model}
        if u1.model.get(key) != stock.model.get(key)
    }
    # MMEngine notes the scope of a foreign base in the model it merged into.
    assert changed - {'_scope_'} == {'neck', 'head'}
    assert u1.model.neck.neck == stock.model.get('neck')
    assert u1.model.head.cls_head == stock.model.head


@pytest.mark.parametrize('name', U1)
def test_checkpoint_logits_and_gradients(name, tmp_path):
    stock_config, config = read_pair(name, tmp_path)
    stock = build_untrained(stock_config.model, seed=0).eval()
    u1 = build_untrained(config.model, seed=1).eval()
    save_checkpoint(dict(state_dict=stock.state_dict()), 'c.pth')
    # Raises for a missing or an unexpected key.
    load_checkpoint(u1, 'c.pth', map_location='cpu', strict=True)
    inputs = inputs_of(name)
    with torch.no_grad():
        assert torch.equal(u1(inputs), stock(inputs))

    u1.train()
    samples = samples_of(config, u1.head.class_angles.num_classes)
    losses = u1.loss(inputs, samples)
    assert losses['loss_u1'].isfinite()
    losses['loss_u1'].backward()
    gradients = {n: p.grad for n, p in u1.backbone.named_parameters()}
    missing = {n for n, gradient in gradients.items() if gradient is None}
    assert missing == AFTER_THE_MAP.get(name.split('/')[0], set())
    reached = [g for g in gradients.values() if g is not None]
    assert all(g.isfinite().all() for g in reached)
    # The network's first parameter hears of it, through all layers.
    first = next(g for n, g in gradients.items() if n.endswith('weight'))
    assert (first != 0).any()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_one_option_switches_every_choice():
    for name in U1:
        config = Config.fromfile(CONFIGS / name)
        config.merge_from_dict(
            {
                'model.head.loss_u1.loss_weight': 0.3,
                'model.head.class_angles.mode': 'uniform',
                'model.neck.plane': 'joint',
                'model.neck.orthant': 'softplus',
                'model.neck.feature_plane.basis': 'learned',
                'model.neck.feature_plane.center': 'running',
            }
        )
        if config.model.backbone.get('depth') != 18:
            continue  # the same classes; building large ones takes time
        model = build_untrained(config.model, seed=0)
        assert model.head.loss_u1.loss_weight == 0.3
        assert model.head.class_angles.mode == 'uniform'
        assert (model.neck.plane, model.neck.orthant) == ('joint', 'softplus')
        assert model.neck.feature_planes[0].basis_type == 'learned'


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
        built = MODELS.build(Config.fromfile(root / config).model)
        count = sum(p.numel() for p in built.parameters())
        assert count == model['Metadata']['Parameters'], config


def test_mmpretrain_lists_and_gets_the_models():
    names = mmpretrain.list_models('*_u1')
    assert {Path(name).stem for name in U1} <= set(names)
    assert not mmpretrain.list_models('resnet18_8xb16_cifar100*_u2')
    model = mmpretrain.get_model('resnet18_8xb16_cifar10_u1')
    assert type(model.head).__name__ == 'U1LinearClsHead'


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
    config.model.neck.update(
        layers=layers,
        in_channels=channels,
        plane='joint',
        feature_plane=dict(basis='random', center='running'),
    )
    model = build(config.model).train()
    inputs = torch.rand(2, 3, *size)
    samples = samples_of(config, 1000)
    losses = model.loss(inputs, samples)
    parts = {key for key in losses if key.startswith('u1_')}
    assert parts == {
        f'u1_{plane}_{layer}'
        for plane in ('feature', 'image')
        for layer in layers
    }
    assert losses['loss_u1'].isfinite()
