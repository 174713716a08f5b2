"""What the converters of data sets share: splits, pictures and the command."""

import json
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from pathlib import Path
from typing import (
    Any,
    Callable,
    Dict,
    Hashable,
    List,
    Mapping,
    Sequence,
    TypeVar,
)

import numpy as np
from PIL import Image, ImageOps

from ..extras import needs
from ..files import new_folder
from ..options import Seed, checked

_Key = TypeVar('_Key', bound=Hashable)
#: Of the file in which a converter's folder says how it was made.
RECORD = 'options.json'
#: Part of each class: of all, of what is then left, and the rest; the same for
#: every seed of training.
PARTS = dict(train=0.6, val=0.5, test=None)


@checked()
def split_indices(
    labels: np.ndarray, seed: Seed, parts: Dict[str, Any] = PARTS
) -> Dict[str, np.ndarray]:
    """Stratified, disjoint index sets.

    Args:
        labels (np.ndarray): ``(N,)``.
        seed (int): Of the draw.
        parts (Dict[str, Any]): How many of what is left each split takes, as
            a share or as a count; None takes the rest.

    Raises:
        ValueError: If a class has too few images.
    """
    with needs('lab'):
        from sklearn.model_selection import train_test_split
    remaining, indices = np.arange(len(labels)), {}
    try:
        for split, size in parts.items():
            if size is None or size == len(remaining):
                indices[split] = remaining
                break
            indices[split], remaining = train_test_split(
                remaining,
                train_size=size,
                stratify=labels[remaining],
                random_state=seed,
            )
    except ValueError as error:
        raise ValueError(
            f'labels: {len(labels)} images cannot be split class by class: '
            f'{error}; give more of each'
        ) from error
    return indices


def write_splits(
    out: Path,
    images: np.ndarray,
    labels: Sequence[Any],
    splits: Mapping[str, np.ndarray],
) -> Dict[str, int]:
    """Write ``OUT/SPLIT/LABEL/INDEX.png``; images of each split.

    Args:
        out (Path): An existing folder.
        images (np.ndarray): Grey, ``(N, H, W)``, uint8.
        labels (Sequence): ``(N,)``; their texts are names of folders.
        splits (Mapping[str, np.ndarray]): Indices of each split.
    """
    digits = len(str(len(images)))
    for split, indices in splits.items():
        for index in indices:
            folder = out / split / str(labels[index])
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f'{index:0{digits}d}.png'
            Image.fromarray(images[index]).save(file)
    return {split: len(indices) for split, indices in splits.items()}


def run_converter(
    parser: ArgumentParser,
    convert: Callable[[Namespace], Any],
) -> None:
    """The command line of a converter; a folder that exists is left alone.

    It is refused if it was made with other options, which it records. One
    without a record may have been made with any.

    Args:
        parser (ArgumentParser): With ``out``.
        convert (Callable): Writes into ``args.out``, an empty folder that is
            then moved to its place together with the record; returns what to
            print.
    """
    parser.add_argument('--seed', type=int, default=0, help='of the draw')
    args = parser.parse_args()
    request = dict(converter=parser.prog, options=_recorded(args))
    part = args.out
    try:
        if args.out.exists():
            _check_record(args.out, request)
            print(f'{args.out} exists, nothing to do')
            return
        with new_folder(args.out) as part:
            message = convert(Namespace(**{**vars(args), 'out': part}))
            record = json.dumps(request, indent=1, allow_nan=False)
            (part / RECORD).write_text(record, encoding='utf-8')
    except (
        ImportError,
        OSError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        parser.error(str(error).replace(str(part), str(args.out)))
    print(f'{args.out}: {message}'.replace(str(part), str(args.out)))


def _recorded(args: Namespace) -> Dict[str, Any]:
    """Options that tell what a folder holds.

    Of a path its name: what is read may have been moved.
    """
    return {
        name: value.resolve().name if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name != 'out'
    }


def _check_record(out: Path, request: Dict[str, Any]) -> None:
    """Raise ValueError if a folder was made with other options."""
    file = out / RECORD
    if not file.is_file():
        return
    try:
        record = json.loads(file.read_text(encoding='utf-8'))
        options = dict(record['options'])
        pairs = {'converter': (record['converter'], request['converter'])}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{file} is no record of a converter ({error}); remove it, and the '
            f'folder is taken as it is'
        ) from error
    for name, value in request['options'].items():
        pairs[name] = options.get(name, value), value
    differing = [
        f'{name}={recorded!r}, and not {value!r}'
        for name, (recorded, value) in pairs.items()
        if recorded != value
    ]
    if differing:
        raise ValueError(
            f'out={str(out)!r} exists and was made with '
            f'{"; ".join(differing)}; remove it or choose another place'
        )


def as_rgba(image: Image.Image) -> Image.Image:
    """A picture as viewers show it: upright, and with 8 bits a channel.

    Pillow clips grey values of 16 bits to white, and leaves the turn that a
    camera notes to others; MMCV's reader does neither.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode != 'I' and not image.mode.startswith('I;16'):
        return image.convert('RGBA')
    values = np.asarray(image).astype(np.int64)
    seen = values != image.info.get('transparency', -1)
    # The upper byte, as MMCV's reader takes it.
    grey = Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8))
    shown = grey.convert('RGBA')
    shown.putalpha(Image.fromarray(np.uint8(255) * seen.astype(np.uint8)))
    return shown


def on_white(image: Image.Image, side: int) -> Image.Image:
    """A drawing in the middle of a white square.

    Args:
        image (Image.Image): With or without transparency.
        side (int): Pixels of the square; the longer side fills it.

    Returns:
        Image.Image: RGB.
    """
    image = as_rgba(image)
    scale = side / max(image.size)
    size = [max(1, round(length * scale)) for length in image.size]
    # Box first: it is quick where a drawing is many times too large.
    image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    square = Image.new('RGBA', (side, side), 'white')
    left, top = ((side - length) // 2 for length in size)
    square.alpha_composite(image, (left, top))
    return square.convert('RGB')


def split_kinds(
    classes: Mapping[_Key, str],
    kinds: Mapping[_Key, Hashable],
    shares: Mapping[str, float],
    seed: int = 0,
) -> Dict[str, List[_Key]]:
    """Stratified splits that never divide a kind.

    Args:
        classes (Mapping[_Key, str]): The class of each drawing.
        kinds (Mapping[_Key, Hashable]): What its variants have in common.
        shares (Mapping[str, float]): Of the splits; sum 1.
        seed (int): Of the choice.

    Returns:
        Dict[str, List[_Key]]: Drawings of each split. Each kind of a class goes
        where most is missing; kinds that several classes share go with the
        first.
    """
    rng = np.random.default_rng(seed)
    splits: Dict[str, List[_Key]] = {split: [] for split in shares}
    place: Dict[Hashable, str] = {}
    members: Dict[str, Dict[Hashable, List[_Key]]] = defaultdict(dict)
    for key, name in classes.items():
        members[name].setdefault(kinds[key], []).append(key)
    for name in sorted(members):
        groups = list(members[name].items())
        total = sum(len(keys) for _, keys in groups)
        taken = dict.fromkeys(shares, 0)
        for k in rng.permutation(len(groups)):
            kind, keys = groups[k]
            missing = {s: shares[s] - taken[s] / total for s in shares}
            split = place.setdefault(
                kind, max(missing, key=missing.__getitem__)
            )
            taken[split] += len(keys)
            splits[split] += keys
    return splits


def common_classes(
    classes: Mapping[_Key, str],
    splits: Mapping[str, Sequence[_Key]],
    least: int,
) -> List[str]:
    """Classes with at least ``least`` drawings in every split, sorted."""
    names = set(classes.values())
    for keys in splits.values():
        split_classes = [classes[key] for key in keys]
        names = {name for name in names if split_classes.count(name) >= least}
    return sorted(names)
