"""Does an angle help a memory's vote, and beyond position?

A frozen backbone runs once over all images of a config, and its last map or
that of ``--layer`` is read. In each of several random splits (60 % memory, 20 %
validation, 20 % test; with ``--shots``, so many images a class of the memory's)
every arm takes its k and its kappa or sigma from the validation images, and is
then scored on the test images:

- ``pooled`` and ``pixel``: the plain vote, kappa = 0;
- ``image``, ``feature``, ``both``: pixel votes with kappa > 0 in that plane;
- controls: ``position`` and ``radius`` kernels, ``shuffled`` angles;
- outside baselines on the pooled vectors: scikit-learn's
  ``KNeighborsClassifier`` and a logistic regression (linear probe).

Differences to ``pixel`` are paired over splits (Student's t interval) and over
test images (McNemar's exact test, on the images of all splits together: an
image may be in several, so that p is a little too small).
"""

import argparse
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from u1_plugin.extras import needs
from u1_plugin.files import new_file
from u1_plugin.geometry import pooled_vector
from u1_plugin.lab.memory_maps import read_maps
from u1_plugin.lab.statistics import interval_text, paired_difference
from u1_plugin.memory import (
    Kernel,
    Matches,
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    Rule,
    bottleneck_pixels,
    class_shares,
    few_shot,
)
from u1_plugin.mm.memory_inputs import check_hue

with needs('lab'):
    from scipy.stats import binomtest
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
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


#: 60, 20 and 20 % of a class's images are then at least one each.
_LEAST = 5


class Queried(NamedTuple):
    """Pixels of some images, their neighbours, and the images' labels."""

    pixels: Pixels
    matches: Matches
    labels: np.ndarray


def pixels_of(maps, labels, plane, mode='pixel') -> Pixels:
    numbers = torch.arange(len(maps))
    classes = torch.from_numpy(labels)
    return bottleneck_pixels(maps.float(), classes, numbers, plane, mode)


def rule_of(arm: str, strength: float) -> Rule:
    """How the neighbours of an arm vote, at one kappa or sigma."""
    if arm in ('position', 'radius'):
        return Rule(arm, sigma=strength, kernel=KERNEL)
    plane = 'image' if arm == 'pixel' else arm
    return Rule(plane, strength, kernel=KERNEL)


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


def run_split(
    maps, labels, plane, seed: int, shots: Optional[int] = None
) -> Tuple[dict, dict]:
    """Which test images each arm gets right, and what it chose."""
    counts = np.unique(labels, return_counts=True)[1]
    if counts.min() < _LEAST:
        raise ValueError(
            f'a class has {counts.min()} images, and memory, validation and '
            f'test images of each need {_LEAST}; leave such classes out'
        )
    train, held_out = train_test_split(
        np.arange(len(labels)),
        train_size=0.6,
        stratify=labels,
        random_state=seed,
    )
    val, test = train_test_split(
        held_out, train_size=0.5, stratify=labels[held_out], random_state=seed
    )
    if shots is not None:
        train = train[few_shot(labels[train], shots, seed)]
    right: Dict[str, np.ndarray] = {}
    chosen: Dict[str, tuple] = {}
    for mode, arms in (('pooled', ('pooled',)), ('pixel', STRENGTHS)):
        memory = pixels_of(maps[train], labels[train], plane, mode)
        bank = MemoryBank()
        bank.append(memory)
        search = Memory(bank)
        parts = []
        for part in (val, test):
            pixels = pixels_of(maps[part], labels[part], plane, mode)
            queries = Queries(pixels.vectors, pixels.positions, pixels.hues)
            matches = search.search(queries, max(KS))
            parts.append(Queried(pixels, matches, labels[part]))
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(bank), generator=generator)
        for arm in arms:
            name = 'pixel' if arm == 'pooled' else arm  # the plain vote
            choices = [(s, k) for s in STRENGTHS[name] for k in KS]
            accuracy = [
                np.mean(
                    predicted(name, *choice, parts[0], memory, order)
                    == labels[val]
                )
                for choice in choices
            ]
            chosen[arm] = choices[int(np.argmax(accuracy))]
            guess = predicted(name, *chosen[arm], parts[1], memory, order)
            right[arm] = guess == labels[test]
    right.update(baselines(maps, labels, train, val, test))
    return right, chosen


def baselines(maps, labels, train, val, test) -> Dict[str, np.ndarray]:
    """scikit-learn on the pooled vectors, tuned on the validation images."""
    vectors = pooled_vector(maps.float()).numpy()
    right = {}
    for name, models in dict(
        knn=[
            KNeighborsClassifier(k, metric='cosine')
            for k in KS
            if k <= len(train)
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


def summarise(rights: List[dict]) -> Dict[str, dict]:
    """Accuracy of each arm, and its difference to ``pixel``."""
    summary = {}
    for arm in rights[0]:
        values = [100 * float(r[arm].mean()) for r in rights]
        row: dict = dict(accuracy=values)
        if arm != 'pixel':
            plain = [100 * float(r['pixel'].mean()) for r in rights]
            row['difference'] = paired_difference(values, plain)._asdict()
            new = np.concatenate([r[arm] for r in rights])
            base = np.concatenate([r['pixel'] for r in rights])
            gained, lost = int((new & ~base).sum()), int((base & ~new).sum())
            row.update(gained=gained, lost=lost, mcnemar=1.0)
            if gained + lost:
                row['mcnemar'] = binomtest(gained, gained + lost).pvalue
        summary[arm] = row
    return summary


def beyond_controls(summary: dict) -> Dict[str, dict]:
    """The image angle against each control, paired over splits."""
    top1 = summary['image']['accuracy']
    return {
        control: paired_difference(top1, summary[control]['accuracy'])._asdict()
        for control in ('position', 'radius', 'shuffled')
    }


def show(summary: dict, beyond: dict, console: Console) -> None:
    table = Table(
        *('arm', 'top-1 %', 'difference to pixel', 'gained', 'lost', 'p'),
        title=f'{KERNEL}; k, kappa and sigma of validation images',
    )
    for arm, row in summary.items():
        cells = ['', '', '', '']
        if 'difference' in row:
            cells = [
                _interval(row['difference']),
                str(row['gained']),
                str(row['lost']),
                f'{row["mcnemar"]:.3f}',
            ]
        table.add_row(arm, f'{np.mean(row["accuracy"]):.2f}', *cells)
    console.print(table)
    for control, difference in beyond.items():
        console.print(f'image less {control}: {_interval(difference)}')


def _interval(d: dict) -> str:
    return interval_text(d['mean'], d['low'], d['high'])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Does an angle help a memory's vote, and beyond position?"
    )
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--layer', help='such as backbone.layer3')
    parser.add_argument('--shots', type=int, help='memory images a class')
    parser.add_argument('--splits', type=int, default=5, help='>= 2')
    parser.add_argument('--out', type=Path, help='a new JSON file')
    args = parser.parse_args()
    if args.splits < 2:
        parser.error(f'--splits {args.splits} must be >= 2 for an interval')
    if args.shots is not None and args.shots < 1:
        parser.error(f'--shots {args.shots} must be >= 1')
    return args


def study(args: argparse.Namespace, file: Optional[Path]) -> None:
    """Read, split, show; with a file, write what was found."""
    init_default_scope('mmpretrain')
    config = Config.fromfile(args.config)
    maps, labels, plane = read_maps(config, args.checkpoint, args.layer)
    check_hue(plane)
    results = [
        run_split(maps, labels, plane, seed, args.shots)
        for seed in range(args.splits)
    ]
    summary = summarise([right for right, _ in results])
    show(summary, beyond := beyond_controls(summary), Console())
    if file is not None:
        content = dict(
            summary=summary,
            image_less_control=beyond,
            chosen=[chosen for _, chosen in results],
            kernel=KERNEL.name,
        )
        file.write_text(json.dumps(content, indent=2))


def main() -> None:
    args = parse_args()
    if args.out is None:
        study(args, None)
        return
    with new_file(args.out, '--out') as file:
        study(args, file)


if __name__ == '__main__':
    main()
