"""A bank larger than memory: filled, searched and reduced under a limit.

Seeded pixels go to a bank block by block; queries vote, and a coreset is drawn
(at random, then greedily). The limit is the system's own on a process' data
(``RLIMIT_DATA``: what it allocates; pages of mapped files do not count, which
the peak of the resident set shows). With ``--in-memory`` the bank is no file,
and where it does not fit, that is an error.
"""

import argparse
import json
import resource
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Callable, ContextManager, Dict, List, Optional

import torch
from rich.console import Console
from rich.table import Table

from u1_plugin.files import new_file, new_path
from u1_plugin.memory import (
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    VotingRule,
    bank_on_disk,
    class_shares,
    coreset,
)

_MIB = 2**20
_BATCH = 1024  # pixels
_CLASSES = 10


def drawn(seed: int, count: int, channels: int) -> Pixels:
    """Pixels about the centres of the classes, in the positive orthant."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(_CLASSES, channels, generator=generator)
    generator.manual_seed(1 + seed)
    labels = torch.randint(_CLASSES, (count,), generator=generator)
    noise = torch.rand(count, channels, generator=generator)
    return Pixels(
        noise.mul_(2).add_(centres[labels]),
        labels,
        torch.arange(count) + seed * count,
        torch.rand(count, 2, generator=generator) - 0.5,
        torch.rand(count, generator=generator),
    )


def allocated() -> int:
    """What counts against the limit now, in bytes."""
    for line in Path('/proc/self/status').read_text().splitlines():
        if line.startswith('VmData:'):
            return int(line.split()[1]) * 1024
    raise OSError('/proc/self/status has no VmData, by which a limit is set')


def limit(options: argparse.Namespace) -> Optional[int]:
    """Set what is asked for, if anything; in bytes."""
    if options.limit is None and options.room is None:
        return None
    if options.limit is not None:
        bound = options.limit * _MIB
    else:
        bound = allocated() + options.room * _MIB
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))
    return bound


class Steps:
    """Seconds and the peak of the resident set, step by step."""

    def __init__(self) -> None:
        self.records: List[dict] = []

    def run(self, name: str, action: Callable):
        """Do a step and note what it took."""
        start = time.perf_counter()
        result = action()
        # In KiB, where there is RLIMIT_DATA as it is meant here.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        seconds = time.perf_counter() - start
        self.records.append(dict(step=name, seconds=seconds, peak=peak))
        return result


def filled(file: Path, options: argparse.Namespace) -> MemoryBank:
    """As a backbone's batches would fill it."""
    place: ContextManager = nullcontext(MemoryBank(options.dtype))
    if not options.in_memory:
        place = bank_on_disk(file, options.dtype)
    with place as bank:
        for number in range(-(-options.pixels // _BATCH)):
            count = min(_BATCH, options.pixels - number * _BATCH)
            bank.append(drawn(number, count, options.channels))
    return bank


def answers_of(bank: MemoryBank, options: argparse.Namespace) -> tuple:
    """The neighbours of each query, and the class that they vote for."""
    pixels = drawn(-1, options.queries, options.channels)
    query = pixels._replace(images=torch.arange(options.queries))
    queries = Queries(query.vectors, query.positions, query.hues)
    neighbours = Memory(bank, k=options.k).search(queries, options.k)
    shares = class_shares(
        neighbours, query, _CLASSES, options.queries, VotingRule()
    )
    return neighbours, shares.argmax(1)


def measure(options: argparse.Namespace, folder: Path) -> Dict[str, object]:
    """All steps, and what came out of them."""
    steps, file = Steps(), folder / 'bank.safetensors'
    bank = steps.run('fill', lambda: filled(file, options))
    if not options.in_memory:
        bank = steps.run('open', lambda: MemoryBank.load(file, mmap=True))
    neighbours, classes = steps.run('search', lambda: answers_of(bank, options))
    chosen = steps.run(
        'coreset',
        lambda: coreset(bank, options.share, sample=options.sample),
    )
    return dict(
        pixels=len(bank),
        bytes=bank.nbytes,
        steps=steps.records,
        indices=neighbours.indices.tolist(),
        distances=neighbours.distances.tolist(),
        classes=classes.tolist(),
        coreset=chosen.tolist(),
    )


def parse_args() -> argparse.Namespace:
    """Read the size of the bank, the work and the limit of memory."""
    parser = argparse.ArgumentParser(
        description='Fill, search and reduce a bank under a limit of memory'
    )
    parser.add_argument('--pixels', type=int, default=2_000_000)
    parser.add_argument('--channels', type=int, default=2048)
    parser.add_argument(
        '--dtype', choices=('float32', 'float16', 'uint8'), default='uint8'
    )
    parser.add_argument('--queries', type=int, default=64)
    parser.add_argument('--k', type=int, default=10)
    parser.add_argument(
        '--sample', type=float, default=0.01, help='drawn for the coreset'
    )
    parser.add_argument(
        '--share', type=float, default=0.001, help='kept in the coreset'
    )
    bound = parser.add_mutually_exclusive_group()
    bound.add_argument('--limit', type=int, help='MiB of the process')
    bound.add_argument(
        '--room', type=int, help='MiB beyond what Python and libraries take'
    )
    parser.add_argument(
        '--in-memory', action='store_true', help='the same without a file'
    )
    parser.add_argument('--folder', help="of the bank; the system's")
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    return parser.parse_args()


def main() -> None:
    options, console = parse_args(), Console()
    content: Dict[str, object] = dict(limit=limit(options))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        content.update(measure(options, Path(folder)))
    table = Table('step', 'seconds', 'peak resident MiB')
    for record in content['steps']:
        table.add_row(
            record['step'],
            f'{record["seconds"]:.1f}',
            f'{record["peak"] / _MIB:.0f}',
        )
    console.print(table)
    bound = content['limit']
    words = 'no limit' if bound is None else f'limit {bound / _MIB:.0f} MiB'
    console.print(
        f'{content["pixels"]:,} pixels of {options.channels} channels in '
        f'{options.dtype}: {content["bytes"] / _MIB:.0f} MiB; {words}'
    )
    if options.out:
        with new_file(options.out) as part:
            part.write_text(json.dumps(content))


if __name__ == '__main__':
    main()
