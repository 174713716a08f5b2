"""Folders of pictures: which files are images, and what class they have."""

import os
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

from mmpretrain.datasets import BaseDataset

#: Suffixes of image files, in lower case.
SUFFIXES = (
    *('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm'),
    *('.tif', '.tiff', '.webp'),
)


class Pictures(NamedTuple):
    """The pictures in a folder."""

    files: List[Path]  # sorted within each class
    labels: Optional[List[int]]  # one a file; None without classes
    #: Names of the class folders, sorted; one without pictures keeps its place.
    classes: Optional[Tuple[str, ...]]
    stray: List[Path]  # pictures beside the class folders, left out


def _visible(names: List[str]) -> List[str]:
    return sorted(name for name in names if not name.startswith('.'))


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _below(folder: Path) -> Iterator[Path]:
    """Pictures in a folder and in all below it.

    Links are followed, but not to a folder that one is in already.
    """
    for place, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(place)
        folders[:] = [
            name
            for name in _visible(folders)
            if not _holds(os.path.realpath(os.path.join(place, name)), here)
        ]
        for name in filter(_is_picture, _visible(files)):
            yield Path(place, name)


def _holds(outer: str, inner: str) -> bool:
    return os.path.commonpath([outer, inner]) == outer


def find_pictures(folder: Path, field: str = '--data') -> Pictures:
    """The pictures of a folder: one folder a class, or all without classes.

    Each folder in it is a class, in the order of their sorted names, if any
    of them holds a picture; pictures at any depth of it are of that class.
    Hidden files and folders and files that are no images are passed over.

    Raises:
        ValueError: If it is no folder or holds no picture, or if pictures lie
            beside a single folder of pictures: either may be meant.
    """
    if not folder.is_dir():
        raise ValueError(
            f'{field}={str(folder)!r} is no folder; give a folder of images '
            'or of one folder a class'
        )
    entries = _visible(os.listdir(folder))
    classes = tuple(name for name in entries if (folder / name).is_dir())
    loose = [
        folder / name
        for name in entries
        if _is_picture(name) and (folder / name).is_file()
    ]
    by_class = [list(_below(folder / name)) for name in classes]
    if not any(by_class):
        if not loose:
            raise ValueError(
                f'{field}={str(folder)!r} holds no picture '
                f'({", ".join(SUFFIXES)}); give a folder of images or of one '
                'folder a class'
            )
        return Pictures(loose, None, None, [])
    if loose and sum(map(bool, by_class)) == 1:
        raise ValueError(
            f'{field}={str(folder)!r} holds pictures ({loose[0].name}) beside '
            'a single folder of pictures: give one folder a class, or all '
            'pictures in one folder'
        )
    labels = [label for label, files in enumerate(by_class) for _ in files]
    return Pictures(sum(by_class, []), labels, classes, loose)


class PictureDataset(BaseDataset):
    """The pictures of :func:`find_pictures`, as MMPretrain reads a data set."""

    def __init__(self, pictures: Pictures, pipeline: list) -> None:
        self.pictures = pictures
        self.with_label = pictures.labels is not None
        metainfo = {}
        if pictures.classes is not None:
            metainfo['classes'] = pictures.classes
        super().__init__(
            ann_file='', metainfo=metainfo, pipeline=pipeline, test_mode=True
        )

    def load_data_list(self) -> List[dict]:
        """One entry a picture."""
        infos = [dict(img_path=str(file)) for file in self.pictures.files]
        for info, label in zip(infos, self.pictures.labels or ()):
            info['gt_label'] = label
        return infos
