"""Images that the analysis tools take by name."""

import copy
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, Iterator, List, Optional, Sequence

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

#: Images that come with packages, and what a reader must know of them.
BUILT_IN = dict(
    digits=(
        "scikit-learn's 1,797 scanned digits of 8x8 pixels; the digits "
        'configs train on 1,078 of them, so analyse their models with the '
        "config's own test images"
    ),
    photos=(
        '21 whole pictures of scikit-image and scikit-learn: photographs, '
        'and some through a microscope or telescope; no classes. Their makers '
        'put the subject in the middle'
    ),
    crops=(
        'random square crops of the 21 photos, 12 each: no place in the '
        "picture is the photographer's middle. Crops of one picture resemble "
        'each other, so intervals are too narrow'
    ),
    faces=(
        "scikit-image's 100 faces and 100 other patches of 25x25 grey pixels "
        '(a part of Labeled Faces in the Wild); the faces are aligned'
    ),
)

_PHOTOS = (
    *('astronaut', 'brick', 'camera', 'cell', 'chelsea', 'clock'),
    *('coffee', 'coins', 'grass', 'gravel', 'hubble_deep_field'),
    *('immunohistochemistry', 'microaneurysms', 'moon', 'page', 'retina'),
    *('rocket', 'stereo_motorcycle', 'text'),
)
_CROPS = 12
_IMAGES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def center_crop(size: int, edge: Optional[int] = None) -> List[dict]:
    """The usual test pipeline.

    Args:
        size (int): Of the square that the network sees, pixels.
        edge (int, optional): Length of the image's shorter edge before the
            crop. None means ``size``: nothing of a square image is lost.
    """
    return [
        dict(type='LoadImageFromFile'),
        dict(
            type='ResizeEdge',
            scale=edge or size,
            edge='short',
            interpolation='bicubic',
        ),
        dict(type='CenterCrop', crop_size=size),
        dict(type='PackInputs'),
    ]


def _photographs() -> Dict[str, np.ndarray]:
    try:
        from skimage import data
    except ImportError as error:
        raise ImportError(
            'these images come with scikit-image: pip install scikit-image'
        ) from error
    from sklearn.datasets import load_sample_images

    pictures = {}
    for name in _PHOTOS:
        try:
            picture = getattr(data, name)()
        except (ConnectionError, OSError, ModuleNotFoundError):
            continue  # releases of scikit-image differ in what they ship
        pictures[name] = picture[0] if isinstance(picture, tuple) else picture
    samples = load_sample_images()
    for name, picture in zip(samples.filenames, samples.images):
        pictures[Path(name).stem] = picture
    return pictures


def _as_rgb(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8:
        pixels = np.round(255 * (pixels / pixels.max())).astype(np.uint8)
    return Image.fromarray(pixels).convert('RGB')


def _crops(picture: Image.Image, rng: np.random.Generator) -> list:
    edge = min(picture.size) // 3
    corners = [rng.integers(0, n - edge + 1, _CROPS) for n in picture.size]
    return [picture.crop((x, y, x + edge, y + edge)) for x, y in zip(*corners)]


def _built_in_images(name: str) -> Iterator[tuple]:
    """``(class or '', file name, PIL image)`` of one of :data:`BUILT_IN`."""
    if name == 'digits':
        from sklearn.datasets import load_digits

        digits = load_digits()
        for i, (pixels, label) in enumerate(zip(digits.images, digits.target)):
            yield str(label), f'{i:04d}', _as_rgb(pixels / 16)
    elif name == 'faces':
        from skimage.data import lfw_subset

        for i, pixels in enumerate(lfw_subset()):
            label = 'face' if i < 100 else 'other'
            yield label, f'{i:03d}', _as_rgb(pixels)
    else:
        rng = np.random.default_rng(0)
        for title, pixels in _photographs().items():
            picture = _as_rgb(pixels)
            parts = _crops(picture, rng) if name == 'crops' else [picture]
            for i, part in enumerate(parts):
                yield '', f'{title}-{i}', part


@contextmanager
def image_folder(name: str) -> Iterator[Path]:
    """One of :data:`BUILT_IN` as files, for the length of the block.

    Yields:
        Path: A folder of images, or of one folder a class.
    """
    with TemporaryDirectory(prefix='u1-images-') as folder:
        for label, stem, picture in _built_in_images(name):
            place = Path(folder) / label
            place.mkdir(exist_ok=True)
            picture.save(place / f'{stem}.png', compress_level=1)
        yield Path(folder)


def _pipeline(config: Config, size: Optional[int]) -> List[dict]:
    if size is not None:
        return center_crop(size)
    if 'test_pipeline' in config:
        return copy.deepcopy(config.test_pipeline)
    return copy.deepcopy(config.test_dataloader.dataset.pipeline)


def make_dataset(config: Config, data: str, size: Optional[int] = None):
    """The images, prepared as the network's test images are.

    Args:
        config (Config): Of the network, for its test pipeline.
        data (str): ``'config'``: the config's own test images;
            or a folder of images, or of one folder a class.
        size (int, optional): Square in pixels that the network sees, in place
            of the pipeline's own.

    Returns:
        BaseDataset: Of MMEngine; ``metainfo['classes']`` if it has classes.

    Raises:
        ValueError: If there is no such folder, or the config no test images.
    """
    if data == 'config':
        if 'test_dataloader' not in config:
            raise ValueError(
                "data='config', but the config names no test images; give a "
                f'folder or one of {sorted(BUILT_IN)}'
            )
        dataset = copy.deepcopy(config.test_dataloader.dataset)
        if size is not None:
            dataset.pipeline = center_crop(size)
    else:
        folder = Path(data)
        if not folder.is_dir():
            raise ValueError(
                f'data={data!r} is no folder; give a folder of images or of '
                f'one folder a class, or one of {sorted(BUILT_IN)}'
            )
        loose = any(p.suffix.lower() in _IMAGES for p in folder.iterdir())
        dataset = dict(
            type='CustomDataset',
            data_root=str(folder),
            with_label=not loose,
            pipeline=_pipeline(config, size),
        )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(ConfigDict(dataset))


def prepare_image(
    config: Config, file: Path, size: Optional[int] = None
) -> dict:
    """One image as a batch, prepared as the network's test images are.

    Args:
        config (Config): Of the network, for its test pipeline.
        file (Path): The image.
        size (int, optional): See :func:`make_dataset`.
    """
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(_pipeline(config, size))
    return default_collate([pipeline(dict(img_path=str(file)))])


def subset_index(total: int, count: int) -> np.ndarray:
    """At most ``count`` numbers of ``range(total)``, evenly spaced."""
    count = min(total, count)
    return np.linspace(0, total - 1, count).round().astype(int)


def subset(dataset, count: int):
    """The images of :func:`subset_index`."""
    return dataset.get_subset(subset_index(len(dataset), count).tolist())


def make_loader(dataset, batch_size: int, workers: int = 0) -> DataLoader:
    """MMEngine's loader, in order and without a shuffle."""
    return Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=batch_size,
            num_workers=workers,
            persistent_workers=False,
            collate_fn=dict(type='default_collate'),
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    )


def class_names(dataset) -> Optional[Sequence[str]]:
    """The data set's classes in order, or None if it has no labels."""
    if not getattr(dataset, 'with_label', True):
        return None
    return dataset.metainfo.get('classes')
