"""Does an angle help a memory's vote? Splits, arms and their differences.

What ``tools/studies/memory_study.py`` says of its arms holds here.
"""

from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from ..extras import needs
from ..geometry import pooled_vector
from ..measure.probe_options import written_as
from ..memory import (
    Kernel,
    LabelledNeighbours,
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    VotingRule,
    bottleneck_pixels,
    class_shares,
    few_shot,
)
from .folds import (
    Split,
    accuracies,
    image_difference,
    image_scores,
    split_images,
)

with needs('lab'):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

KS = (1, 5, 10, 20, 50)
KAPPAS = (0.5, 1.0, 2.0, 4.0, 8.0)
SIGMAS = (0.8, 0.4, 0.2, 0.1, 0.05, 0.025)
KERNEL = Kernel()  # every arm's; the angle is what is asked about
#: What each arm may choose on the validation images; the first, and weakest,
#: of equals.
STRENGTHS = dict(
    pixel=(0.0,),
    image=KAPPAS,
    feature=KAPPAS,
    both=KAPPAS,
    position=SIGMAS,
    radius=SIGMAS,
    shuffled=KAPPAS,
)

#: What the image angle must beat.
CONTROLS = ('position', 'radius', 'shuffled')


class Queried(NamedTuple):
    """Pixels of some images, their neighbours, and the images' labels."""

    pixels: Pixels
    matches: LabelledNeighbours
    labels: np.ndarray


def pixels_of(maps, labels, plane, mode='pixel') -> Pixels:
    """Cut maps into what a memory stores; images are numbered from 0.

    Args:
        maps (Tensor): ``(N, C, H, W)``.
        labels (np.ndarray): ``(N,)``.
        plane (nn.Module): The feature plane.
        mode (str): ``'pixel'`` or ``'pooled'``.
    """
    numbers = torch.arange(len(maps))
    classes = torch.from_numpy(labels)
    return bottleneck_pixels(maps.float(), classes, numbers, plane, mode)


def rule_of(arm: str, strength: float) -> VotingRule:
    """How the neighbours of an arm vote, at one kappa or sigma."""
    if arm in ('position', 'radius'):
        return VotingRule(arm, sigma=strength, kernel=KERNEL)
    plane = 'image' if arm == 'pixel' else arm
    return VotingRule(plane, strength, kernel=KERNEL)


def predicted(
    arm: str, strength: float, k: int, queries: Queried, memory: Pixels, order
) -> np.ndarray:
    """Predicted classes of one arm with one choice, ``(B,)``."""
    near = queries.matches
    if arm == 'shuffled':
        near = near._replace(positions=memory.positions[order][near.indices])
    classes = int(memory.labels.max()) + 1
    shares = class_shares(
        near,
        queries.pixels,
        classes,
        len(queries.labels),
        rule_of(arm, strength),
        k,
    )
    return shares.argmax(1).numpy()


def choices_of(arm: str, vectors: int) -> List[Tuple[float, int]]:
    """What an arm may take: kappa or sigma, and a k that the memory has."""
    ks = [k for k in KS if k <= vectors]
    return [(strength, k) for strength in STRENGTHS[arm] for k in ks]


def run_split(
    maps, labels, plane, seed: int, shots: Optional[int] = None
) -> Split:
    """Which test images each arm gets right, and what it chose.

    The images are those of :func:`~.folds.split_images`; with ``shots``, so
    many of each class's memory images are kept.
    """
    train, val, test = split_images(labels, seed)
    if shots is not None:
        with written_as({'shots=': '--shots '}):
            train = train[few_shot(labels[train], shots, seed)]
    parts = train, val, test
    pooled = run_arms(maps, labels, plane, parts, seed, 'pooled', ['pooled'])
    pixel = run_arms(maps, labels, plane, parts, seed, 'pixel', STRENGTHS)
    right = {**pooled.right, **pixel.right, **baselines(maps, labels, *parts)}
    return Split(test, right, {**pooled.chosen, **pixel.chosen})


def run_arms(
    maps,
    labels,
    plane,
    parts: Sequence[np.ndarray],
    seed: int,
    mode: str,
    arms: Iterable[str],
) -> Split:
    """Some arms of one mode, on the memory, validation and test images."""
    train, val, test = parts
    memory = pixels_of(maps[train], labels[train], plane, mode)
    bank = MemoryBank()
    bank.append(memory)
    search = Memory(bank)
    queried = []
    for part in (val, test):
        pixels = pixels_of(maps[part], labels[part], plane, mode)
        queries = Queries(pixels.vectors, pixels.positions, pixels.hues)
        matches = search.search(queries, min(max(KS), len(bank)))
        queried.append(Queried(pixels, matches, labels[part]))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(bank), generator=generator)
    split = Split(test, {}, {})
    for arm in arms:
        name = 'pixel' if arm == 'pooled' else arm  # the plain vote
        choices = choices_of(name, len(bank))
        accuracy = [
            np.mean(
                predicted(name, *choice, queried[0], memory, order)
                == labels[val]
            )
            for choice in choices
        ]
        split.chosen[arm] = choices[int(np.argmax(accuracy))]
        guess = predicted(name, *split.chosen[arm], queried[1], memory, order)
        split.right[arm] = guess == labels[test]
    return split


def baselines(maps, labels, train, val, test) -> Dict[str, np.ndarray]:
    """scikit-learn on the pooled vectors, tuned on the validation images."""
    vectors = pooled_vector(maps.float()).numpy()
    right = {}
    for name, models in dict(
        knn=[
            KNeighborsClassifier(k, metric='cosine')
            for _, k in choices_of('pixel', len(train))
        ],
        linear=[
            make_pipeline(
                StandardScaler(), LogisticRegression(C=c, max_iter=500)
            )
            for c in (1e-4, 1e-3, 1e-2)
        ],
    ).items():
        fitted = [m.fit(vectors[train], labels[train]) for m in models]
        scores = [m.score(vectors[val], labels[val]) for m in fitted]
        best = fitted[int(np.argmax(scores))]
        right[name] = best.predict(vectors[test]) == labels[test]
    return right


def summarise(splits: Sequence[Split]) -> Dict[str, dict]:
    """Accuracy of each arm by split, and its difference to ``pixel``.

    Returns:
        Dict[str, dict]: Of each arm ``accuracy``, a list; of all but ``pixel``
        ``difference``, the fields of :class:`~.folds.ImageDifference`.
    """
    summary: Dict[str, dict] = {
        arm: dict(accuracy=values) for arm, values in accuracies(splits).items()
    }
    scores = image_scores(splits)
    for arm, row in summary.items():
        if arm != 'pixel':
            difference = image_difference(scores[arm], scores['pixel'])
            row['difference'] = difference._asdict()
    return summary


def beyond_controls(splits: Sequence[Split]) -> Dict[str, dict]:
    """The image angle against each control, over test images."""
    scores = image_scores(splits)
    return {
        control: image_difference(scores['image'], scores[control])._asdict()
        for control in CONTROLS
    }
