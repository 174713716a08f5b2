"""The images of an analysis, prepared as the network's test images are."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, default_collate
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from ...mm.data import leaves, once, one_view
from .built_in_images import BUILT_IN
from .pictures import PictureDataset, find_pictures
from .preparation import holds_rgb, picture_pipeline, sized


class ImageDataset(Dataset):
    """Some images of a data set; an error names the image.

    Args:
        dataset: Of MMPretrain or MMEngine, wrappers included.
        index (Sequence[int], optional): Which images; None means all.
        rgb (bool): Whether images of three channels come as RGB, not BGR.
    """

    def __init__(
        self,
        dataset: Any,
        index: Optional[Sequence[int]] = None,
        rgb: bool = False,
    ) -> None:
        self.dataset, self.rgb = dataset, rgb
        self.index = list(range(len(dataset)) if index is None else index)

    @property
    def metainfo(self) -> Dict[str, Any]:
        """Facts of the data set, such as its ``classes``."""
        return getattr(self.dataset, 'metainfo', {})

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict:
        try:
            return self.dataset[self.index[number]]
        except Exception as error:
            name = self.get_data_info(number).get('img_path', f'image {number}')
            raise ValueError(
                f'--data: {name} cannot be prepared: '
                f'{type(error).__name__}: {error}; mend or remove it'
            ) from error

    def get_data_info(self, number: int) -> Dict[str, Any]:
        """What the data set knows of an image, such as ``img_path``."""
        describe = getattr(self.dataset, 'get_data_info', None)
        return {} if describe is None else describe(self.index[number])


def _config_images(config: Config, size: Optional[int]) -> Any:
    loader = config.get('test_dataloader')
    if loader is None or 'type' not in loader['dataset']:
        raise ValueError(
            '--data config: the config names no test images '
            '(test_dataloader.dataset); give a folder or one of '
            f'{sorted(BUILT_IN)}'
        )
    return each_once(loader['dataset'], size)


def each_once(dataset: Any, size: Optional[int] = None) -> Any:
    """A copy of a data set's config that shows every image once, in one view.

    An image that a wrapper repeats is no further observation. For ``size``,
    see :func:`~.preparation.sized`.
    """
    dataset = once(dataset)
    for leaf in leaves(dataset):
        if isinstance(leaf, Mapping) and leaf.get('pipeline') is not None:
            leaf['pipeline'] = sized(one_view(leaf['pipeline']), size)
    return dataset


def make_dataset(
    config: Config, data: str, size: Optional[int] = None, channels: int = 3
) -> ImageDataset:
    """The images, prepared as the network's test images are.

    Args:
        config (Config): Of the network. The pipeline is the one that its test
            loader uses, or its validation loader.
        data (str): ``'config'``: the config's own test images, each once; or
            a folder (:func:`~.pictures.find_pictures`).
        size (int, optional): Square in pixels that the network sees, in place
            of the pipeline's own.
        channels (int): That the network takes. A picture is read so where the
            config's data set holds arrays and its pipeline reads no file.

    Returns:
        ImageDataset: ``metainfo['classes']`` if it has classes.

    Raises:
        ValueError: If there is no such folder, or the config no test images.
    """
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        if data == 'config':
            dataset = _config_images(config, size)
            built = DATASETS.build(ConfigDict(dataset))
        else:
            pictures = find_pictures(Path(data))
            steps = picture_pipeline(config, size, channels)
            built = PictureDataset(pictures, steps)
    return ImageDataset(built, rgb=holds_rgb(config))


def remarks(dataset: ImageDataset) -> List[str]:
    """What of a folder a reader should know: left out, or empty."""
    pictures = getattr(dataset.dataset, 'pictures', None)
    if pictures is None or pictures.classes is None:
        return []
    texts = []
    if pictures.stray:
        texts.append(
            f'{len(pictures.stray)} picture(s) beside the class folders left '
            f'out, such as {pictures.stray[0].name}'
        )
    empty = set(range(len(pictures.classes))) - set(pictures.labels)
    if empty:
        names = ', '.join(pictures.classes[label] for label in sorted(empty))
        texts.append(f'class folders without a picture: {names}')
    return texts


def prepare_image(
    config: Config, file: Path, size: Optional[int] = None, channels: int = 3
) -> dict:
    """One image as a batch, prepared as the network's test images are.

    Raises:
        ValueError: If the file is no image.
    """
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(picture_pipeline(config, size, channels))
    try:
        return default_collate([pipeline(dict(img_path=str(file)))])
    except Exception as error:
        raise ValueError(
            f'{file} cannot be prepared: {type(error).__name__}: {error}; '
            'name an image file'
        ) from error


def check_same_images(first: ImageDataset, second: ImageDataset) -> None:
    """Raise ValueError unless two data sets hold the same files in one order.

    Of images without files, their number is all that is compared here.
    """

    def files(dataset: ImageDataset) -> List[Any]:
        infos = (dataset.get_data_info(k) for k in range(len(dataset)))
        return [info.get('img_path') for info in infos]

    if len(first) == len(second) and files(first) == files(second):
        return
    raise ValueError(
        f'--against: its test images ({len(second)}) are not those of the '
        f'network that is analysed ({len(first)}), and a difference is paired '
        'over the images; give both the same with --data FOLDER'
    )


def subset_index(total: int, count: int) -> np.ndarray:
    """At most ``count`` numbers of ``range(total)``, evenly spaced.

    Data sets are sorted by class.
    """
    count = min(total, count)
    return np.linspace(0, total - 1, count).round().astype(int)


def subset(images: ImageDataset, count: int) -> ImageDataset:
    """The images of :func:`subset_index`."""
    chosen = subset_index(len(images), count)
    index = [images.index[k] for k in chosen]
    return ImageDataset(images.dataset, index, images.rgb)


def _collate(items: Sequence[dict]) -> dict:
    shapes = {tuple(item['inputs'].shape) for item in items}
    if len(shapes) > 1:
        raise ValueError(
            f'--data: images of the shapes {sorted(shapes)} (C, H, W) in one '
            'batch, which the pipeline of test_dataloader.dataset does not '
            'make equal; give --size, or a color_type to its LoadImageFromFile'
        )
    return default_collate(items)


def make_loader(
    images: ImageDataset, batch_size: int, workers: int = 0
) -> DataLoader:
    """MMEngine's loader, in order and without a shuffle."""
    return Runner.build_dataloader(
        dict(
            dataset=images,
            batch_size=batch_size,
            num_workers=workers,
            persistent_workers=False,
            collate_fn=_collate,
            sampler=dict(type='DefaultSampler', shuffle=False),
        )
    )


def class_names(
    images: ImageDataset, count: Optional[int] = None
) -> Optional[List[str]]:
    """The classes in order, or None if the images have no labels.

    Args:
        images (ImageDataset): The first one tells whether there are labels.
        count (int, optional): K of the network, whose classes are numbered
            where the data set names none.

    Raises:
        ValueError: If the images have labels, and nothing says of how many
            classes.
    """
    if 'gt_label' not in images[0]['data_samples']:
        return None
    names = images.metainfo.get('classes') or range(count or 0)
    if not names:
        raise ValueError(
            '--data: the images have labels, but neither does the data set '
            'name its classes nor the network tell their number; set '
            'test_dataloader.dataset.metainfo=dict(classes=[...])'
        )
    return [str(name) for name in names]
