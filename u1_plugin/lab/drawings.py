"""What the converters of drawings share: one background, splits by kind."""

from collections import defaultdict
from typing import Dict, Hashable, List, Mapping, Sequence, TypeVar

import numpy as np
from PIL import Image

_Key = TypeVar('_Key', bound=Hashable)


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
    found: Dict[str, List[_Key]] = {split: [] for split in shares}
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
            found[split] += keys
    return found


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
