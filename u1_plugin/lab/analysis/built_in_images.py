"""Images that come with packages and that the analysis tools take by name."""

from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, Iterator

import numpy as np
from PIL import Image

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
