"""Recall, build time and query time of approximate engines, against size.

With a memory config and its checkpoint, on the bottleneck pixels of its
images: the queries are pixels of the test images, the memory those of the
others; a config that stores fewer (``model.head.keep``) is refused. Without,
on synthetic vectors: noise about a thousand centres. Recall@k is the share of
the exact engine's k nearest that an engine finds.

In a factory's name, ``{cells}`` stands for the power of 2 nearest to
4 sqrt(N). An index with cells (IVF) is asked once for every ``--nprobe``.
"""

import argparse
import json
import math
import time
from typing import Dict, Iterator, List, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor

from u1_plugin.files import new_file, new_path, replaced_file
from u1_plugin.lab.command import at_least, told
from u1_plugin.lab.memory_maps import (
    STORED_OPTIONS,
    check_count,
    check_unread,
    read_maps,
)
from u1_plugin.measure.estimate import jsonable
from u1_plugin.memory import (
    ExactSearch,
    FaissSearch,
    MemoryBank,
    Neighbours,
    Pixels,
)

FACTORIES = ('HNSW32', 'IVF{cells},Flat', 'IVF{cells},SQ8')
_BLOCK = 65536  # vectors that are drawn and appended at a time
_CENTRES = 1000
_NOISE = 0.7  # norm of the noise, where the centres have norm 1


def cells_of(count: int) -> int:
    """The power of 2 nearest to ``4 sqrt(count)``."""
    return 2 ** round(math.log2(4 * math.sqrt(count)))


def synthetic(count: int, channels: int, seed: int) -> Iterator[Tensor]:
    """Vectors in blocks; the centres are every seed's."""
    fixed = torch.Generator().manual_seed(12345)
    centres = torch.randn(_CENTRES, channels, generator=fixed)
    centres /= centres.norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        which = torch.randint(_CENTRES, (size,), generator=generator)
        noise = torch.randn(size, channels, generator=generator)
        yield centres[which] + noise * (_NOISE / channels**0.5)


def real(options: argparse.Namespace) -> Tuple[Tensor, Tensor]:
    """Pixels ``(N, C)`` of memory and validation images, and of test images.

    Raises:
        ValueError: If the memory and the test share images, as they have one
            data set.
    """
    init_default_scope('mmpretrain')
    config = Config.fromfile(options.config)
    check_unread(config, 'memory_recall.py', STORED_OPTIONS)
    found = read_maps(config, options.checkpoint, options.layer)
    return parted(found.maps, found.parts)


def parted(maps: Tensor, parts: Dict[str, range]) -> Tuple[Tensor, Tensor]:
    """Pixels of all images but those of the test, and of these."""
    if parts['test'] == parts['memory']:
        raise ValueError(
            'test_dataloader and the memory have one data set, of which every '
            'query would find itself; give test_dataloader images of its own'
        )
    is_query = torch.zeros(len(maps), dtype=torch.bool)
    is_query[list(parts['test'])] = True
    vectors = maps.flatten(2).transpose(1, 2).float()
    memory, queries = vectors[~is_query], vectors[is_query]
    return memory.flatten(0, 1), queries.flatten(0, 1)


def bank_of(blocks: Iterator[Tensor]) -> MemoryBank:
    """Fill a bank with vectors whose labels, images and places are all 0.

    Args:
        blocks (Iterator[Tensor]): Vectors ``(n, C)``, appended one by one.
    """
    bank = MemoryBank()
    for block in blocks:
        zeros = torch.zeros(len(block), dtype=torch.long)
        places = torch.zeros(len(block), 2)
        bank.append(Pixels(block, zeros, zeros, places, places[:, 0]))
    return bank


def recall(neighbours: Neighbours, exact: Neighbours) -> float:
    """Share of the exact neighbours that were found."""
    same = neighbours.indices[:, :, None] == exact.indices[:, None]
    return float(same.any(1).float().mean())


def _timed(search, queries: Tensor, options) -> Tuple[Neighbours, float]:
    """What is found, and the least seconds of the repetitions."""
    times = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        neighbours = search.search(queries, options.k)
        times.append(time.perf_counter() - start)
    return neighbours, min(times)


def index_bytes(search: FaissSearch) -> int:
    """Of the index as faiss writes it."""
    import faiss

    sizes: List[int] = []
    writer = faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part)))
    faiss.write_index(search.index, writer)
    return sum(sizes)


def measure(bank: MemoryBank, queries: Tensor, options) -> List[dict]:
    """One record an engine, and nprobe where it has cells."""
    import faiss

    count = len(bank)
    start = time.perf_counter()
    search = ExactSearch(bank)
    build = time.perf_counter() - start
    exact, seconds = _timed(search, queries, options)
    base = dict(count=count, channels=bank.channels, queries=len(queries))
    records = [
        dict(
            base,
            engine='exact',
            build=build,
            rate=len(queries) / seconds,
            recall=1.0,
            bytes=count * bank.channels * 4,
        )
    ]
    for template in options.factories:
        factory = template.format(cells=cells_of(count))
        numbers = options.nprobe if 'IVF' in factory else [None]
        if 'HNSW' in factory and count > options.most_hnsw:
            continue
        start = time.perf_counter()
        # Of an index with cells that is not told how many to visit, the least
        # number with a recall of 0.95 would be sought first.
        search = FaissSearch(bank, factory, nprobe=numbers[0])
        build = time.perf_counter() - start
        size = index_bytes(search)
        for nprobe in numbers:
            if nprobe:
                faiss.extract_index_ivf(search.index).nprobe = nprobe
            neighbours, seconds = _timed(search, queries, options)
            records.append(
                dict(
                    base,
                    engine=factory,
                    nprobe=nprobe,
                    build=build,
                    rate=len(queries) / seconds,
                    recall=recall(neighbours, exact),
                    bytes=size,
                )
            )
    return records


def show(records: List[dict], k: int, console: Console) -> None:
    """Print a table with a row for each record of :func:`measure`."""
    table = Table(
        *('vectors', 'engine', 'nprobe', 'build s', 'queries/s'),
        *(f'recall@{k}', 'bytes/vector'),
    )
    for r in records:
        table.add_row(
            f'{r["count"]:,}',
            r['engine'],
            str(r.get('nprobe') or ''),
            f'{r["build"]:.1f}',
            f'{r["rate"]:,.0f}',
            f'{r["recall"]:.3f}',
            f'{r["bytes"] / r["count"]:,.0f}',
        )
    console.print(table)


def parse_args() -> argparse.Namespace:
    """Read the command line and check that no size is less than k."""
    parser = argparse.ArgumentParser(
        description='Recall, build and query time of approximate engines'
    )
    add, count = parser.add_argument, at_least(1)
    add('config', nargs='?', help='of a memory')
    add('checkpoint', nargs='?')
    add('--layer', help='such as backbone.layer3')
    add('--sizes', type=count, nargs='+', help='of the memory; default: all')
    add('--factories', nargs='+', default=list(FACTORIES))
    add('--nprobe', type=count, nargs='+', default=[1, 4, 16])
    add('--channels', type=count, default=512, help='synthetic')
    add('--queries', type=count, default=1000)
    add('--k', type=count, default=10)
    add('--repeat', type=count, default=3)
    add('--threads', type=count, default=2)
    add('--most-hnsw', type=at_least(0), default=10**5, help='vectors of HNSW')
    add('--out', type=new_path, help='a new JSON file')
    options = parser.parse_args()
    if options.config and not options.checkpoint:
        parser.error('CONFIG needs a CHECKPOINT')
    for size in options.sizes or ():
        if size < options.k:
            parser.error(
                f'--sizes {size} is less than --k {options.k}; ask for at most '
                'as many neighbours as there are vectors'
            )
    return options


def study(options: argparse.Namespace, console: Console) -> None:
    """Measure and show every size; write after each, as the next may be long.

    Raises:
        ValueError: If a size is more than there are pixels, or less than k.
    """
    records: List[dict] = []
    if options.config:
        memory, queries = real(options)
        generator = torch.Generator().manual_seed(0)
        memory = memory[torch.randperm(len(memory), generator=generator)]
        order = torch.randperm(len(queries), generator=generator)
        queries = queries[order[: options.queries]]
        sizes = options.sizes or [len(memory)]
        check_count(f'--k {options.k}', options.k, min(sizes))
        check_count(f'--sizes {max(sizes)}', max(sizes), len(memory))
    else:
        queries = torch.cat(
            list(synthetic(options.queries, options.channels, seed=1))
        )
        sizes = options.sizes or [10**4]
    for size in sorted(sizes):
        if options.config:
            bank = bank_of(memory[:size].split(_BLOCK))
        else:
            bank = bank_of(synthetic(size, options.channels, seed=0))
        measured = measure(bank, queries, options)
        show(measured, options.k, console)
        records += measured
        if options.out:
            write = new_file if records == measured else replaced_file
            text = json.dumps(jsonable(records), indent=2, allow_nan=False)
            with write(options.out) as part:
                part.write_text(text)


def main() -> None:
    options = parse_args()
    with told():
        import faiss

        torch.set_num_threads(options.threads)
        faiss.omp_set_num_threads(options.threads)
        study(options, Console())


if __name__ == '__main__':
    main()
