"""Queries a second and peak memory of the search engines, side by side.

Each engine and size runs in a process of its own, on the same seeded vectors
and the same number of threads; repetitions alternate within one run of this
command. The peak counts what the process holds beyond the vectors themselves,
in units of the vectors' bytes: an engine that copies the bank reads 1.
"""

import argparse
import json
import multiprocessing
import resource
import time
from typing import Callable, Dict, List

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from u1_plugin.files import new_file, new_path

ENGINES = ('exact', 'faiss:Flat', 'sklearn', 'cdist')
_BLOCK = 10_000  # vectors that are drawn and appended at a time


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _vectors(count: int, channels: int) -> torch.Tensor:
    """Unit vectors, so that cosine, inner product and L2 agree."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.empty(count, channels)
    for part in vectors.split(_BLOCK):
        part.normal_(generator=generator)
        part.div_(part.norm(dim=1, keepdim=True))
    return vectors


def _searcher(
    engine: str, vectors: torch.Tensor, k: int
) -> Callable[[torch.Tensor], np.ndarray]:
    if engine == 'sklearn':
        from sklearn.neighbors import NearestNeighbors

        model = NearestNeighbors(n_neighbors=k, algorithm='brute')
        model.fit(vectors.numpy())
        return lambda queries: model.kneighbors(queries.numpy())[1]
    if engine == 'cdist':
        return lambda queries: (
            torch.cdist(queries, vectors).topk(k, largest=False).indices.numpy()
        )
    from u1_plugin.memory import MemoryBank, Pixels, build_search

    bank = MemoryBank()
    for part in vectors.split(_BLOCK):
        zeros = torch.zeros(len(part), dtype=torch.long)
        places = torch.zeros(len(part), 2)
        bank.append(Pixels(part, zeros, zeros, places, places[:, 0]))
    search = build_search(bank, engine)
    return lambda queries: search.search(queries, k).indices.numpy()


def _measure(
    engine: str, count: int, options: argparse.Namespace, pipe
) -> None:
    torch.set_num_threads(options.threads)
    # Before memory is measured: libraries are no part of an engine's share.
    import sklearn.neighbors  # noqa: F401

    import u1_plugin  # noqa: F401

    try:
        import faiss

        faiss.omp_set_num_threads(options.threads)
    except ImportError:
        pass
    vectors = _vectors(count, options.channels)
    queries = _vectors(options.queries, options.channels) * 1.0
    held = _peak_bytes()
    search = _searcher(engine, vectors, options.k)
    search(queries[:2])  # what is loaded or prepared once
    rates = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        search(queries)
        rates.append(options.queries / (time.perf_counter() - start))
    extra = (_peak_bytes() - held) / (vectors.numel() * 4)
    pipe.send(dict(engine=engine, count=count, rates=rates, extra=extra))


def benchmark(options: argparse.Namespace) -> List[dict]:
    """One record an engine and size."""
    context = multiprocessing.get_context('spawn')
    records = []
    for count in options.sizes:
        for engine in options.engines:
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(
                target=_measure, args=(engine, count, options, sender)
            )
            process.start()
            sender.close()
            try:
                records.append(receiver.recv())
            except EOFError:  # killed, for want of memory
                nothing: Dict = dict(engine=engine, count=count)
                records.append(dict(nothing, rates=[], extra=float('nan')))
            process.join()
    return records


def show(records: List[dict], console: Console) -> None:
    table = Table('vectors', 'engine', 'queries/s (min..max)', 'ratio', 'extra')
    reference = {
        r['count']: np.median(r['rates'])
        for r in records
        if r['engine'] == 'faiss:Flat' and r['rates']
    }
    for r in records:
        if not r['rates']:
            table.add_row(f'{r["count"]:,}', r['engine'], 'failed', '', '')
            continue
        median = np.median(r['rates'])
        rates = f'{median:.1f} ({min(r["rates"]):.1f}..{max(r["rates"]):.1f})'
        ratio = ''
        if r['count'] in reference:
            ratio = f'{median / reference[r["count"]]:.2f}'
        table.add_row(
            f'{r["count"]:,}', r['engine'], rates, ratio, f'{r["extra"]:.2f}'
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description='Queries a second and peak memory of the search engines'
    )
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[10**4, 10**5, 10**6]
    )
    parser.add_argument('--engines', nargs='+', default=list(ENGINES))
    parser.add_argument('--channels', type=int, default=512)
    parser.add_argument('--queries', type=int, default=128)
    parser.add_argument('--k', type=int, default=10)
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=new_path, help='a new JSON file')
    options = parser.parse_args()
    records = benchmark(options)
    show(records, Console())
    if options.out:
        with new_file(options.out, '--out') as part:
            part.write_text(json.dumps(records, indent=2))


if __name__ == '__main__':
    main()
