"""Corruptions repeat themselves, grow with severity and keep the format."""

import numpy as np
import pytest
from mmengine.config import Config
from mmpretrain.registry import DATASETS, TRANSFORMS
from picture_folders import write_folder

from u1_plugin.lab.corrupt import CORRUPTIONS


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp('images'))


def corrupted(name: str, severity: int, shape=(40, 48), number=0, **options):
    image = np.random.default_rng(1).integers(60, 200, (*shape, 3))
    transform = TRANSFORMS.build(
        dict(type='Corrupt', name=name, severity=severity, **options)
    )
    image = image.astype(np.uint8)
    results = transform(dict(img=image.copy(), sample_idx=number))
    return results['img'], image


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_every_corruption_repeats_itself(name):
    np.random.seed(5)
    first, image = corrupted(name, 3)
    after = np.random.rand()
    np.random.seed(6)
    second, _ = corrupted(name, 3)
    assert np.array_equal(first, second) and not np.array_equal(first, image)
    assert first.dtype == np.uint8 and first.shape == image.shape
    # The global generator goes on as if nothing had been drawn.
    np.random.seed(5)
    assert np.random.rand() == after


def test_noise_grows_with_severity_and_differs_between_images():
    by_severity = [corrupted('gaussian_noise', s) for s in (1, 3, 5)]
    error = [np.std(a.astype(float) - b) for a, b in by_severity]
    assert error[0] < error[1] < error[2]
    # ImageNet-C's standard deviation at severity 1, but for clipping.
    assert error[0] == pytest.approx(0.08 * 255, rel=0.1)
    one, other = (corrupted('fog', 3, number=n)[0] for n in (0, 1))
    assert not np.array_equal(one, other)


def test_channels_keep_their_order():
    grey = np.zeros((32, 32, 3), np.uint8)
    grey[..., 0] = 200  # blue
    step = TRANSFORMS.build(dict(type='Corrupt', name='contrast', severity=1))
    found = step(dict(img=grey, sample_idx=0))['img']
    assert found[..., 0].min() > found[..., 2].max()


def test_small_images_keep_their_size():
    found, image = corrupted('brightness', 2, shape=(8, 12))
    assert found.shape == image.shape
    # ImageNet-C adds 0.2 to the value of HSV, whatever the size.
    gain = found.max(-1).mean() - image.max(-1).mean()
    assert gain == pytest.approx(0.2 * 255, abs=12)


def test_four_options_corrupt_an_existing_config(root, folder):
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    config.test_dataloader.dataset.update(data_root=str(folder), data_prefix='')
    plain = DATASETS.build(config.test_dataloader.dataset)[0]['inputs']
    at = 'test_dataloader.dataset.pipeline.1.'
    config.merge_from_dict(
        {
            f'{at}type': 'Corrupt',
            f'{at}after': 'Resize',
            f'{at}name': 'gaussian_noise',
            f'{at}severity': 5,
        }
    )
    noisy = DATASETS.build(config.test_dataloader.dataset)[0]['inputs']
    assert noisy.shape == plain.shape == (3, 16, 16)
    assert (noisy.float() - plain.float()).abs().mean() > 10


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(name='rain', severity=1), "name='rain'"),
        (dict(name='fog', severity=6), 'severity=6'),
        (dict(name='fog', severity=1, min_size=16), 'min_size=16'),
        (dict(name='fog', severity=1, scale=16), "'scale'"),
        (dict(name='fog', severity=1, after=''), "Corrupt.after=''"),
        (dict(name='fog', severity=1, after='0'), "Corrupt.after='0'"),
        (dict(name='fog', severity=1, after=int), 'Corrupt.after=.*int'),
        (dict(name='fog', severity=1, after='Resize'), "after='Resize'"),
    ],
)
def test_corrupt_says_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        TRANSFORMS.build(dict(type='Corrupt', **options))


def test_corrupt_wants_pixels_not_numbers():
    step = TRANSFORMS.build(dict(type='Corrupt', name='fog', severity=1))
    with pytest.raises(ValueError, match='before any normalisation'):
        step(dict(img=np.zeros((32, 32, 3), np.float32)))
