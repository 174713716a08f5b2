"""One's own pictures are prepared as the config's loader prepares its own."""

import json
import pickle
import sys

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmpretrain.datasets import CIFAR10
from mmpretrain.registry import DATASETS
from own_pictures import LOAD, PACK, colours, config_of, save, write
from PIL import Image
from twins import load_tool

from u1_plugin.lab.analysis.images import (
    class_names,
    make_dataset,
    make_loader,
    prepare_image,
)
from u1_plugin.lab.analysis.preparation import first_inputs, input_channels
from u1_plugin.lab.analysis.sources import load_network
from u1_plugin.measure.hue import photograph


def test_the_loader_s_own_pipeline_counts(root, tmp_path):
    """In wrappers and under test-time augmentation; no variable's."""
    save(colours(), tmp_path / 'a/1.png', tmp_path / 'b/1.png')
    config = config_of(root)
    views = [[dict(type='RandomFlip', prob=1.0)], [PACK]]
    augmented = dict(type='TestTimeAug', transforms=views)
    views[0].append(dict(type='RandomFlip', prob=0.0))
    inner = dict(
        type='CustomDataset',
        data_root=str(tmp_path),
        pipeline=[LOAD, dict(type='Resize', scale=12), augmented],
    )
    config.test_dataloader.dataset = dict(
        type='RepeatDataset', times=3, dataset=inner
    )
    own = make_dataset(config, 'config')
    folder = make_dataset(config, str(tmp_path))
    assert len(own) == len(folder) == 2  # a repetition is no observation
    for k in range(2):
        expected = np.asarray(Image.open(tmp_path / f'{"ab"[k]}/1.png'))
        found = own[k]['inputs']
        assert torch.equal(found, folder[k]['inputs'])
        assert found.shape == (3, 12, 12)
        # Not mirrored: the blob lies where it does in the picture.
        columns = found.float().sum((0, 1)).argmax() / 12
        assert abs(columns - expected.sum((0, 2)).argmax() / 16) < 0.1


def test_size_takes_the_place_of_what_it_can(root, tmp_path):
    save(colours(), tmp_path / '1.png', tmp_path / '2.png')
    grey = dict(type='LoadImageFromFile', color_type='grayscale')
    config = config_of(root, 1, pipeline=[grey, dict(type='Resize', scale=9)])
    with pytest.raises(ValueError, match=r'--size 8.*leave --size out'):
        make_dataset(config, str(tmp_path), 8)
    config.test_dataloader.dataset.pipeline.append(PACK)
    found = make_dataset(config, str(tmp_path), 8)[0]['inputs']
    assert found.shape == (1, 8, 8)
    config.test_dataloader.dataset.pipeline.insert(2, dict(type='RandomFlip'))
    with pytest.raises(ValueError, match=r"\['RandomFlip'\]"):
        make_dataset(config, str(tmp_path), 8)


def cifar(folder, pixels: list) -> dict:
    """CIFAR's files with these test images, and the data set's config."""
    base = folder / CIFAR10.base_folder
    base.mkdir(parents=True)
    data = np.stack([p.transpose(2, 0, 1).ravel() for p in pixels])
    labels = list(range(len(pixels)))
    content = {'data': data, 'labels': labels}
    (base / 'test_batch').write_bytes(pickle.dumps(content))
    meta = {CIFAR10.meta['key']: CIFAR10.METAINFO['classes']}
    (base / CIFAR10.meta['filename']).write_bytes(pickle.dumps(meta))
    return dict(type='CIFAR10', data_root=str(folder), split='test')


def test_pictures_for_a_set_of_arrays_are_its_arrays(
    root, tmp_path, monkeypatch
):
    """CIFAR's are RGB, and its pipeline loads no file."""
    monkeypatch.setattr(CIFAR10, '_check_integrity', lambda self: True)
    pixels = [colours(size=32, seed=seed) for seed in range(3)]
    for k, picture in enumerate(pixels):
        save(picture, tmp_path / f'own/{k}/1.png')
    config = config_of(root, pipeline=[PACK])
    config.test_dataloader.dataset = dict(
        cifar(tmp_path, pixels), pipeline=[PACK]
    )
    arrays = make_dataset(config, 'config')
    pictures = make_dataset(config, str(tmp_path / 'own'))
    assert class_names(arrays)[:2] == ['airplane', 'automobile']
    for k, picture in enumerate(pixels):
        assert torch.equal(arrays[k]['inputs'], pictures[k]['inputs'])
        own = prepare_image(config, tmp_path / f'own/{k}/1.png')['inputs'][0]
        assert torch.equal(own, pictures[k]['inputs'])
        np.testing.assert_allclose(photograph(own, True), picture / 255)
    assert arrays.rgb and pictures.rgb
    smaller = make_dataset(config, str(tmp_path / 'own'), 16)
    assert smaller[0]['inputs'].shape == (3, 16, 16)


@pytest.mark.parametrize(
    'channels, color', [(1, 'grayscale'), (3, 'color'), (4, 'unchanged')]
)
def test_both_tools_on_networks_of_other_channels(
    channels, color, root, tmp_path, monkeypatch
):
    for k in range(6):
        save(colours(channels, seed=k), tmp_path / f'data/{k % 3}/{k}.png')
    load = dict(LOAD, color_type=color)
    config = config_of(root, channels, pipeline=[load, PACK])
    file = write(config, tmp_path / 'config.py')
    network = load_network(file, seed=0)
    assert input_channels(network.model) == channels
    weights = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=network.model.state_dict()), weights)
    argv = [file, str(weights), '--data', str(tmp_path / 'data')]
    argv += ['--out', str(tmp_path / 'out'), '--layers', 'backbone.layer2']
    argv += ['--permutations', '99', '--control-images', '3']
    monkeypatch.setattr(sys, 'argv', ['analyze_bottleneck.py', *argv])
    load_tool('analyze_bottleneck.py').main()
    content = json.loads((tmp_path / 'out/numbers.json').read_text())
    image, layer = content['layers']
    assert image['channels'] == channels and layer['channels'] == 32
    # A single channel has no hue.
    assert len(image['planes']) == (1 if channels == 1 else 4)
    assert len(layer['planes']) == 4 and image['images'] == 6
    assert ('no hue' in content['facts']['input']) == (channels == 1)
    picture = tmp_path / 'data/0/0.png'
    argv = [file, str(weights), str(picture), '--out', str(tmp_path / 'h.png')]
    monkeypatch.setattr(sys, 'argv', ['visualize_image.py', *argv])
    load_tool('visualize_image.py').main()
    assert np.asarray(Image.open(tmp_path / 'h.png')).std() > 10


@pytest.mark.parametrize('channels', [1, 3, 4])
def test_pictures_are_read_with_the_network_s_channels(
    channels, root, tmp_path
):
    """Where the config's own images are arrays (MNIST: grey ones)."""
    save(colours(channels), tmp_path / '1.png')
    config = config_of(root, channels, pipeline=[PACK])
    batch = prepare_image(config, tmp_path / '1.png', None, channels)
    assert batch['inputs'].shape == (1, channels, 16, 16)
    shown = photograph(batch['inputs'][0])
    expected = colours(channels) / 255
    if channels == 1:
        expected = np.repeat(expected[..., None], 3, 2)
    np.testing.assert_allclose(shown, expected[..., :3])


def test_images_of_other_channels_than_the_network_s(root, tmp_path):
    save(colours(4), tmp_path / '1.png')
    network = load_network(write(config_of(root, 4), tmp_path / 'c.py'), seed=0)
    batch = prepare_image(network.config, tmp_path / '1.png')
    with pytest.raises(ValueError, match=r'\(3, 16, 16\).*color_type'):
        first_inputs(network.model, batch)


@pytest.mark.parametrize('whole, dtype', [(65535, 'uint16'), (1, 'float32')])
def test_photographs_of_other_numbers_than_bytes(whole, dtype):
    values = torch.from_numpy(np.full((2, 4, 4), 0.5 * whole).astype(dtype))
    np.testing.assert_allclose(photograph(values), 0.5, atol=1e-4)


def test_labels_without_names_are_numbered(root, tmp_path):
    save(colours(), tmp_path / '1.png', tmp_path / '2.png')
    (tmp_path / 'list.txt').write_text('1.png 0\n2.png 2\n')
    config = config_of(
        root,
        data_root='',
        data_prefix=str(tmp_path),
        ann_file=str(tmp_path / 'list.txt'),
    )
    images = make_dataset(config, 'config')
    assert class_names(images, 3) == ['0', '1', '2']
    with pytest.raises(ValueError, match='metainfo'):
        class_names(images)
    config.test_dataloader.dataset.with_label = False
    (tmp_path / 'list.txt').write_text('1.png\n2.png\n')
    assert class_names(make_dataset(config, 'config'), 3) is None


def test_one_image_is_too_few_for_a_plane(root, tmp_path, monkeypatch):
    save(colours(), tmp_path / 'data/1.png')
    file = write(config_of(root), tmp_path / 'config.py')
    argv = [file, '--untrained', '--data', str(tmp_path / 'data')]
    argv += ['--out', str(tmp_path / 'out')]
    monkeypatch.setattr(sys, 'argv', ['analyze_bottleneck.py', *argv])
    with pytest.raises(ValueError, match=r'--data: 1 image\(s\)'):
        load_tool('analyze_bottleneck.py').main()
    assert not (tmp_path / 'out').exists()


def test_layers_are_named_as_the_option(root, tmp_path, monkeypatch):
    save(colours(), *(tmp_path / f'data/{k}.png' for k in range(3)))
    file = write(config_of(root), tmp_path / 'config.py')
    argv = [file, '--untrained', '--data', str(tmp_path / 'data')]
    argv += ['--out', str(tmp_path / 'out'), '--layers', 'backbone.layer9']
    monkeypatch.setattr(sys, 'argv', ['analyze_bottleneck.py', *argv])
    with pytest.raises(ValueError, match="^--layers='backbone.layer9'"):
        load_tool('analyze_bottleneck.py').main()


def test_planes_of_another_analysis_are_refused(tmp_path):
    tool = load_tool('visualize_image.py')
    with pytest.raises(ValueError, match='^--planes .* has no backbone.npz'):
        tool.feature_plane('backbone', 8, tmp_path)
    np.savez(tmp_path / 'backbone.npz', basis=np.eye(2, 8))
    with pytest.raises(ValueError, match='^--planes: file='):
        tool.feature_plane('backbone', 8, tmp_path)


def test_built_data_sets_serve_as_well(root, tmp_path):
    """A loader that holds arrays: its batches collate as MMPretrain's do."""
    save(colours(), tmp_path / 'a/1.png', tmp_path / 'b/2.png')
    images = make_dataset(config_of(root), str(tmp_path))
    batch = next(iter(make_loader(images, 2)))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        expected = DATASETS.build(
            dict(
                type='CustomDataset',
                data_root=str(tmp_path),
                pipeline=config_of(root).test_dataloader.dataset.pipeline,
            )
        )
    wanted = default_collate([expected[0], expected[1]])
    assert torch.equal(batch['inputs'], wanted['inputs'])
