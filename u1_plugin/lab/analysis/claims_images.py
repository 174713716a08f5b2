"""The images of a plan of claims: few, the same ones for every network."""

import shutil
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Dict, Iterator, List, Sequence

from ...files import short_name
from ..folds import FOLDS
from .built_in_images import image_folder
from .claims_plan import ImageSource, Settings
from .images import subset_index
from .pictures import find_pictures


def choose_images(
    source: ImageSource, settings: Settings
) -> Dict[str, List[Path]]:
    """Images of each class, the same for every network.

    Returns:
        Dict[str, List[Path]]: By class, sorted: evenly spaced in the order of
        the files' names, so that what has a common beginning is not all
        taken, or left out.

    Raises:
        ValueError: If a folder has no classes, no file is of the pattern, or
            one is there twice.
    """
    by_class: Dict[str, List[Path]] = {}
    seen: Dict[Path, Path] = {}
    for folder in source.folders:
        pictures = find_pictures(Path(folder), 'folders')
        if pictures.classes is None or pictures.labels is None:
            raise ValueError(
                f'folders={folder!r} holds pictures, but no folder of a class; '
                'give one folder a class'
            )
        for file, label in zip(pictures.files, pictures.labels):
            if fnmatch(file.name, source.pattern):
                other = seen.setdefault(file.resolve(), file)
                if other is not file:
                    raise ValueError(
                        f'folders={source.folders}: {str(other)!r} and '
                        f'{str(file)!r} are one file, which would be found by '
                        'itself; name each folder, and link each file, once'
                    )
                by_class.setdefault(pictures.classes[label], []).append(file)
    if not by_class:
        raise ValueError(
            f'pattern={source.pattern!r}: no picture of {source.folders} has '
            'such a name'
        )
    names = sorted(by_class)
    names = [names[k] for k in subset_index(len(names), settings.classes)]
    each = max(1, settings.images // len(names))
    return {name: _spaced(by_class[name], each) for name in names}


def _spaced(files: Sequence[Path], count: int) -> List[Path]:
    ordered = sorted(files, key=lambda file: (file.name, str(file)))
    return [ordered[k] for k in subset_index(len(ordered), count)]


@contextmanager
def images_of(source: ImageSource, settings: Settings) -> Iterator[Path]:
    """The chosen images of a data set as a folder, for a block."""
    with ExitStack() as stack:
        if source.built_in:
            yield stack.enter_context(image_folder(source.built_in))
            return
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for label, files in choose_images(source, settings).items():
            (folder / label).mkdir()
            for number, file in enumerate(files):
                # Two folders may hold files of one name.
                target = (
                    folder / label / f'{number:05d}-{short_name(file.name)}'
                )
                shutil.copyfile(file, target)
        yield folder


def check_classes(source: ImageSource, data: str, settings: Settings) -> None:
    """Raise ValueError where C4 cannot test every image of a class once."""
    if source.built_in:
        return  # of many images a class, or without classes
    chosen = choose_images(source, settings)
    for label, files in chosen.items():
        if len(files) >= FOLDS:
            continue
        remedy = 'add pictures, or leave the class out of the folders'
        if settings.images // len(chosen) < FOLDS:
            remedy = (
                f'raise settings.images={settings.images}, or lower '
                f'settings.classes={settings.classes}'
            )
        raise ValueError(
            f'data.{data}: class {label!r} has {len(files)} images, and C4 '
            f'takes {FOLDS} of every class; {remedy}, or give the cells of '
            'these data memory: false'
        )


def digest(folder: Path) -> str:
    """Hash of the files in a folder: their names and contents."""
    hasher = sha256()
    for path in sorted(p for p in folder.rglob('*') if p.is_file()):
        hasher.update(path.relative_to(folder).as_posix().encode())
        hasher.update(sha256(path.read_bytes()).digest())
    return hasher.hexdigest()
