"""The corruptions of ImageNet-C as a step of a test pipeline."""

import inspect
import warnings
import zlib
from functools import cache
from typing import Annotated, Callable, Optional, Union

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from ..options import Range, Seed, checked, shown

#: The fifteen that make ImageNet-C's mean corruption error.
CORRUPTIONS = (
    'gaussian_noise',
    'shot_noise',
    'impulse_noise',
    'defocus_blur',
    'glass_blur',
    'motion_blur',
    'zoom_blur',
    'snow',
    'frost',
    'fog',
    'brightness',
    'contrast',
    'elastic_transform',
    'pixelate',
    'jpeg_compression',
)
_PACKAGE = 'imagecorruptions-imaug'


@cache
def _functions() -> dict:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            import imagecorruptions
    except ImportError as error:
        raise ImportError(
            'Corrupt needs the functions of ImageNet-C: pip install '
            f"'{_PACKAGE}'"
        ) from error
    return imagecorruptions.corruption_dict


def _built(after: Union[str, type], options: dict) -> Callable:
    try:
        first = TRANSFORMS.build(dict(options, type=after))
        if not callable(first):
            raise TypeError(f'{shown(first)} is no transform')
    except Exception as error:  # each transform has its own kinds
        raise ValueError(
            f'Corrupt.after={shown(after)} with the options {shown(options)} '
            f'cannot be built: {error}; name a transform and its options'
        ) from error
    return first


class Corrupt(BaseTransform):
    r"""One corruption of ImageNet-C, the same for an image in every run.

    It works on the image as it is at that place of the pipeline; put it after
    resizing and cropping, as ImageNet-C does. It can take the place of
    another step, which then runs first, so that a few options corrupt an
    existing config::

        --cfg-options test_dataloader.dataset.pipeline.1.type=Corrupt \
            test_dataloader.dataset.pipeline.1.after=Resize \
            test_dataloader.dataset.pipeline.1.name=fog \
            test_dataloader.dataset.pipeline.1.severity=3

    The functions take at least 32x32 pixels and are made for larger images:
    what is smaller is enlarged (bicubic), corrupted and shrunk again (area),
    which weakens noise and pixelation there.

    **Required keys:** ``img``, uint8 ``(H, W, 3)``; ``sample_idx``, as data
    sets give it. **Modified keys:** ``img``.

    Args:
        name (str): One of :data:`CORRUPTIONS`, or of the four more that the
            package ``imagecorruptions-imaug`` has for validation.
        severity (int): 1 to 5.
        seed (int): Of noise and of random shapes, together with the image's
            number in the data set.
        min_size (int): Pixels of the shorter side while corrupting, >= 32.
        after (str | type, optional): Type of a transform that runs first.
        rgb (bool): Whether images come as RGB, as those of CIFAR do, in place
            of BGR: snow and frost have colours of their own.
        **options: Of that transform.

    Raises:
        ValueError: If an option is out of its range.
        ImportError: If the package is missing.
    """

    @checked('Corrupt')
    def __init__(
        self,
        name: str,
        severity: Annotated[int, Range(1, 5)],
        seed: Seed = 0,
        min_size: Annotated[int, Range(32)] = 32,
        after: Union[None, str, type] = None,
        rgb: bool = False,
        **options,
    ) -> None:
        valid_names = sorted(_functions())
        if name not in valid_names:
            raise ValueError(
                f'Corrupt.name={name!r} must be one of {", ".join(valid_names)}'
            )
        if options and after is None:
            raise ValueError(
                f'Corrupt has options {sorted(options)} of another transform; '
                'name its type in Corrupt.after'
            )
        self.name = name
        self.severity = severity
        self.seed = seed
        self.min_size = min_size
        self.rgb = rgb
        self.first = None if after is None else _built(after, options)

    def transform(self, results: dict) -> Optional[dict]:
        """Corrupt ``img``.

        Args:
            results (dict): See the class.

        Raises:
            ValueError: If the image is not uint8 with three channels.
            RuntimeError: If the installed package cannot do it.
        """
        if self.first is not None:
            results = self.first(results)
        image = results['img']
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f'Corrupt: img is {image.dtype} of shape {image.shape}; it '
                'must be uint8 (H, W, 3): put it before any normalisation, '
                "and load images with color_type='color'"
            )
        results['img'] = self._corrupt(image, results.get('sample_idx', 0))
        return results

    def _corrupt(self, image: np.ndarray, number: int) -> np.ndarray:
        height, width = image.shape[:2]
        scale = self.min_size / min(height, width)
        large = image
        if scale > 1:
            size = (round(width * scale), round(height * scale))
            large = mmcv.imresize(image, size, interpolation='bicubic')
        order = 1 if self.rgb else -1
        rgb = np.ascontiguousarray(large[..., ::order])
        corrupted = self._apply(rgb, number)[..., ::order]
        if scale > 1:
            size = (width, height)
            corrupted = mmcv.imresize(corrupted, size, interpolation='area')
        return np.ascontiguousarray(corrupted)

    def _apply(self, rgb: np.ndarray, number: int) -> np.ndarray:
        function = _functions()[self.name]
        key = f'{self.seed} {self.name} {self.severity} {number}'
        seed = zlib.crc32(key.encode())
        takes_seed = 'seed' in inspect.signature(function).parameters
        options = dict(seed=seed) if takes_seed else {}
        # The functions draw from numpy's global generator, which is not ours.
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            with np.errstate(invalid='ignore'):
                corrupted = function(
                    Image.fromarray(rgb), self.severity, **options
                )
        except (TypeError, AttributeError) as error:
            raise RuntimeError(
                f'Corrupt.name={self.name!r}: the installed imagecorruptions '
                f'fails with this numpy or scikit-image ({error}); put '
                f'{_PACKAGE} in its place'
            ) from error
        finally:
            np.random.set_state(state)
        if not np.isfinite(corrupted).all():
            raise RuntimeError(
                f'Corrupt.name={self.name!r} finds nothing to draw on '
                f'{rgb.shape[1]}x{rgb.shape[0]} pixels; set a larger '
                'Corrupt.min_size'
            )
        return np.clip(corrupted, 0, 255).astype(np.uint8)

    def __repr__(self) -> str:
        return (
            f'Corrupt(name={self.name!r}, severity={self.severity}, '
            f'seed={self.seed}, min_size={self.min_size}, '
            f'after={self.first!r}, rgb={self.rgb})'
        )
