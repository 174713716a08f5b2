"""What the converters of data sets share: splits, pictures and the command."""

import argparse
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
from PIL import Image

from ..extras import needs
from ..options import Seed, checked

_Key = TypeVar('_Key', bound=Hashable)
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
    parser: argparse.ArgumentParser,
    convert: Callable[[argparse.Namespace], Any],
) -> None:
    """The command line of a converter; a folder that exists is left alone.

    Args:
        parser (argparse.ArgumentParser): With ``out``.
        convert (Callable): Writes that folder, and returns what to print.
    """
    parser.add_argument('--seed', type=int, default=0, help='of the draw')
    args = parser.parse_args()
    if args.out.exists():
        print(f'{args.out} exists, nothing to do')
        return
    try:
        done = convert(args)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    print(f'{args.out}: {done}')


def on_white(image: Image.Image, side: int) -> Image.Image:
    """A drawing in the middle of a white square.

    Args:
        image (Image.Image): With or without transparency.
        side (int): Pixels of the square; the longer side fills it.

    Returns:
        Image.Image: RGB.
    """
    image = image.convert('RGBA')
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
        held = [classes[key] for key in keys]
        names = {name for name in names if held.count(name) >= least}
    return sorted(names)
