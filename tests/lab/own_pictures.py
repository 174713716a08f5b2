"""Pictures of one's own, and configs of networks for their channels."""

import numpy as np
from mmengine.config import Config
from PIL import Image

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackInputs')


def colours(channels: int = 3, size: int = 16, seed: int = 0) -> np.ndarray:
    """A blob of one colour, ``(H, W, C)``, uint8; 2-D for one channel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - rng.uniform(0.3, 0.7, 2)[:, None, None] * (
        size
    )
    blob = np.exp(-(x**2 + y**2) / size)
    pixels = blob[..., None] * rng.uniform(60, 255, channels)
    return np.squeeze(pixels.astype(np.uint8))


def save(pixels: np.ndarray, *files) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)


def config_of(root, channels: int = 3, **dataset) -> Config:
    """The digits config for so many channels, with another test data set."""
    config = Config.fromfile(
        root / 'configs/digits/resnet18-narrow_1xb64_digits.py'
    )
    config.model.backbone.in_channels = channels
    config.model.head.num_classes = config.data_preprocessor.num_classes = 3
    config.data_preprocessor.update(
        mean=[127.0] * channels, std=[60.0] * channels, to_rgb=False
    )
    config.test_dataloader.dataset.update(dataset)
    return config


def write(config: Config, file) -> str:
    config.dump(str(file))
    return str(file)
