"""Accuracy against bytes: fewer pixels, coarser numbers, a covering part.

The plain vote (kappa = 0) with a fixed k on the images of a memory config, in
up to five splits (80 % memory, 20 % test) that test no image twice. Coreset
selection is compared with as many pixels drawn at random. Differences are
paired over the splits, for each of them draws anew. A config whose head stores,
searches or votes otherwise is refused.
"""

import argparse
import json
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from u1_plugin.files import new_file, new_path, replaced_file
from u1_plugin.lab.command import at_least, number, told
from u1_plugin.lab.folds import (
    FOLDS,
    Split,
    accuracies,
    split_images,
)
from u1_plugin.lab.markup import terminal
from u1_plugin.lab.memory_maps import check_count, check_unread, read_maps
from u1_plugin.lab.statistics import interval_text, paired_difference
from u1_plugin.measure.estimate import jsonable
from u1_plugin.memory import (
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    bottleneck_pixels,
    class_shares,
    coreset,
)
from u1_plugin.options import Share

#: Of a variant: bytes and vectors.
Size = Tuple[int, int]


class Variant(NamedTuple):
    """How a memory is made smaller than all pixels in float32."""

    name: str
    keep: Optional[int] = None
    dtype: str = 'float32'
    coreset: Optional[float] = None
    random: Optional[float] = None


def variants(keeps: List[int], shares: List[float]) -> List[Variant]:
    """All pixels first, then one change each, then all of them together."""
    return [
        Variant('all pixels, float32'),
        *(Variant(f'keep={n}', keep=n) for n in keeps),
        *(Variant(name, dtype=name) for name in ('float16', 'uint8')),
        *(Variant(f'coreset={s:g}', coreset=s) for s in shares),
        *(Variant(f'random {s:g}', random=s) for s in shares),
        Variant(
            f'coreset={shares[0]:g}, uint8', dtype='uint8', coreset=shares[0]
        ),
    ]


def fill(variant: Variant, pixels: Pixels, seed: int) -> MemoryBank:
    """A bank of pixels, all of one variant's ``keep``."""
    bank = MemoryBank(variant.dtype)
    bank.append(pixels)
    if variant.coreset is not None:
        bank.keep(coreset(bank, variant.coreset, seed=seed))
    if variant.random is not None:
        generator = torch.Generator().manual_seed(seed)
        count = max(1, round(variant.random * len(bank)))
        order = torch.randperm(len(bank), generator=generator)
        bank.keep(order[:count].sort().values)
    return bank


def is_right(
    bank: MemoryBank, queries: Pixels, labels: np.ndarray, k: int
) -> np.ndarray:
    """Which images the plain vote gets right, ``(B,)``.

    Raises:
        ValueError: If the bank has fewer than k vectors.
    """
    check_count(f'--k {k}', k, len(bank))
    asked = Queries(queries.vectors, queries.positions, queries.hues)
    neighbours = Memory(bank).search(asked, k)
    classes = int(labels.max()) + 1
    shares = class_shares(neighbours, queries, classes, len(labels))
    right: np.ndarray = shares.argmax(1).numpy() == labels
    return right


def run_split(
    maps, labels, plane, options, seed: int
) -> Tuple[Split, Dict[str, Size]]:
    """What each variant gets right, and its size."""
    memory, validation, test = split_images(labels, seed)
    # Nothing is chosen here, so that validation images are not needed.
    memory = np.sort(np.append(memory, validation))

    def pixels_of(part, keep=None) -> Pixels:
        classes = torch.from_numpy(labels[part])
        numbers = torch.arange(len(part))
        intensity = maps[part].float()
        return bottleneck_pixels(intensity, classes, numbers, plane, keep=keep)

    queries = pixels_of(test)
    right, sizes = {}, {}
    for variant in variants(options.keep, options.coreset):
        bank = fill(variant, pixels_of(memory, variant.keep), seed)
        right[variant.name] = is_right(bank, queries, labels[test], options.k)
        sizes[variant.name] = bank.nbytes, len(bank)
    return Split(test, right, {}), sizes


def summarise(results: List[Tuple[Split, Dict[str, Size]]]) -> List[dict]:
    """One record a variant: its difference to the first, its mean size."""
    scores = accuracies([split for split, _ in results])
    plain = next(iter(scores.values()))
    records = []
    for name, values in scores.items():
        sizes = np.array([split_sizes[name] for _, split_sizes in results])
        size, vectors = sizes.mean(0).round().astype(int).tolist()
        record = dict(
            variant=name, accuracy=values, bytes=size, vectors=vectors
        )
        if records:
            difference = paired_difference(values, plain)
            record['difference'] = difference._asdict()
        records.append(record)
    return records


def show(records: List[dict], console: Console) -> None:
    """Print a table with a row for each record of :func:`summarise`."""
    table = Table('memory', 'vectors', 'MiB', 'share', 'top-1 %', 'difference')
    for record in records:
        text = ''
        if 'difference' in record:
            d = record['difference']
            text = terminal(interval_text(d['mean'], d['low'], d['high']))
        table.add_row(
            record['variant'],
            f'{record["vectors"]:,}',
            f'{record["bytes"] / 2**20:.2f}',
            f'{record["bytes"] / records[0]["bytes"]:.3f}',
            f'{np.mean(record["accuracy"]):.2f}',
            text,
        )
    console.print(table)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description='Accuracy against bytes of a memory'
    )
    add = parser.add_argument
    add('config')
    add('checkpoint')
    add('--layer', help='such as backbone.layer3')
    add('--keep', type=at_least(1), nargs='+', default=[1, 2, 4, 8])
    add('--coreset', type=number(Share), nargs='+', default=[0.1, 0.25, 0.5])
    add('--k', type=at_least(1), default=5)
    add('--splits', type=int, choices=range(2, FOLDS + 1), default=FOLDS)
    add('--out', type=new_path, help='a new JSON file')
    return parser.parse_args()


def study(options: argparse.Namespace, console: Console) -> None:
    """Read, split and show; write after every split."""
    init_default_scope('mmpretrain')
    config = Config.fromfile(options.config)
    check_unread(config, 'memory_size.py')
    maps, labels, plane, _ = read_maps(
        config, options.checkpoint, options.layer
    )
    results: List[Tuple[Split, Dict[str, Size]]] = []
    for seed in range(options.splits):
        results.append(run_split(maps, labels, plane, options, seed))
        console.print(f'split {seed + 1} of {options.splits}')
        if len(results) < 2:
            continue  # an interval needs two
        records = summarise(results)
        if options.out:  # after every split: the next may take long
            write = new_file if len(results) == 2 else replaced_file
            text = json.dumps(jsonable(records), indent=2, allow_nan=False)
            with write(options.out) as part:
                part.write_text(text)
    show(records, console)


def main() -> None:
    options = parse_args()
    with told():
        study(options, Console())


if __name__ == '__main__':
    main()
