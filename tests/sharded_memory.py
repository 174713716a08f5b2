"""Run by torchrun, and alone: answers of a memory to seeded queries.

Usage: ``python sharded_memory.py OUT``. Every rank holds its contiguous part
of the pixels and asks its part of the queries; rank 0 writes the answers of
all to OUT.
"""

import os
import sys

import torch
from mmengine.dist import get_dist_info

from u1_plugin.memory import (
    Bias,
    Memory,
    MemoryBank,
    Pixels,
    Queries,
    Sites,
    all_gather_rows,
    coreset,
)

PIXELS, QUERIES, CHANNELS = 301, 23, 12
CASES = {
    'cosine': dict(),
    'l2': dict(metric='l2'),
    'shuffled': dict(shuffle=3),
    'faiss': dict(engine='faiss:Flat'),
    'biased': dict(),
}


def part(count: int) -> slice:
    rank, world = get_dist_info()
    return slice(count * rank // world, count * (rank + 1) // world)


def pixels() -> Pixels:
    generator = torch.Generator().manual_seed(0)
    hues = torch.rand(PIXELS, generator=generator) * 6 - 3
    return Pixels(
        torch.rand(PIXELS, CHANNELS, generator=generator),
        torch.arange(PIXELS) % 7,
        torch.arange(PIXELS) // 4,
        torch.rand(PIXELS, 2, generator=generator) * 2 - 1,
        hues,
    )


def queries() -> Queries:
    generator = torch.Generator().manual_seed(1)
    return Queries(
        torch.rand(QUERIES, CHANNELS, generator=generator),
        torch.rand(QUERIES, 2, generator=generator) * 2 - 1,
        torch.rand(QUERIES, generator=generator) * 6 - 3,
    )


def answers(own: Pixels, asked: Queries, k: int) -> dict:
    bank = MemoryBank()
    if len(own.labels):
        bank.append(own)
    found = {}
    for name, options in CASES.items():
        bias = None
        if name == 'biased':
            here = Sites(*asked[1:])
            bias = Bias(here, here, 'image', 3.0, 0.5, 0.3)
        memory = Memory(bank, sharded=True, **options)
        matches = memory.search(asked, k, bias)
        found[name] = [torch.cat(all_gather_rows(f)) for f in matches]
    return found


def main() -> None:
    if 'RANK' in os.environ:
        # MMEngine's own start would bind each process to a GPU.
        torch.distributed.init_process_group('gloo')
    everything, asked = pixels(), queries()
    asked = Queries(*(f[part(QUERIES)] for f in asked))
    own = everything.select(part(PIXELS))
    found = answers(own, asked, 5)
    # A rank without a single pixel, and fewer pixels than neighbours.
    for name, count in (('one', 1), ('three', 3)):
        some = everything.select(slice(0, count))
        found[name] = answers(some.select(part(count)), asked, 5)['cosine']
    bank = MemoryBank()
    bank.append(own)
    index = coreset(bank, 0.1, width=8, sharded=True)
    found['coreset'] = [torch.cat(all_gather_rows(index + part(PIXELS).start))]
    if get_dist_info()[0] == 0:
        torch.save(found, sys.argv[1])
    if 'RANK' in os.environ:
        # A rank that ends while another still talks to it may abort.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == '__main__':
    main()
