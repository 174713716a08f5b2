"""A network is loaded at a size of one's own, and its padding is switched."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import images
from mmengine.config import Config
from mmpretrain.registry import TRANSFORMS
from torch import nn

from u1_plugin.lab.analysis.built_in_images import image_folder
from u1_plugin.lab.analysis.images import (
    make_dataset,
    prepare_image,
    subset_index,
)
from u1_plugin.lab.analysis.sources import (
    Network,
    _timm_config,
    load_network,
    set_padding,
    untrained_twin,
)


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


def test_a_size_of_ones_own_for_a_network_of_one_size():
    """Position embeddings of timm fit the images that are shown."""
    name = 'timm:vit_tiny_patch16_224'
    network = load_network(name, seed=0, size=64)
    with torch.no_grad():
        assert network.model(images(1, 64)).shape == (1, 1000)
    convolutions = load_network('timm:resnet10t', seed=0, size=64)
    assert 'img_size' not in convolutions.config.model


def test_weights_of_another_size_are_refused(tmp_path):
    name = 'timm:vit_tiny_patch16_224'
    other = load_network(name, seed=0, size=64).model
    file = tmp_path / 'small.pth'
    torch.save(other.model.state_dict(), file)
    with pytest.raises(ValueError, match=r'does not fit .* no --size'):
        load_network(name, str(file))


def test_untrained_twin_is_seeded(network):
    state = torch.random.get_rng_state()
    twins = [untrained_twin(network, seed).model for seed in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, same, other = (twin.backbone.conv1.weight for twin in twins)
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_weights_of_another_network_are_refused(config_file, tmp_path):
    file = tmp_path / 'other.pth'
    torch.save(dict(state_dict=dict(a=torch.zeros(1))), file)
    with pytest.raises(ValueError, match='backbone.conv1.weight'):
        load_network(str(config_file), str(file))
    with pytest.raises(ValueError, match='--untrained'):
        load_network(str(config_file))


def test_names_of_sources(network, tmp_path):
    with pytest.raises(ValueError, match='timm has no such model'):
        load_network('timm:resnet_of_nobody', seed=0)
    with pytest.raises(ValueError, match='is no folder'):
        make_dataset(network.config, str(tmp_path / 'nothing'))
    config = Config(dict(test_pipeline=[]))
    with pytest.raises(ValueError, match='no test images'):
        make_dataset(config, 'config')
    assert subset_index(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert subset_index(9, 3).tolist() == [0, 4, 8]


@pytest.mark.parametrize(
    'name, count, classes', [('photos', 21, None), ('faces', 200, 2)]
)
def test_built_in_images(network, name, count, classes):
    with image_folder(name) as place:
        dataset = make_dataset(network.config, str(place))
        # Releases of scikit-image differ in the pictures that they ship.
        assert len(dataset) == count or name == 'photos' and len(dataset) > 9
        names = dataset.metainfo.get('classes') if classes else None
        assert (names and len(names)) == classes
        file = dataset.get_data_info(0)['img_path']
        batch = prepare_image(network.config, file, size=24)
    assert batch['inputs'][0].shape == (3, 24, 24)
    assert not place.exists()


def test_network_is_a_tuple_of_what_it_names(network):
    assert isinstance(network, Network) and not network.model.training
    assert network.weights == 'untrained, seed 0'


def test_weights_that_cannot_be_had_are_named(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="CHECKPOINT '.*no.pth' does"):
        load_network('timm:resnet10t', str(tmp_path / 'no.pth'))
    # As without a connection, and with nothing downloaded before.
    import timm

    def refused(*args, **kwargs):
        raise OSError('Cannot reach the hub')

    monkeypatch.setattr(timm.models._builder, 'load_pretrained', refused)
    with pytest.raises(ValueError, match='cannot be had here .*--untrained'):
        load_network('timm:resnet10t')


@pytest.mark.parametrize(
    'name, edge, interpolation, whole',
    [
        ('resnet18.tv_in1k', 256, 'bilinear', False),
        ('resnet50.a1_in1k', 235, 'bicubic', False),  # 224 / 0.95, rounded down
        ('dm_nfnet_f1.dm_in1k', 246, 'bicubic', True),
    ],
)
def test_pictures_are_prepared_as_timm_prepares_them(
    name, edge, interpolation, whole
):
    config = _timm_config(name, pretrained=False)
    pipeline = config.test_dataloader.dataset.pipeline
    resize = TRANSFORMS.build(pipeline[1])
    assert resize.interpolation == interpolation
    picture = np.zeros((300, 600, 3), np.uint8)
    shape = resize(dict(img=picture))['img'].shape[:2]
    assert shape == ((edge, edge) if whole else (edge, 2 * edge))
    assert pipeline[2].crop_size == 224
    data = timm.data.resolve_data_config(
        {}, pretrained_cfg=timm.get_pretrained_cfg(name).to_dict()
    )
    theirs = timm.data.create_transform(**data).transforms[0].size
    assert theirs == ((edge, edge) if whole else edge)


def test_pictures_that_timm_pads_are_refused(monkeypatch):
    """Cut to a square, they would be other pictures, without a word."""
    padded = timm.get_pretrained_cfg('resnet18')
    monkeypatch.setattr(padded, 'crop_mode', 'border')
    monkeypatch.setattr(timm, 'get_pretrained_cfg', lambda name: padded)
    with pytest.raises(ValueError, match="timm:resnet18.*crop_mode='border'"):
        _timm_config('resnet18', pretrained=False)
