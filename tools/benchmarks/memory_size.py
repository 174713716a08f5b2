"""Accuracy against bytes: fewer pixels, coarser numbers, a covering part.

The plain vote (kappa = 0) with a fixed k on the images of a memory config, in
several random splits (60 % memory, 40 % test). Coreset selection is compared
with as many pixels drawn at random. A config whose head stores, searches or
votes otherwise is refused.
"""

import argparse
import json
from typing import Dict, List, NamedTuple, Optional

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table

from u1_plugin.extras import needs
from u1_plugin.files import new_file, new_path, replaced_file
from u1_plugin.lab.command import at_least, told
from u1_plugin.lab.markup import terminal
from u1_plugin.lab.memory_maps import check_count, check_unread, read_maps
from u1_plugin.lab.statistics import interval_text, paired_difference
from u1_plugin.measure.estimate import jsonable
from u1_plugin.memory import (
    ExactSearch,
    MemoryBank,
    Pixels,
    bottleneck_pixels,
    coreset,
    vote,
)

with needs('lab'):
    from sklearn.model_selection import train_test_split


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


def accuracy(bank: MemoryBank, queries: Pixels, labels, k: int) -> float:
    """Of the plain vote, in per cent.

    Raises:
        ValueError: If the bank has fewer than k vectors.
    """
    check_count(f'--k {k}', k, len(bank))
    neighbours = ExactSearch(bank).search(queries.vectors, k)
    near = bank.field('labels')[neighbours.indices]
    classes = int(labels.max()) + 1
    images = len(labels)
    votes = vote(neighbours.distances, near, queries.images, classes, images)
    return 100 * float(np.mean(votes.argmax(1).numpy() == labels))


def run_split(maps, labels, plane, options, seed: int) -> Dict[str, tuple]:
    """Accuracy and bytes of each variant."""
    train, test = train_test_split(
        np.arange(len(labels)),
        train_size=0.6,
        stratify=labels,
        random_state=seed,
    )

    def pixels_of(part, keep=None) -> Pixels:
        classes = torch.from_numpy(labels[part])
        numbers = torch.arange(len(part))
        intensity = maps[part].float()
        return bottleneck_pixels(intensity, classes, numbers, plane, keep=keep)

    queries = pixels_of(test)
    results = {}
    for variant in variants(options.keep, options.coreset):
        bank = fill(variant, pixels_of(train, variant.keep), seed)
        score = accuracy(bank, queries, labels[test], options.k)
        results[variant.name] = (score, bank.nbytes, len(bank))
    return results


def summarise(results: List[Dict[str, tuple]]) -> List[dict]:
    """One record a variant, with its difference to the first."""
    first = next(iter(results[0]))
    plain = [result[first][0] for result in results]
    records = []
    for name in results[0]:
        scores = [result[name][0] for result in results]
        record = dict(
            variant=name,
            accuracy=scores,
            bytes=results[0][name][1],
            vectors=results[0][name][2],
        )
        if name != first:
            difference = paired_difference(scores, plain)
            record['difference'] = difference._asdict()
        records.append(record)
    return records


def show(records: List[dict], console: Console) -> None:
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
    parser = argparse.ArgumentParser(
        description='Accuracy against bytes of a memory'
    )
    add = parser.add_argument
    add('config')
    add('checkpoint')
    add('--layer', help='such as backbone.layer3')
    add('--keep', type=at_least(1), nargs='+', default=[1, 2, 4, 8])
    add('--coreset', type=float, nargs='+', default=[0.1, 0.25, 0.5])
    add('--k', type=at_least(1), default=5)
    add('--splits', type=at_least(2), default=5)
    add('--out', type=new_path, help='a new JSON file')
    options = parser.parse_args()
    for share in options.coreset:
        if not 0 < share <= 1:
            parser.error(f'--coreset {share:g} must lie between 0 and 1')
    return options


def study(options: argparse.Namespace, console: Console) -> None:
    """Read, split and show; write after every split."""
    init_default_scope('mmpretrain')
    config = Config.fromfile(options.config)
    check_unread(config, 'memory_size.py')
    maps, labels, plane, _ = read_maps(
        config, options.checkpoint, options.layer
    )
    results: List[Dict[str, tuple]] = []
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
