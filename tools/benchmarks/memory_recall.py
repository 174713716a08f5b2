"""Recall, build time and query time of approximate engines, against size.

With a memory config and its checkpoint, on the bottleneck pixels of its
images: the queries are pixels of the test images, the memory those of the
others. Without, on synthetic vectors: noise about a thousand centres. Recall@k
is the share of the exact engine's k nearest that an engine finds.

In a factory's name, ``{cells}`` stands for the power of 2 nearest to
4 sqrt(N). An index with cells (IVF) is asked once for every ``--nprobe``.
"""

import argparse
import json
import math
import time
from typing import Iterator, List, Tuple

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.table import Table
from torch import Tensor

from u1_plugin.files import new_file, new_path, replaced_file
from u1_plugin.lab.memory_maps import read_maps
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
    """Pixels ``(N, C)`` of memory and validation images, and of test images."""
    init_default_scope('mmpretrain')
    config = Config.fromfile(options.config)
    maps, labels, _ = read_maps(config, options.checkpoint, options.layer)
    tests = round(0.2 * len(labels))
    vectors = maps.flatten(2).transpose(1, 2)
    memory, queries = vectors[:-tests], vectors[-tests:]
    return memory.flatten(0, 1).float(), queries.flatten(0, 1).float()


def bank_of(blocks: Iterator[Tensor]) -> MemoryBank:
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Recall, build and query time of approximate engines'
    )
    parser.add_argument('config', nargs='?', help='of a memory')
    parser.add_argument('checkpoint', nargs='?')
    parser.add_argument('--layer', help='such as backbone.layer3')
    parser.add_argument(
        '--sizes', type=int, nargs='+', help='of the memory; default: all'
    )
    parser.add_argument('--factories', nargs='+', default=list(FACTORIES))
    parser.add_argument('--nprobe', type=int, nargs='+', default=[1, 4, 16])
    parser.add_argument('--channels', type=int, default=512, help='synthetic')
    parser.add_argument('--queries', type=int, default=1000)
    parser.add_argument('--k', type=int, default=10)
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument(
        '--most-hnsw', type=int, default=10**5, help='vectors of a graph'
    )
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    options = parser.parse_args()
    if options.config and not options.checkpoint:
        parser.error('CONFIG needs a CHECKPOINT')
    import faiss

    torch.set_num_threads(options.threads)
    faiss.omp_set_num_threads(options.threads)
    console, records = Console(), []
    if options.config:
        memory, queries = real(options)
        generator = torch.Generator().manual_seed(0)
        memory = memory[torch.randperm(len(memory), generator=generator)]
        order = torch.randperm(len(queries), generator=generator)
        queries = queries[order[: options.queries]]
    else:
        queries = torch.cat(
            list(synthetic(options.queries, options.channels, seed=1))
        )
    sizes = options.sizes or ([len(memory)] if options.config else [10**4])
    for size in sorted(sizes):
        if options.config:
            bank = bank_of(memory[:size].split(_BLOCK))
        else:
            bank = bank_of(synthetic(size, options.channels, seed=0))
        measured = measure(bank, queries, options)
        show(measured, options.k, console)
        records += measured
        if options.out:  # after every size: the next may take long
            write = new_file if records == measured else replaced_file
            with write(options.out) as part:
                part.write_text(json.dumps(records, indent=2))


if __name__ == '__main__':
    main()
